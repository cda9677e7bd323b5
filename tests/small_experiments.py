"""Small experiments with any components, and two optimizer steps of one in a single traced function."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import tensorflow as tf
from hydra import compose, initialize_config_module

from vae_runner.config.checks import check
from vae_runner.datasets.pipeline import Share
from vae_runner.experiment import Experiment, build_experiment
from vae_runner.runtime.hardware import setup
from vae_runner.schema import Config, register_schemas
from vae_runner.training.inner import Place, Sums
from vae_runner.training.noise import StatelessNoise
from vae_runner.training.stopwatch import Stopwatch

BATCH, FEWER = 16, 12  # images of the two steps; the second batch is like the last of an epoch
NETWORK = ("model=mlp", "model.width=8", "latent=3")
DATA = ("dataset=digits", "dataset.limit=40", f"batch_size={BATCH}", "epochs=1", "hardware=cpu")
SMALL = (*DATA, *NETWORK)
DISCRIMINATOR = "loss.discriminator_width=2"
OPPOSED = ("factor_vae", "aae", "wae_gan", "vae_gan", "kl_autoencoder", "vq_gan")
FEW = {  # what a choice needs to be small here, or to have images that it can be trained on
    "likelihood=bernoulli": "dataset.binarize=dynamic",
    "prior=vamp": "prior.pseudo_inputs=4",
    "prior=real_nvp": "prior.steps=2",
    **{f"posterior={flow}": "posterior.steps=2" for flow in ("planar", "householder", "sylvester", "iaf", "real_nvp")},
    **dict.fromkeys((f"loss={loss}" for loss in ("factor", "aae", "vae_gan", "patch_gan", "vq_gan")), DISCRIMINATOR),
    **dict.fromkeys((f"method={method}" for method in OPPOSED), DISCRIMINATOR),
    "method=fsq": "posterior.levels=5",
    "method=real_nvp_prior": "prior.steps=2",
    "method=vampprior": "prior.pseudo_inputs=4",
    "method=mixture_prior": "prior.components=4",
}


def built(*overrides: str, network: Sequence[str] = NETWORK) -> Experiment:
    """Return a small experiment, and let choices in `FEW` have what stands there."""
    register_schemas()
    few = [FEW[override] for override in overrides if override in FEW]
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        config = compose("config", [*DATA, *network, *overrides, *few])
    check(config)
    made = Config.of(config)
    freeze()
    return build_experiment(made, setup(made.hardware, made.seed), Stopwatch())


@cache
def freeze() -> None:
    """Let later collections leave out what was imported: each new session of Keras waits for one."""
    gc.collect()
    gc.freeze()


@contextmanager
def untraced() -> Iterator[None]:
    """Take the steps of what is trained inside one operation at a time.

    Tracing and compiling take most of the time of a run of a few small steps. They belong where that run is what a test
    is about, and not where it asks which files, figures or messages a run leaves.
    """
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def two_steps(experiment: Experiment, compiled: bool = True) -> dict[str, float]:
    """Take two optimizer steps, on batches of two sizes; return the second's loss and terms, as train/… and test/….

    The arithmetic is that of `InnerLoop`. Tracing takes most of a small run's time, so training and evaluation are
    traced together, once, and without AutoGraph. With `compiled` false nothing is traced, which takes a third of the
    time.
    """
    inner, split = experiment.trainer._inner, experiment.dataset.train
    image_shape = experiment.dataset.image_shape

    def step(pixels: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count, zero = tf.shape(pixels, tf.int64)[0], tf.constant(0, tf.int64)
        share = Share(labels, zero, tf.cast(count, tf.float64), count, labels)
        place = Place(zero, count, share.weight, BATCH, len(split))
        noise, other = (StatelessNoise(0, of, share, count) for of in (number, -1 - number))
        trained = inner._apply_gradients(pixels, labels, noise, place, number, tf.constant(1.0))
        with tf.control_dependencies([trained]):
            return trained, inner._evaluate_loss(pixels, labels, other, place)

    images_of_any_number = [tf.TensorSpec([None, *image_shape], tf.uint8), tf.TensorSpec([None], tf.int64)]
    signature = [*images_of_any_number, tf.TensorSpec([], tf.int64)]
    taken = tf.function(step, input_signature=signature, autograph=False) if compiled else step
    assert split.labels is not None
    for number, part in enumerate((slice(BATCH), slice(BATCH, BATCH + FEWER))):
        images, labels = tf.constant(np.asarray(split.images[part])), tf.constant(split.labels[part])
        results = experiment.machine.strategy.run(taken, args=(images, labels, tf.constant(number, tf.int64)))
    means = [inner.means(Sums(np.asarray(values, np.float64), 1.0, -1, np.zeros(0))) for values in results]
    return {
        f"{split}/{name}": value
        for split, of in zip(("train", "test"), means, strict=True)
        for name, value in of.items()
    }


def problems(experiment: Experiment, loss: str, compiled: bool = True) -> Iterator[str]:
    """Take two steps; yield what is not finite, and each variable that should have moved and did not."""
    variables = experiment.autoencoder.trainable_variables
    before = [np.array(variable) for variable in variables]
    yield from (
        f"{name} is {value}" for name, value in two_steps(experiment, compiled).items() if not np.isfinite(value)
    )
    idle = {id(variable) for variable in _idle(experiment, loss)}
    for variable, old in zip(variables, before, strict=True):
        if id(variable) not in idle and np.array_equal(variable, old):
            yield f"{variable.path} has no gradient"
        elif not np.isfinite(variable).all():
            yield f"{variable.path} is not finite"


def _idle(experiment: Experiment, loss: str) -> list[tf.Variable]:
    """Return the variables that a loss does not depend on."""
    autoencoder = experiment.autoencoder
    if loss in ("ae", "rae"):  # They decode the posterior's mean, and use nothing else of it.
        spreads = ("log_var", "base_log_var", "log_scale", "scale", "concentration")
        idle = [v for v in autoencoder.encoder.trainable_variables if v.path.split("/")[-2] in spreads]
        return [*idle, *autoencoder.prior.trainable_variables]
    if loss == "mmd":  # It takes draws of the prior, which have no gradient with respect to a mixture's weights.
        return [v for v in autoencoder.prior.trainable_variables if v.path.endswith("logits")]
    return []
