"""SAP, separated attribute predictability (Kumar et al., 2018, DIP-VAE), by two predictors: two metrics.

SAP = mean over factors of (S_(1)k − S_(2)k), S_jk being how well factor v_k is predicted from dimension z_j alone:

- `sap_svm`: accuracy on test images of a linear support vector machine (C = 0.01, balanced classes), as in
  disentanglement_lib's study. A linear rule on one number only finds the ends of an ordered factor: a factor of 32
  to 40 values adds 0.02 to 0.03 however good the code is. A perfect code of dSprites has 0.25.
- `sap_r2`: the squared correlation, for factors whose values are ordered, as in DIP-VAE and InfoGAN-CR. A perfect
  linear code has 1.

Numbers of one are not to be compared with numbers of the other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.labelled_codes import Codes, Factors, checked, sample, split, varying


@dataclass(frozen=True)
class SAP:
    """The score, and what it is made of."""

    score: float  # in [0, 1]
    per_factor: NDArray[np.float64]  # [factors]
    predictability: NDArray[np.float64]  # S, [latent, factors]


def sap_svm(codes: Codes, factors: Factors, *, train: int = 10_000, test: int = 5_000, seed: int = 0) -> SAP:
    """Return SAP by support vector machines of codes `[n, latent]` for integer factors `[n, factors]`.

    Raises:
        UserError: for one dimension only, codes or a factor that do not vary, or values that are not finite.
    """
    from sklearn.svm import LinearSVC  # takes a second to import

    parts = split(*checked(codes, factors, dimensions=2), train, test, seed)

    def accuracy(j: int, k: int) -> float:
        machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        machine.fit(parts.train_codes[:, [j]], parts.train_factors[:, k])
        return float(np.mean(machine.predict(parts.test_codes[:, [j]]) == parts.test_factors[:, k]))

    return _sap(np.array([[accuracy(j, k) for k in range(factors.shape[1])] for j in range(codes.shape[1])]))


def sap_r2(codes: Codes, factors: Factors, *, images: int = 10_000, seed: int = 0) -> SAP:
    """Return SAP by squared correlation of codes `[n, latent]` for ordered integer factors `[n, factors]`.

    A constant dimension predicts nothing: 0.

    Raises:
        UserError: for one dimension only, codes or a factor that do not vary, or values that are not finite.
    """
    codes, factors = sample(*checked(codes, factors, dimensions=2), images, seed)
    z, v = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    z /= np.where(varying(codes), np.linalg.norm(z, axis=0), np.inf)
    return _sap((z.T @ (v / np.linalg.norm(v, axis=0))) ** 2)


def _sap(predictability: NDArray[np.float64]) -> SAP:
    second, best = np.sort(predictability, axis=0)[-2:]
    return SAP(float((best - second).mean()), best - second, predictability)
