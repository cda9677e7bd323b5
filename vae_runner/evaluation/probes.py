"""Probes: how well labels can be told from embeddings, by classifiers fitted to training images' embeddings.

The accuracy on test images' embeddings is compared with that of the majority class, of the pixels, and of as many
principal components as the latent space has dimensions: a VAE below these has lost what tells the classes apart. Linear
probes are those of Alain and Bengio (2016). disentanglement_lib's probe of single factors differs: it chooses the
strength of regularisation by cross-validation, and does not standardise.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError

Codes = NDArray[np.floating] | NDArray[np.integer]  # [n, latent], or pixels, flattened
Labels = NDArray[np.integer]  # [n]

HIDDEN_UNITS = 256
NEIGHBOURS = 5
MAX_STEPS = 100  # of L-BFGS


def linear_probe(train: Codes, train_labels: Labels, test: Codes, test_labels: Labels) -> float:
    """Return the test accuracy of a multinomial logistic regression on standardised codes, with C = 1.

    C = 1 penalises ½‖w‖² beside the sum of the training images' losses. L-BFGS stops after 100 steps, scikit-learn's
    number. Embeddings have then converged, but not hundreds of pixels: stopped early they do a little better (0.81 of
    10,000 Fashion-MNIST images, and 0.80 when converged).

    Raises:
        UserError: one class, no image, or codes that are constant or not finite.
    """
    from sklearn.linear_model import LogisticRegression

    train, test = _standardised(train, train_labels, test, test_labels)
    with _one_thread_without_warnings():
        model = LogisticRegression(C=1.0, max_iter=MAX_STEPS).fit(train, train_labels)
        return float(model.score(test, test_labels))


def mlp_probe(train: Codes, train_labels: Labels, test: Codes, test_labels: Labels, *, seed: int = 0) -> float:
    """Return the test accuracy of a network of one layer of 256 ReLUs on standardised codes.

    It is scikit-learn's, with its defaults: Adam of learning rate 1e-3, batches of 200, L2 of 1e-4, until ten epochs
    bring no more than 1e-4 of training loss, or for 200 epochs.

    Raises:
        UserError: one class, no image, or codes that are constant or not finite.
    """
    from sklearn.neural_network import MLPClassifier

    train, test = _standardised(train, train_labels, test, test_labels)
    with _one_thread_without_warnings():
        model = MLPClassifier((HIDDEN_UNITS,), random_state=seed).fit(train, train_labels)
        return float(model.score(test, test_labels))


def knn_probe(train: Codes, train_labels: Labels, test: Codes, test_labels: Labels, *, k: int = NEIGHBOURS) -> float:
    """Return the test accuracy of the majority of the `k` nearest training codes, by Euclidean distance.

    Codes are taken as they are: a dimension that varies little tells little. Of equally frequent classes, the first is
    taken.

    Raises:
        UserError: fewer training images than `k`, one class, no test image, or codes that are constant or not finite.
    """
    from sklearn.neighbors import KNeighborsClassifier

    _check(train, train_labels, test, test_labels)
    if len(train) < k:
        raise UserError(f"{k} nearest neighbours cannot be found among {len(train)} training images: take more images")
    # scikit-learn's search that needs little memory is for floats.
    model = KNeighborsClassifier(k, algorithm="brute").fit(_floats(train), train_labels)
    return float(model.score(_floats(test), test_labels))


def accuracy_error(accuracy: float, images: int) -> float:
    """Return the standard error of an accuracy on so many images: √(p (1 − p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def majority_class(train_labels: Labels, test_labels: Labels) -> float:
    """Return the share of test images which are of the training images' most frequent class.

    Raises:
        UserError: there are no images.
    """
    if not len(train_labels) or not len(test_labels):
        raise UserError("there is no majority class without training and test images: take more images")
    values, counts = np.unique(train_labels, return_counts=True)
    return float(np.mean(test_labels == values[counts.argmax()]))


def principal_components(train: Codes, test: Codes, size: int) -> tuple[Codes, Codes]:
    """Return the first `size` principal components of training and test images, by those of the training images.

    Raises:
        UserError: there are fewer images or pixels than components, or values that are not finite.
    """
    from sklearn.decomposition import PCA

    possible = min(train.shape)
    if not 1 <= size <= possible:
        raise UserError(
            f"{len(train):,} images of {train.shape[1]:,} values have no {size:,} principal components: take at most "
            f"{possible:,}"
        )
    for what, values in (("training images", train), ("test images", test)):
        _check_finite(what, values)
    model = PCA(size, random_state=0).fit(train)
    return model.transform(train), model.transform(test)


def _standardised(train: Codes, train_labels: Labels, test: Codes, test_labels: Labels) -> tuple[Codes, Codes]:
    _check(train, train_labels, test, test_labels)
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    # The deviation of a constant dimension, which is made zero, may be off zero by rounding.
    constant = train.max(axis=0) == train.min(axis=0)
    scale[constant] = np.inf
    return ((train - mean) / scale).astype(np.float32), ((test - mean) / scale).astype(np.float32)


def _floats(codes: Codes) -> Codes:
    return codes if codes.dtype in (np.float32, np.float64) else codes.astype(np.float32)


@contextmanager
def _one_thread_without_warnings() -> Iterator[None]:
    """Fit in one thread: for matrices this small, threads wait for each other ten times longer than they work.

    Fits that have not converged are no news either.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _check(train: Codes, train_labels: Labels, test: Codes, test_labels: Labels) -> None:
    for what, codes, labels in (("training", train, train_labels), ("test", test, test_labels)):
        if codes.ndim != 2 or len(codes) != len(labels):
            raise UserError(
                f"the {what} codes are of shape {codes.shape} and there are {len(labels)} labels: a probe needs "
                "[images, latent], and a label for each"
            )
        if not codes.size:
            raise UserError(f"there are no {what} codes, so there is no accuracy of a probe: take more images")
        _check_finite(f"{what} codes", codes)
    if train.shape[1] != test.shape[1]:
        raise UserError(
            f"training codes have {train.shape[1]} dimensions and test codes {test.shape[1]}: take the same"
        )
    if (train_labels == train_labels[0]).all():
        raise UserError("all training images are of one class, so that a probe has nothing to tell apart: take more")
    if (train == train[0]).all():
        raise UserError(
            "all training images have the same code, so that a probe would give the majority class: the model has "
            "collapsed"
        )


def _check_finite(what: str, values: Codes) -> None:
    if not np.isfinite(values).all():
        raise UserError(
            f"the {what} have values that are not finite (NaN or infinity), so that no probe can be fitted: "
            "see whether the model's weights are finite"
        )
