"""Distances between many points, in blocks: memory does not grow with the square of their number.

Squared distances are |a|² + |b|² − 2a·b in float64, about the centre of the points. What is equal in exact arithmetic
may then differ by rounding, so comparisons allow for `rounding(…)`: else a copy would not be at distance zero, and a
number could depend on the size of the blocks.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError

Points = NDArray[np.floating] | NDArray[np.integer]  # [n, …]: features [n, d], or images; a row is flattened
Block = tuple[slice, slice, NDArray[np.float64]]  # rows, columns, and their squared distances

BLOCK_BYTES = 8 << 20  # of a block of points, and of a block of distances: both stay in a processor's cache
MAX_BLOCK = 1024  # points
RELATIVE_ROUNDING = 1e-12  # of the largest squared norm: a thousand times what float64 loses, far below what is seen


def squared_distances(a: Points, b: Points) -> Iterator[Block]:
    """Yield blocks of the squared Euclidean distances of all `a` from all `b`; of `a` from itself, the same blocks."""
    centre = _centre(b)
    size = max(1, min(MAX_BLOCK, BLOCK_BYTES // (8 * centre.size)))
    for rows in _slices(len(a), size):
        left = _centred(a[rows], centre)
        left_norms = np.einsum("nd,nd->n", left, left)
        for columns in _slices(len(b), size):
            right = _centred(b[columns], centre)
            right_norms = np.einsum("nd,nd->n", right, right)
            squares = left_norms[:, None] + right_norms - 2 * (left @ right.T)
            yield rows, columns, np.maximum(squares, 0)


def rounding(a: Points, b: Points) -> float:
    """Return by how much squared distances of `a` and `b` may differ and yet count as equal."""
    centre = _centre(b)
    size = max(1, BLOCK_BYTES // (8 * centre.size))
    norms = [
        np.square(_centred(of[rows], centre)).sum(axis=1).max() for of in (a, b) for rows in _slices(len(of), size)
    ]
    return RELATIVE_ROUNDING * float(max(norms))


def nearest(queries: Points, points: Points) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return for each query the squared distance of the nearest point, and that point's index: both `[queries]`."""
    squares = np.full(len(queries), np.inf)
    indices = np.zeros(len(queries), np.intp)
    for rows, columns, block in squared_distances(queries, points):
        best = block.argmin(axis=1)
        found = block[np.arange(len(block)), best]
        closer = found < squares[rows]
        squares[rows] = np.where(closer, found, squares[rows])
        indices[rows] = np.where(closer, best + columns.start, indices[rows])
    return squares, indices


def to_nearest_others(points: Points, count: int) -> NDArray[np.float64]:
    """Return the squared distances of each point from its `count` nearest other points, ascending, `[n, count]`."""
    squares = np.full((len(points), count), np.inf)
    for rows, columns, block in squared_distances(points, points):
        if rows == columns:
            np.fill_diagonal(block, np.inf)
        both = np.concatenate([squares[rows], block], axis=1)
        squares[rows] = np.partition(both, count - 1, axis=1)[:, :count]
    return np.sort(squares, axis=1)


def check_points(what: str, points: Points, least: int, reason: str) -> None:
    """Refuse points of which no distance can be told.

    Raises:
        UserError: there are fewer than `least`, for this `reason`, or values that are not finite.
    """
    if len(points) < least:
        raise UserError(f"there are {len(points):,} {what}, and {reason} needs at least {least:,}: take more images")
    if not np.isfinite(points).all():
        raise UserError(
            f"the {what} have values that are not finite (NaN or infinity), so {reason} has no value: see whether "
            "the model's weights or the feature space's are finite"
        )


def check_features(samples: Points, reference: Points, least: int, reason: str) -> None:
    """Refuse features `[n, d]` of samples and of real images which cannot be compared.

    Raises:
        UserError: too few, not finite, of other dimensions than the other ones, or real ones that are all the same.
    """
    for what, features in (("features of samples", samples), ("features of real images", reference)):
        if features.ndim != 2 or features.shape[1] == 0:
            raise UserError(f"the {what} are of shape {features.shape}, and {reason} needs [images, features]")
        check_points(what, features, least, reason)
    if samples.shape[1] != reference.shape[1]:
        raise UserError(
            f"the samples have {samples.shape[1]} features and the real images {reference.shape[1]}: take both from "
            "one feature space"
        )
    if (reference == reference[0]).all():
        raise UserError(
            f"all real images have the same features, so {reason} tells nothing: take another feature space"
        )


def _centre(points: Points) -> NDArray[np.float64]:
    return points.mean(axis=0, dtype=np.float64).ravel()


def _centred(points: Points, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    return points.reshape(len(points), -1) - centre


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
