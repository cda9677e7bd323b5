"""Losses of a batch's statistics: several replicas compute what one device does."""

import csv
from pathlib import Path

import pytest

from tests.conftest import command, mostly_slow

SMALL = (
    *("dataset.limit=60", "batch_size=16", "epochs=2", "model=mlp", "model.width=8", "latent=3", "figures=none"),
    *("hardware.deterministic=true", "optimizer.learning_rate=0.01", "checkpoint.every=0"),
)


@pytest.mark.parametrize(
    "method",
    mostly_slow(
        [
            *("beta_tcvae", "dip_vae_ii", "wae_mmd", "free_bits_vae", "capacity_vae", "iwae", "optimal_sigma_vae"),
            "piwae likelihood.scale=optimal",
            "class_prior",
            "rae_sn",
            "sparse_ae loss.sparsity_target=0.1",
            "kl_autoencoder loss.discriminator_width=2 loss.adversarial_from=1",
        ]
    ),
)
def test_two_replicas_take_the_statistics_of_the_whole_batch(method: str, tmp_path: Path) -> None:
    # The last batch of an epoch has 12 images, that of the test split too: replicas' shares are not all equal.
    rows = []
    for name, hardware in (("one", ()), ("two", ("hardware=mirrored", "hardware.logical_cpus=2"))):
        arguments = (*SMALL, *f"method={method}".split(), *hardware, f"hydra.run.dir={name}")
        result = command("vae-run", *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        with (tmp_path / name / "metrics.csv").open() as file:
            rows.append(list(csv.DictReader(file)))
    for one, two in zip(*rows, strict=True):
        for key, value in one.items():
            if key.startswith(("train/", "test/")) and "per_second" not in key:
                assert float(two[key]) == pytest.approx(float(value), rel=2e-4, abs=2e-4), key
