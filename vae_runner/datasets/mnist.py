"""MNIST: 70,000 handwritten digits, 28×28 grey, 10 classes (LeCun, Cortes and Burges, 1998)."""

from vae_runner.datasets.io.idx import IdxDataset, IdxFile

LABEL_NAMES = [str(digit) for digit in range(10)]
FILES = {
    "train_images": IdxFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": IdxFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "test_images": IdxFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "test_labels": IdxFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
load = IdxDataset("mnist", FILES, LABEL_NAMES).load
