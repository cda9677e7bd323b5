"""Whether samples are copies of training images: the share that is closer to the training set than to a test set.

Both sets have as many images, so that of samples of the distribution of either, half are closer to the training set.
A sample is closer to the training set where the image nearest to it, of both sets, is a training image. Without
memorisation each image could as well be of the other set, so that the variance of the share is ¼ Σ c²/m², where c is
how many of the m samples an image is the nearest of. For samples that are all different that is nearly ¼/m: a share of
0.54 of 1,000 samples may mean that every tenth is a copy. Where all lie near a few images, as those of a 2-D latent
space do, it is much larger. Lower shares mean nothing. Distances are Euclidean, of pixels or of features.

The published C_T (Meehan et al., 2020) and AuthPct (Alaa et al., 2022) are not here: samples which only lie nearer to
the middle than real images, as those of a blurry VAE do, are "copied" by both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.evaluation.distances import Points, check_points, nearest, rounding


@dataclass(frozen=True)
class Memorization:
    """How many samples are closer to training images than to unseen ones."""

    share: float  # of samples; where both are equally far, a half. 0.5 without memorisation, 1 for copies
    null_standard_error: float  # of the share, without memorisation
    images: int  # of either set


@dataclass(frozen=True)
class NearestImages:
    """The samples which are closest to a training image, the closest first."""

    samples: NDArray[np.intp]  # indices, [count]
    training_images: NDArray[np.intp]  # index of the nearest one of each, [count]
    distances: NDArray[np.float64]  # Euclidean, [count]


def memorization(samples: Points, train: Points, test: Points, *, seed: int = 0) -> Memorization:
    """Return the share of samples closer to a training image than to a test image.

    Points are `[n, …]`, all of one shape. Of the larger set, as many as the smaller one has are taken, by `seed`:
    copies of training images that are left out are not seen.

    Raises:
        UserError: a set is empty, not finite, or of another shape than the samples.
    """
    _check(samples, training_images=train, test_images=test)
    images = min(len(train), len(test))
    train, test = (_some(of, images, seed) for of in (train, test))
    (to_train, of_train), (to_test, of_test) = nearest(samples, train), nearest(samples, test)
    equal = np.abs(to_train - to_test) <= max(rounding(samples, train), rounding(samples, test))
    share = float(np.where(equal, 0.5, to_train < to_test).mean())
    # Which set an image is of is decided by a toss, for all samples that it is the nearest one of.
    chosen = np.where(to_train < to_test, of_train, images + of_test)
    counts = np.bincount(chosen, minlength=2 * images)
    return Memorization(share, 0.5 * float(np.sqrt(np.sum(np.square(counts)))) / len(samples), images)


def closest_to_training(samples: Points, train: Points, count: int = 8) -> NearestImages:
    """Return the `count` samples that are closest to a training image, with these images; fewer if there are fewer.

    Raises:
        UserError: a set is empty, not finite, or of another shape than the other.
    """
    _check(samples, training_images=train)
    squares, indices = nearest(samples, train)
    chosen = np.argsort(squares, kind="stable")[:count]
    return NearestImages(chosen, indices[chosen], np.sqrt(squares[chosen]))


def _check(samples: Points, **others: Points) -> None:
    for name, points in {"samples": samples, **others}.items():
        check_points(name.replace("_", " "), points, 1, "a nearest image")
        if points.shape[1:] != samples.shape[1:]:
            raise UserError(
                f"the samples are of shape {samples.shape[1:]} and the {name.replace('_', ' ')} of {points.shape[1:]}: "
                "both must be pixels, or features of one feature space"
            )


def _some(points: Points, count: int, seed: int) -> Points:
    if len(points) == count:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), count, replace=False))]
