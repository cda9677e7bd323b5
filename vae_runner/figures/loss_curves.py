"""The loss and its terms over the epochs."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_runner.figures.labels import plain_text
from vae_runner.figures.trained import Trained

SPLITS = {"train": "tab:blue", "validation": "tab:green", "test": "tab:orange"}
LONGEST_TITLE = 32  # letters above a panel


def loss_curves(trained: Trained) -> Figure:
    """Draw loss and terms over the epochs, each in its own panel, on training, validation and test images."""
    history = trained.history
    names = [key.removeprefix("test/") for key in history[0] if key.startswith("test/")]
    figure = Figure(figsize=(4 * len(names) + 0.4, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for split, colour in SPLITS.items():
            key = f"{split}/{name}"
            if key in history[0]:
                values = [row[key] for row in history]
                axes.plot([row["epoch"] for row in history], values, marker=".", color=colour, label=split)
        axes.set(title=plain_text(name, LONGEST_TITLE), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
