"""Densities of a run's latents, for `vae-sample --prior`: fitted once, and kept in the run's directory."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
from hydra.utils import get_class
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vae_runner.config import registry
from vae_runner.datasets.binarization import encoded_training_images
from vae_runner.datasets.dataset import Dataset, fixed_order
from vae_runner.distributions.base import Distribution
from vae_runner.distributions.codes import CodeDistribution
from vae_runner.errors import UserError, first_line
from vae_runner.evaluation.embeddings import Labels, in_latent_space, latents_of
from vae_runner.experiment import build_loss, load_dataset
from vae_runner.files.untrusted import Arrays
from vae_runner.fitted_priors.base import FittedPrior, Latents, Report, Space
from vae_runner.fitted_priors.schema import KINDS
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import CodePosterior
from vae_runner.runtime.console import console
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.noise import NumpyNoise

HELD_OUT = 10  # one of so many latents shows how well a density fits, and is not fitted to
SEED = 0  # of draws from the posteriors
SCORED = 256  # values at once, or fewer large ones


class FittedPriors:
    """What a run's latents are like: one density, or one for each class where the run is conditional."""

    def __init__(self, of_classes: Sequence[FittedPrior], held_out: float, count: int) -> None:
        self.of_classes = of_classes
        self.held_out = held_out  # the mean log-density of held-out latents, in nats
        self.count = count  # how many latents it was fitted to

    @property
    def arrays(self) -> Arrays:
        """Return all that it is made of."""
        numbers = {"held_out": np.array(self.held_out), "count": np.array(self.count)}
        densities = {f"{n}/{name}": a for n, one in enumerate(self.of_classes) for name, a in one.arrays.items()}
        return densities | numbers

    @property
    def symbol(self) -> str:
        """Return its name in the titles of pictures."""
        return self.of_classes[0].symbol if len(self.of_classes) == 1 else "a density fitted to its class"

    def sample(self, autoencoder: Autoencoder, labels: Labels, number: int, seed: int) -> Latents:
        """Return draws of z, `[number, latent]`, of the classes in `labels` where there are any."""
        generator = np.random.default_rng(seed)
        of = np.zeros(number, np.int64) if labels is None else np.asarray(labels)
        counts = np.bincount(of, minlength=len(self.of_classes))
        by_class = [
            np.asarray(density.distribution.sample(NumpyNoise(generator, count, np.float32)))
            for density, count in zip(self.of_classes, counts.tolist(), strict=True)
            if count
        ]
        values = np.concatenate(by_class)
        values[np.argsort(of, kind="stable")] = values.copy()
        posterior = autoencoder.posterior
        if isinstance(posterior, CodePosterior):
            values = posterior.embed(tf.constant(values.reshape(number, -1))).numpy()
        return in_latent_space(autoencoder, values, labels).astype(np.float32)


def fitted(
    stored: StoredRun,
    autoencoder: Autoencoder,
    kind: str,
    components: int,
    trust: Sequence[str],
    **moved: str | None,
) -> FittedPriors:
    """Return the densities of a kind that the run keeps; where it has none of so many `components`, fit and keep them.

    `moved` has the keys that say where the training images are now, if not where the run found them.

    Raises:
        UserError: the images are not there, or too few; or what is kept is damaged, or cannot be written.
    """
    family, is_code = _family(kind), isinstance(autoencoder.posterior, CodePosterior)
    if family.of_codes and not is_code:
        raise UserError(f"--prior {kind} is of codes, and this run has none: choose --prior mixture or flow")
    if is_code and not family.of_codes:
        raise UserError(f"--prior {kind} would draw between the codes of this run: choose --prior autoregressive")
    found = _kept(stored, autoencoder, kind, components)
    if found is None:
        file = stored.fitted_prior_file(kind)
        if not os.access(file.parent, os.W_OK):
            raise UserError(f"{file.parent} cannot be written, where the fitted density is kept: mend its permissions")
        digest = stored.weights_digest
        dataset = load_dataset(stored, trust, **moved)
        found = _fit(autoencoder, dataset, kind, components, decodes_draws(stored))
        RunDirectory(stored.path).save_fitted_prior(kind, {**found.arrays, "components": np.array(components)}, digest)
    print(
        f"{found.symbol}: {found.held_out:.2f} nats per held-out {'map of codes' if is_code else 'embedding'}; "
        f"fitted to {found.count:,}, and kept in {stored.fitted_prior_file(kind)}"
    )
    return found


