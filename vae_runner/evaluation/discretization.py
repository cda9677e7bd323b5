"""Entropies and mutual information of codes and factors by counting, after the codes are put into bins.

Bins are of equal width, from the least to the largest value of a dimension, as in disentanglement_lib (Locatello et
al., 2019). Quantities are plug-in estimates, in nats: those of the distribution that has the observed frequencies.
"""

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.labelled_codes import varying


def in_bins(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin of each entry of `values [n, dimensions]`, from 0 to `bins − 1`; all in bin 0 where constant."""
    found = np.zeros(values.shape, np.int64)
    for j in np.flatnonzero(varying(values)):
        edges = np.linspace(values[:, j].min(), values[:, j].max(), bins + 1)
        found[:, j] = np.digitize(values[:, j], edges[1:-1])
    return found


def entropy(counts: NDArray[np.integer]) -> float:
    """Return the entropy of the distribution with such counts, of any shape, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log(p))) + 0.0


def mutual_information(
    codes: NDArray[np.int64], factors: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return I(z_j; v_k) of discrete codes and factors, and their biases, each `[latent, factors]`, in nats.

    The plug-in estimate is too large, for independent variables by about (bins − 1)(values − 1)/2n; the bias is
    estimated by Miller and Madow's (1955) from the numbers of values and of pairs that occur. It cancels in
    differences like MIG's, and not in a picture of the matrix.
    """
    information = np.zeros((codes.shape[1], factors.shape[1]))
    bias = np.zeros_like(information)
    numbered = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    for j, code in enumerate(codes.T):
        for k, factor in enumerate(numbered):
            shape = code.max() + 1, factor.max() + 1
            table = np.bincount(code * shape[1] + factor, minlength=shape[0] * shape[1]).reshape(shape)
            of_code, of_factor = table.sum(axis=1), table.sum(axis=0)
            information[j, k] = max(entropy(of_code) + entropy(of_factor) - entropy(table), 0)
            pairs, values, states = (np.count_nonzero(counts) for counts in (table, of_factor, of_code))
            bias[j, k] = (pairs - values - states + 1) / (2 * len(code))
    return information, bias
