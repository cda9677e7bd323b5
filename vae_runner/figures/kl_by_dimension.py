"""How many nats each latent dimension holds."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae_runner.errors import counted
from vae_runner.evaluation.structure import ACTIVE_VARIANCE

ACTIVE_KL = 0.005  # nats: of a well-fitted dimension it is that of the active units' variance, 0.01
FLOOR = 1e-5  # nats, where the logarithmic axis begins


def kl_by_dimension(kl: NDArray[np.floating], variance_of_means: NDArray[np.floating]) -> Figure:
    """Draw the mean KL divergence of each dimension, `[latent]`, in nats, the greatest first.

    Dimensions are counted from 1. Active ones, by the variance of their means, are coloured; a line is drawn at the KL
    that goes with the threshold of that. The axis is logarithmic, because unused dimensions lie decades below.
    """
    order = np.argsort(-kl, kind="stable")
    sorted_kl, active = np.asarray(kl, np.float64)[order], np.asarray(variance_of_means)[order] > ACTIVE_VARIANCE
    latent = len(sorted_kl)
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(1, latent + 1)
    for chosen, color, label in ((active, "tab:blue", "active"), (~active, "tab:gray", "unused")):
        if chosen.any():
            heights = np.maximum(sorted_kl[chosen], FLOOR) - FLOOR
            axes.bar(places[chosen], heights, 0.8, bottom=FLOOR, color=color, alpha=0.7, label=label)
    axes.axhline(ACTIVE_KL, color="black", linewidth=0.8, linestyle="--", label=f"{ACTIVE_KL} nats: unused below")
    axes.set_yscale("log")
    axes.set(xlabel="latent dimension, the greatest first", ylabel="mean KL (nats)", xlim=(0.4, latent + 0.6))
    axes.set_ylim(FLOOR, max(2 * sorted_kl[0], 2 * ACTIVE_KL))
    if latent <= 20:
        axes.set_xticks(places, [str(number + 1) for number in order])
        axes.set_xlabel("latent dimension")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="y", alpha=0.2, linewidth=0.5)
    title = (
        f"active: {np.count_nonzero(active)} of {counted(latent, 'dimension')}; KL {sorted_kl.sum():.2f} nats in all"
    )
    figure.suptitle(title, fontsize=10)
    return figure
