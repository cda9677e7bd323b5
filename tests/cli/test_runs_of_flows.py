"""A run whose posterior and prior are flows, from its first step to its pictures and samples."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from vae_runner.evaluation.embeddings import posterior_of
from vae_runner.experiment import load
from vae_runner.storage.stored_run import StoredRun

SMALL = ("dataset.limit=60", "epochs=1", "batch_size=16", "model=mlp", "model.width=8", "hydra.run.dir=run")
AS_IN_EVERY_RUN = {"interpolations", "latent_space", "loss_curves", "samples_normal", "samples_uniform", "traversals"}


def test_a_run_of_flows_in_bfloat16_draws_all_figures_is_finite_and_sampled_from(
    tmp_path: Path, in_process: Callable[..., None]
) -> None:
    flows = ("posterior=iaf", "prior=real_nvp", "likelihood=gaussian", "loss=iwae", "latent=4")
    try:
        in_process("vae-run", *SMALL, *flows, "hardware.precision=mixed_bfloat16", cwd=tmp_path)
        in_process("vae-sample", "run", "-n", "5", "--out", "samples.npy", cwd=tmp_path)
        autoencoder = load(StoredRun.open_finished(tmp_path / "run"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert {file.stem for file in (tmp_path / "run" / "figures").glob("*.png")} >= AS_IN_EVERY_RUN
    assert np.load(tmp_path / "samples.npy").shape == (5, 8, 8, 1)
    weights = dict(np.load(tmp_path / "run" / "models" / "weights.npz"))
    assert all(np.isfinite(values).all() for values in weights.values())
    for name, part in (("posterior", autoencoder.posterior), ("prior", autoencoder.prior)):
        assert len(part.variables) == 6
        for number, variable in enumerate(part.variables):
            np.testing.assert_array_equal(variable, weights[f"{name}/{number}"])
    kept = np.load(tmp_path / "run" / "evaluation" / "embeddings.npz")
    assert set(kept) == {"mean", "labels"}
    images = StoredRun(tmp_path / "run").test_images[0]
    parameters = posterior_of(autoencoder, images)
    assert np.abs(parameters["mean"] - parameters["base_mean"]).max() > 0.01  # where the flow takes it
    np.testing.assert_allclose(kept["mean"][: len(images)], parameters["mean"], atol=0.05)  # in bfloat16
