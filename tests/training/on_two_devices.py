"""Tests that need TensorFlow to have two devices: `test_gathered.py` runs them."""

from functools import partial

import pytest
import tensorflow as tf

from tests.conftest import mostly_slow
from tests.small_experiments import built

SMALL = (
    *("dataset.limit=60", "epochs=2", "hardware.deterministic=true", "optimizer.learning_rate=0.01"),
    *("figures=none", "checkpoint.every=0"),
)
DEVICES = 2
TRACED = "wae_mmd"  # Its loss gathers latents in the evaluation, too.

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * DEVICES
)


def two_epochs(method: str, *hardware: str) -> dict[str, float]:
    """Return the metrics of a method's two epochs, without what the clock decides."""
    experiment = built(*f"method={method}".split(), *SMALL, *hardware)
    assert experiment.machine.replicas == (DEVICES if hardware else 1)
    inner = experiment.trainer._inner
    # Tracing takes seconds. Of two replicas the steps are traced, of one method also the evaluation; of one device
    # nothing is: test_inner.py compares traced steps with untraced ones there.
    if not (hardware and method == TRACED):
        inner._compiled_evaluate = partial(inner._loop, inner._evaluation_step)
    if not hardware:
        inner._compiled_train = partial(inner._loop, inner._train_step)
        inner._compiled_estimate = partial(inner._loop, inner._estimation_step)
    metrics = {}
    for epoch in (1, 2):
        found = experiment.trainer.run_epoch(lambda progress: None).metrics
        metrics |= {
            f"{name} of epoch {epoch}": value
            for name, value in found.items()
            if name.startswith(("train/", "test/")) and "per_second" not in name
        }
        experiment.trainer.next_epoch()
    return metrics


@pytest.mark.parametrize(
    "method",
    mostly_slow(
        [
            *("beta_tcvae", "dip_vae_ii", "wae_mmd", "rae_sn", "piwae likelihood.scale=optimal"),
            "free_bits_vae likelihood=gaussian likelihood.scale=optimal",
            "class_prior loss.kl_weight=1000 loss.kl_capacity=25 loss.kl_capacity_epochs=10",
            "sparse_ae loss.sparsity_target=0.1",
            "kl_autoencoder loss.adversarial_from=1",
        ]
    ),
)
def test_two_replicas_take_the_statistics_of_the_whole_batch(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last batch of an epoch has 12 images, that of the test split too: replicas' shares are not all equal.
    monkeypatch.setattr("vae_runner.runtime.hardware._set_devices", lambda *arguments: None)  # they are set above
    one = two_epochs(method)
    two = two_epochs(method, "hardware.distribution=mirrored", f"hardware.logical_cpus={DEVICES}")
    assert two == pytest.approx(one, rel=2e-4, abs=2e-4)
