"""DCI: disentanglement, completeness and informativeness (Eastwood and Williams, 2018).

A predictor of each factor v_k from the code says how important each dimension z_j is to it: R_jk. With rows and columns
of R as distributions,

    D_j = 1 − H_K(R_j· / Σ_k R_jk)    D = Σ_j D_j Σ_k R_jk / ΣR    is z_j important to one factor only?
    C_k = 1 − H_L(R_·k / Σ_j R_jk)    C = Σ_k C_k Σ_j R_jk / ΣR    does one dimension suffice for v_k?

with logarithms to the base K, the number of factors, and L, that of dimensions; I is the predictors' accuracy on test
images. Predictors are gradient-boosted trees with scikit-learn's defaults (100 trees of depth 3 for each value), as in
disentanglement_lib. The predictor decides the score: for one noisy code, trees give D = 0.43, a random forest 0.19, a
lasso 1.00, and a lasso on noise 0.51. So does the number of images (0.43 with 1,000, 0.61 with 10,000). Compare only
what was computed in the same way, and never without I: at chance, D means nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.labelled_codes import Codes, Factors, Split, checked, split
from vae_runner.runtime.environment import threads

EPSILON = 1e-11  # added to an importance, so that a row of zeros is the uniform distribution


@dataclass(frozen=True)
class DCI:
    """The three scores, and the matrix they are of."""

    disentanglement: float  # in [0, 1]
    completeness: float  # in [0, 1]
    informativeness: float  # accuracy on test images, mean over factors
    informativeness_train: float  # accuracy on the training images
    chance: float  # accuracy on test images of always guessing the most frequent value, mean over factors
    importance: NDArray[np.float64]  # R, [latent, factors]; each column sums to 1
    accuracy: NDArray[np.float64]  # on test images, [factors]
    train: int  # images
    test: int  # images


def dci(
    codes: Codes, factors: Factors, *, train: int = 2_000, test: int = 1_000, seed: int = 0, jobs: int | None = None
) -> DCI:
    """Return DCI of codes `[n, latent]` for integer factors `[n, factors]`, several factors (`jobs`) at a time.

    The result does not depend on `jobs`; None is as many as this process has threads. Time grows with the training
    images, dimensions and values of all factors: dSprites' factors and 10 dimensions take about a minute of one core.

    Raises:
        UserError: for one dimension or factor only, codes or a factor that do not vary, or values not finite.
    """
    parts = split(*checked(codes, factors, dimensions=2, factor_count=2), train, test, seed)
    kinds = [len(np.unique(column)) for column in parts.train_factors.T]
    stop = Event()
    with ThreadPoolExecutor(jobs or threads()) as pool:
        try:
            # The factors of the most values take longest, and begin first.
            futures = {k: pool.submit(_fit, parts, k, seed, stop) for k in np.argsort(kinds)[::-1]}
            results = [futures[k].result() for k in range(len(kinds))]
        finally:
            stop.set()  # After a Ctrl-C, which the pool would delay until all is fitted.
    importance, train_accuracy, accuracy, chance = zip(*results, strict=True)
    matrix = np.stack(importance, axis=1)
    return DCI(
        disentanglement(matrix), completeness(matrix), float(np.mean(accuracy)), float(np.mean(train_accuracy)),
        float(np.mean(chance)), matrix, np.array(accuracy), len(parts.train_codes), len(parts.test_codes),
    )  # fmt: skip


def disentanglement_per_dimension(importance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return D_j of an importance matrix `[latent, factors]`: `[latent]`, in [0, 1]."""
    p = importance + EPSILON
    p = p / p.sum(axis=1, keepdims=True)
    return 1 + np.sum(p * np.log(p), axis=1) / np.log(importance.shape[1])


def disentanglement(importance: NDArray[np.floating]) -> float:
    """Return D of an importance matrix `[latent, factors]`, in [0, 1]; 0 where nothing is important."""
    weights = importance.sum(axis=1)
    total = float(weights.sum())
    return float(disentanglement_per_dimension(importance) @ weights) / total if total else 0.0


def completeness(importance: NDArray[np.floating]) -> float:
    """Return C of an importance matrix `[latent, factors]`, in [0, 1]; 0 where nothing is important."""
    return disentanglement(importance.T)


def _fit(parts: Split, factor: int, seed: int, stop: Event) -> tuple[NDArray[np.float64], float, float, float]:
    """Return a factor's importances `[latent]`, its accuracy on training and test images, and that of guessing.

    Fits no further trees once `stop` is set.
    """
    from sklearn.ensemble import GradientBoostingClassifier  # takes a second to import

    values, test_values = parts.train_factors[:, factor], parts.test_factors[:, factor]
    model = GradientBoostingClassifier(random_state=seed)
    model.fit(parts.train_codes, values, monitor=lambda *_: stop.is_set())
    most_frequent = np.bincount(np.unique(values, return_inverse=True)[1]).argmax()
    return (
        np.abs(model.feature_importances_),
        float(np.mean(model.predict(parts.train_codes) == values)),
        float(np.mean(model.predict(parts.test_codes) == test_values)),
        float(np.mean(test_values == np.unique(values)[most_frequent])),
    )
