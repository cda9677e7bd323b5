"""How fast images reach the training step: `python -m benchmarks.data`.

A folder of PNGs (500×500 with transparency, made here, or your own with `--folder`) is prepared once and then read by
every run; Keras's `image_dataset_from_directory` decodes it anew in every epoch. Both hand 256×256 batches of 128 to a
compiled function that does no more than touch each pixel. Beside the speed stands the processor time, of all cores
together, which means something on a machine with other work too. Then: the memory a process has for itself after
reading from 2,000 and from 20,000 prepared images, and how long a real training step at 256×256 waits for its images.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.rounds import Contestant, Figures, interleave, python, ratios, show, spread, values

SIDE, CHANNELS, BATCH = 256, 3, 128  # as conf/dataset/cartoon.yaml has it
FACES = 1_000
STORED = (2_000, 20_000)
STORED_BATCHES = 100
WAITING_STEPS = 22  # many more than are read ahead
WAITING = {  # by the size of a batch. The second network is small: one whose step takes longer waits for less
    BATCH: ("dataset=cartoon", "latent=200"),
    8: ("dataset=cartoon", "method=kl_autoencoder", "model.widths=[8,16,32,32]", "loss.adversarial_from=0"),
}


def main() -> None:
    """Measure in rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure each (5)")
    parser.add_argument("--folder", type=Path, help="a folder of images, instead of made ones")
    parser.add_argument("--work", type=Path, help="where to put files meanwhile (a temporary folder)")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)  # a process of ours
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASUREMENTS[arguments.measure](arguments.folder, arguments.work)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        work = Path(name)
        make_stored(work)
        folder = arguments.folder or make_faces(work / "faces")
        contestants = [
            Contestant(m, python("benchmarks.data", "--measure", m, "--folder", folder, "--work", work))
            for m in MEASUREMENTS
        ]
        tables(interleave(contestants, arguments.rounds), arguments.rounds)


def tables(results: dict[str, list[Figures]], rounds: int) -> None:
    """Print what was measured."""
    speed = {name: values(results, name, "images_per_second") for name in ("prepared", "keras", "prepare")}
    work = {name: values(results, name, "processor_ms") for name in speed}
    show(
        f"Images/s at {SIDE}×{SIDE}, median of {rounds} rounds (lowest–highest)",
        ["what", "images/s", "of image_dataset_from_directory", "processor ms an image", "by processor time"],
        [
            [
                TITLES[name],
                spread(speed[name], ",.0f"),
                f"{spread(ratios(speed[name], speed['keras']))} ×",
                spread(work[name]),
                f"{spread(ratios(work['keras'], work[name]))} ×",
            ]
            for name in speed
        ],
    )
    private = {n: values(results, f"private_{n}", "megabytes") for n in STORED}
    show(
        f"Memory private to the process after {STORED_BATCHES} batches, MB",
        ["prepared images", "MB"],
        [[f"{n:,}", spread(private[n], ".0f")] for n in STORED],
    )
    show(
        f"Training at {SIDE}×{SIDE}",
        ["vae-run", "step, s", "share of it spent waiting for images, %"],
        [
            [
                f"`{' '.join(keys)} batch_size={batch_size}`",
                spread(values(results, f"waiting_{batch_size}", "step_seconds")),
                spread([100 * share for share in values(results, f"waiting_{batch_size}", "share")], ".3f"),
            ]
            for batch_size, keys in WAITING.items()
        ],
    )


# --- what is read ---------------------------------------------------------------------------------------------------


def make_faces(folder: Path) -> Path:
    """Draw a thousand PNGs like the Cartoon Set's and return their folder.

    Each has 500×500 RGBA pixels, large areas of one colour, smooth edges and shades.
    """
    (folder / "all").mkdir(parents=True)

    def draw(number: int) -> None:
        random = np.random.default_rng(number)
        big = Image.new("RGBA", (1000, 1000), (0, 0, 0, 0))
        pen = ImageDraw.Draw(big)
        for _ in range(24):
            x, y = random.integers(100, 700, 2).tolist()
            width, height = random.integers(40, 500, 2).tolist()
            pen.ellipse((x, y, x + width, y + height), fill=(*random.integers(0, 256, 3).tolist(), 255))
        pixels = np.asarray(big.resize((500, 500), Image.Resampling.LANCZOS)).copy()
        shade = (np.linspace(0, 40, 500) * random.random()).astype(np.uint8)
        pixels[..., :3] -= np.minimum(pixels[..., :3], shade[:, np.newaxis, np.newaxis])
        Image.fromarray(pixels).save(folder / "all" / f"{number:05d}.png")

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(FACES)))
    return folder


