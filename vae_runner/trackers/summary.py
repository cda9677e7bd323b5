"""What a person sees before training: the data, the networks, their cost, the device."""

import logging
import math
from collections.abc import Mapping, Sequence

from rich.table import Table

from vae_runner.datasets.dataset import Dataset
from vae_runner.errors import counted
from vae_runner.files.untrusted import JsonObject
from vae_runner.losses.base import Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.summary import LayerSummary, summarize, training_flops
from vae_runner.runtime.console import console, plain
from vae_runner.trackers.meaning import effective_kl_weight_after, meaning

log = logging.getLogger(__name__)


def show_summary(
    autoencoder: Autoencoder, loss: Loss, dataset: Dataset, batch_size: int, machine: JsonObject, *, layers: bool
) -> None:
    """Log the sizes of everything and what the loss means, and with `layers` print both networks layer by layer."""
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    classes = f", {counted(len(dataset.label_names), 'class')}" if dataset.label_names else ""
    binary = f", binarize={dataset.binarize}" if dataset.binarize != "none" else ""
    changes = {name: value for name, value in vars(dataset.augment).items() if value} if dataset.augment else {}
    changed = " ".join(f"{name}={str(value).lower()}" for name, value in changes.items())
    augmented = f", augmented by {changed}" if changed else ""
    log.info("Dataset: %s images of %s%s%s%s", sizes, _shape(dataset.image_shape), classes, binary, augmented)
    if autoencoder.is_spatial:
        numbers, pixels = f"{autoencoder.latent:,}", f"{math.prod(autoencoder.image_shape):,}"
        log.info("Latent: %s, %s numbers for the %s of an image", autoencoder.latent_size, numbers, pixels)
    networks = {model.name: summarize(model) for model in (autoencoder.encoder, autoencoder.decoder)}
    if layers:
        for name, rows in networks.items():
            console.print(_table(name, rows))
    everything = [layer for network in networks.values() for layer in network]
    families = (autoencoder.posterior, autoencoder.prior, autoencoder.likelihood)
    of_families = sum(math.prod(variable.shape) for family in families for variable in family.variables)
    flops = training_flops(everything)
    log.info(
        "Parameters: %s; arithmetic: %.1f MFLOP an image, forward and backward; %.2f GFLOP a step of %s",
        f"{sum(layer.parameters for layer in everything) + of_families:,}",
        flops / 1e6,
        flops * batch_size / 1e9,
        counted(batch_size, "image"),
    )
    for line in meaning(autoencoder, loss):
        log.info("%s", line)
    device = ", ".join(machine["gpus"]) or f"CPU ({counted(machine['cores'], 'core')})"
    if machine["replicas"] > 1:
        machines = f" on {len(machine['workers'])} machines" if "workers" in machine else ""
        each = counted(batch_size // machine["replicas"], "image")
        device += f", {counted(machine['replicas'], 'replica')}{machines}, {each} each"
    log.info("Device: %s, %s, XLA %s", device, machine["precision"], "on" if machine["xla"] else "off")


def show_effective_kl_weight(autoencoder: Autoencoder, loss: Loss, metrics: Mapping[str, float]) -> None:
    """Log the σ that fits the test images' errors after the last epoch, and the weight of the KL term with it."""
    if fitted := effective_kl_weight_after(autoencoder, loss, metrics):
        log.info("KL: σ = %.2g fits the errors on test images; with it this loss has β = %.2g", *fitted)


def _table(name: str, layers: Sequence[LayerSummary]) -> Table:
    table = Table(title=plain(name), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("layer", "kind", "output"):
        table.add_column(column)
    for column in ("parameters", "MFLOP"):
        table.add_column(column, justify="right")
    for layer in layers:
        cost = f"{layer.flops / 1e6:.2f}" if layer.flops else ""
        values = (layer.name, layer.kind, _shape(layer.output_shape), f"{layer.parameters:,}", cost)
        table.add_row(*map(plain, values))
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
