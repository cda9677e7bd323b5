"""How often codes are taken."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.distributions.codes import perplexity
from vae_runner.evaluation.codes import code_frequencies
from vae_runner.figures.trained import Trained


def code_usage(trained: Trained) -> Figure | None:
    """Draw the frequency of each code among the test embeddings, the most frequent first; None where z is no code."""
    frequencies = code_frequencies(trained.autoencoder, trained.posterior)
    if frequencies is None:
        return None
    codes, used = len(frequencies), np.count_nonzero(frequencies)
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.add_subplot()
    ranks = np.arange(1, codes + 1)
    axes.fill_between(ranks, np.sort(frequencies)[::-1], step="mid", color="tab:blue", alpha=0.6, linewidth=0)
    axes.axhline(1 / codes, color="black", linewidth=0.8, linestyle="--", label=f"all equally often: 1/{codes:,}")
    axes.set(xlabel="code, the most frequent first", ylabel="part of all positions", xlim=(0.5, codes + 0.5))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.2, linewidth=0.5)
    use = f"{used:,} of {codes:,} codes are taken, perplexity {perplexity(frequencies):,.1f}"
    figure.suptitle(f"Codes of {len(trained.embedded):,} test images: {use}", fontsize=10)
    return figure