def make_stored(work: Path) -> None:
    """Write the larger of the stored arrays; the smaller one is its beginning.

    Raises:
        SystemExit: the disk has too little room.
    """
    size = max(STORED) * SIDE * SIDE * CHANNELS
    if shutil.disk_usage(work).free < 1.2 * size:
        sys.exit(f"benchmarks.data: {work} needs {size / 1e9:.1f} GB: give another folder with --work")
    block = np.random.default_rng(0).integers(0, 256, (100, SIDE, SIDE, CHANNELS), np.uint8)
    with (work / "stored.u8").open("wb") as file:
        for _ in range(max(STORED) // 100):
            file.write(block.data)


# --- what is measured, each in a process of its own -----------------------------------------------------------------


def prepare(folder: Path, work: Path) -> Figures:
    """Measure one preparation of every image: decoding, compositing, resizing and writing."""
    from vae_runner.datasets import folder as source

    fresh = tempfile.mkdtemp(dir=work)
    start, worked = time.perf_counter(), time.process_time()
    dataset = source.load(root=str(folder), data_dir=fresh, image_size=SIDE, channels=CHANNELS)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    shutil.rmtree(fresh)
    count = len(dataset.train) + len(dataset.test)
    return {"images_per_second": count / seconds, "processor_ms": 1000 * worked / count}


def prepared(folder: Path, work: Path) -> Figures:
    """Measure an epoch over the prepared folder, after a first one."""
    import tensorflow as tf

    from vae_runner.datasets import folder as source
    from vae_runner.datasets.pipeline import Batches

    dataset = source.load(root=str(folder), data_dir=str(work / "data"), image_size=SIDE, channels=CHANNELS)
    batches = Batches(dataset.train.images, BATCH, seed=0)

    @tf.function
    def touch(shares: object) -> tf.Tensor:
        total = 0.0
        for _ in tf.range(batches.steps):
            total += tf.reduce_sum(tf.cast(batches.images(next(shares)), tf.float32))
        return total

    shares = batches.shares()
    return _epochs(lambda _: touch(shares).numpy(), batches.count)


def keras(folder: Path, work: Path) -> Figures:
    """Measure an epoch of `image_dataset_from_directory`, used as its documentation shows, after a first one."""
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False
    )
    count = len(dataset.file_paths)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)

    @tf.function
    def touch(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(images)

    def epoch(_: int) -> None:
        for images in dataset:
            total = touch(images)
        total.numpy()

    return _epochs(epoch, count)


def private(count: int) -> Callable[[Path, Path], Figures]:
    """Return a measurement of the memory this process shares with no other, in MiB.

    It is read from `/proc`, after batches of `count` prepared images were read in an epoch's order.
    """

    def measure(folder: Path, work: Path) -> Figures:
        from vae_runner.datasets.io.stored import StoredImages
        from vae_runner.datasets.pipeline import Batches

        batches = Batches(StoredImages(work / "stored.u8", (count, SIDE, SIDE, CHANNELS)), BATCH, seed=0)
        read = 0
        while read < STORED_BATCHES:
            for share in islice(batches.shares(read), batches.steps):
                batches.images(share)
                read += 1
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        return {"megabytes": kilobytes / 1024}

    return measure


def waiting(batch_size: int, overrides: Sequence[str]) -> Callable[[Path, Path], Figures]:
    """Return what measures the share of training time that is spent waiting for the next batch.

    The training step of `vae-run` is timed. Each batch is requested before its step and outside of it; the time until
    it arrives is the wait. A batch that has been read ahead arrives at once.
    """

    def measure(folder: Path, work: Path) -> Figures:
        import tensorflow as tf

        from benchmarks.peers import Setting, ours
        from vae_runner.datasets.io.stored import StoredImages

        stored = StoredImages(work / "stored.u8", (WAITING_STEPS * batch_size, SIDE, SIDE, CHANNELS))
        train, inner, _ = ours.prepare(stored, Setting(batch_size), overrides)
        train_step = tf.function(lambda share, step: inner._train_step(train, share, step), autograph=False)
        shares = train.shares()
        waited = start = 0.0
        for step in range(WAITING_STEPS):
            if step == 2:  # everything has been traced and allocated
                waited, start = 0.0, time.perf_counter()
            asked = time.perf_counter()
            share = next(shares)
            waited += time.perf_counter() - asked
            train_step(share, tf.constant(step, tf.int64)).numpy()
        seconds = time.perf_counter() - start
        return {"share": waited / seconds, "step_seconds": seconds / (WAITING_STEPS - 2)}

    return measure


def _epochs(epoch: Callable[[int], object], count: int) -> Figures:
    epoch(0)
    seconds, work = [], []
    for number in range(1, 4):
        start, worked = time.perf_counter(), time.process_time()
        epoch(number)
        seconds.append(time.perf_counter() - start)
        work.append(time.process_time() - worked)
    return {
        "images_per_second": count / statistics.median(seconds),
        "processor_ms": 1000 * statistics.median(work) / count,
    }


MEASUREMENTS: dict[str, Callable[[Path, Path], Figures]] = {
    "prepared": prepared,
    "keras": keras,
    "prepare": prepare,
    **{f"private_{count}": private(count) for count in STORED},
    **{f"waiting_{batch_size}": waiting(batch_size, keys) for batch_size, keys in WAITING.items()},
}
TITLES = {
    "prepared": "a later run, from the prepared folder",
    "keras": "`image_dataset_from_directory`, an epoch",
    "prepare": "preparing the folder, once",
}


if __name__ == "__main__":
    main()