def decodes_draws(stored: StoredRun) -> bool:
    """Return whether a run's decoder was trained on draws of the posteriors, and not on their means."""
    keys = stored.config.loss
    # A loss that is none of ours may name code that is not trusted.
    return not (registry.by_target(keys["_target_"]) and build_loss(keys).decodes_means)


def space_of(autoencoder: Autoencoder) -> Space:
    """Return what densities of a run are over: z, or maps of codes, with those of a position in a row."""
    posterior = autoencoder.posterior
    if not isinstance(posterior, CodePosterior):
        return Space((autoencoder.latent,))
    height = autoencoder.latent_shape[0] if autoencoder.is_spatial else 1
    return Space((height, posterior.positions(autoencoder.latent) // height), posterior.codes)


def _kept(stored: StoredRun, autoencoder: Autoencoder, kind: str, components: int) -> FittedPriors | None:
    """Return what the run keeps; None where that is nothing, or was asked for with another number of components."""
    arrays = stored.fitted_prior(kind)
    if arrays is None or not np.array_equal(arrays.get("components", components), components):
        return None
    try:
        of_classes = [
            _family(kind).from_arrays(
                space_of(autoencoder),
                {name.removeprefix(f"{n}/"): array for name, array in arrays.items() if name.startswith(f"{n}/")},
            )
            for n in range(autoencoder.classes or 1)
        ]
        return FittedPriors(of_classes, float(arrays["held_out"]), int(arrays["count"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{stored.fitted_prior_file(kind)} cannot be used ({first_line(error)}): delete it, and it is made anew"
        ) from error


def _fit(autoencoder: Autoencoder, dataset: Dataset, kind: str, components: int, drawn: bool) -> FittedPriors:
    """Return densities fitted to the codes of the training images, to draws of their posteriors, or to their means."""
    split, classes = encoded_training_images(dataset), autoencoder.classes or 1
    of = np.zeros(len(split), np.int64) if not autoencoder.classes else np.asarray(split.labels)
    counts = np.bincount(of, minlength=classes)
    if counts.min() < HELD_OUT:
        label = int(counts.argmin())
        name = f" of class {[*dataset.label_names, *range(label + 1)][label]}" if classes > 1 else ""
        raise UserError(f"the run has {counts.min()} training images{name}: a density is fitted to {HELD_OUT} or more")
    of_classes, log_probs = [], []
    with _progress(f"encoding {len(split):,} images", 1) as report:
        generator, space = np.random.default_rng(SEED), space_of(autoencoder)

        def value(posterior: Distribution, count: int) -> tf.Tensor:
            noise = NumpyNoise(generator, count, np.float32)
            if isinstance(posterior, CodeDistribution):
                return tf.reshape(posterior.drawn_codes(noise) if drawn else posterior.codes, [count, *space.shape])
            return posterior.sample(noise) if drawn else posterior.mean

        labels = split.labels if autoencoder.classes else None
        values = latents_of(autoencoder, split.images, labels, value=value, report=report)
    with _progress(f"fitting a {kind}", classes) as report:
        for label in range(classes):
            own = values[of == label]
            own = own[fixed_order(len(own))]
            held_out, fitted_to = np.split(own, [len(own) // HELD_OUT])
            density = _family(kind).fit(space, fitted_to, held_out, report, components)
            size = space.at_once(SCORED)
            parts = np.split(held_out, range(size, len(held_out), size))
            log_probs += [density.distribution.log_prob(tf.constant(part)).numpy() for part in parts]
            of_classes.append(density)
    held_out_log_prob = np.concatenate(log_probs)
    return FittedPriors(of_classes, float(held_out_log_prob.mean()), len(values) - len(held_out_log_prob))


def _family(kind: str) -> type[FittedPrior]:
    return get_class(KINDS[kind])


@contextmanager
def _progress(what: str, parts: int) -> Iterator[Report]:
    """Show a bar on a terminal; yield what moves it: the fraction done of one of so many parts, one after the other."""
    with Progress(
        TextColumn(what), BarColumn(bar_width=None), TimeRemainingColumn(), TextColumn("left"),
        console=console, disable=not console.is_terminal, transient=True, expand=True,
    ) as bar:  # fmt: skip
        task, finished = bar.add_task("", total=parts), 0

        def report(done: float) -> None:
            nonlocal finished
            bar.update(task, completed=finished + done)
            finished += done == 1

        yield report
