"""What `vae-sample --prior` does: it fits a density to a run's latents, keeps it, and samples from it."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.conftest import write_numbered
from tests.small_experiments import built
from vae_runner.cli import commands, fitting, sample
from vae_runner.datasets.binarization import build_dataset, encoded_training_images
from vae_runner.datasets.dataset import fixed_order
from vae_runner.distributions.base import Distribution
from vae_runner.evaluation.embeddings import latents_of, posterior_of
from vae_runner.experiment import load, load_dataset
from vae_runner.storage.stored_run import StoredRun
from vae_runner.stored_model import StoredModel
from vae_runner.training.noise import NumpyNoise

SMALL = ("dataset.limit=300", "epochs=1", "figures=none", "batch_size=32")
MLP = ["model=mlp", "model.width=16"]
PHOTOS = ["dataset=folder", "dataset.root=photos", "dataset.image_size=8", "data_dir=data"]
RUNS = {
    "vae": [*MLP, "latent=2"],
    "ae": [*MLP, "method=ae", *PHOTOS],
    "class": [*MLP, "method=class_prior"],
}

InProcess = Callable[..., None]
Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of a VAE, of a plain autoencoder on photos/, and with a Gaussian for each class as prior."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "photos").mkdir()
    write_numbered(folder / "photos", 30)
    for name, chosen in RUNS.items():
        train(*chosen, f"hydra.run.dir={name}", cwd=folder)
    return folder


def train(*arguments: str, cwd: Path) -> None:
    """A run in this process, for a fixture of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.config._clearExistingHandlers", lambda: None)
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["vae-run", *SMALL, *arguments])
        commands.run()


def drawn(in_process: InProcess, run: Path, *arguments: object, cwd: Path) -> np.ndarray:
    in_process("vae-sample", run, "--out", "drawn.npy", *arguments, cwd=cwd)
    images: np.ndarray = np.load(cwd / "drawn.npy")
    return images


def draw(posterior: Distribution, count: int) -> tf.Tensor:
    return posterior.sample(NumpyNoise(np.random.default_rng(count), count))


@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_a_density_is_fitted_once_and_the_directory_alone_is_enough_from_then_on(
    kind: str, runs: Path, tmp_path: Path, in_process: InProcess, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(runs / "vae", tmp_path / "run")
    first = drawn(in_process, run, "--prior", kind, "-n", 32, cwd=tmp_path)
    said = capsys.readouterr().out
    fitted = r"fitted (mixture of \d+ Gaussians|RealNVP): -\d+\.\d\d nats per held-out embedding; fitted to 270, and "
    assert re.match(fitted + rf"kept in {run}/evaluation/prior_{kind}\.npz\n32 images in drawn.npy\n$", said), said
    prior = drawn(in_process, run, "-n", 32, cwd=tmp_path)
    assert "--prior" not in capsys.readouterr().out  # A VAE samples from its prior.
    assert np.abs(first.astype(int) - prior).mean() > 1

    monkeypatch.setattr(fitting, "load_dataset", lambda *_, **__: pytest.fail("the images are read again"))
    again = drawn(in_process, run, "--prior", kind, "-n", 32, cwd=tmp_path)
    assert capsys.readouterr().out == said.removesuffix("\n") + ", in place of what was there\n"
    np.testing.assert_array_equal(again, first)
    assert (drawn(in_process, run, "--prior", kind, "-n", 32, "--seed", 1, cwd=tmp_path) != first).any()


def test_what_was_fitted_to_other_weights_or_with_other_components_is_fitted_anew(
    runs: Path, tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    run = shutil.copytree(runs / "vae", tmp_path / "run")
    drawn(in_process, run, "--prior", "mixture", "--components", 3, cwd=tmp_path)
    assert "fitted mixture of 3 Gaussians" in capsys.readouterr().out
    drawn(in_process, run, "--prior", "mixture", "--components", 1, cwd=tmp_path)
    assert "fitted Gaussian: " in capsys.readouterr().out
    assert StoredRun(run).fitted_prior("mixture") is not None
    weights = dict(np.load(run / "models" / "weights.npz"))
    np.savez(run / "models" / "weights.npz", **weights | {"decoder/1": weights["decoder/1"] + 1})
    assert StoredRun(run).fitted_prior("mixture") is None


def test_the_picture_says_what_was_sampled_from(
    runs: Path, tmp_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    grid = sample.image_grid
    monkeypatch.setattr(
        sample, "image_grid", lambda images, columns, title, **more: titles.append(title) or grid(images, 2, title)
    )
    run = shutil.copytree(runs / "vae", tmp_path / "run")
    in_process("vae-sample", run, "--prior", "mixture", "--components", 2, "-n", 4, cwd=tmp_path)
    assert titles == ["4 samples, z ~ fitted mixture of 2 Gaussians"]


def test_a_run_without_a_term_of_the_prior_says_that_sampling_means_a_fitted_density(
    runs: Path, tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    drawn(in_process, runs / "ae", "-n", 4, cwd=tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("4 images in drawn.npy\n")
    assert "--prior" not in said.splitlines()[0]
    assert "without a KL divergence from its prior, N(0, I): --prior mixture or flow draws" in said
    drawn(in_process, runs / "ae", "-n", 4, "--prior", "mixture", cwd=tmp_path)
    assert "was trained without" not in capsys.readouterr().out


def test_latents_are_posterior_means_for_an_autoencoder_and_draws_for_a_vae(runs: Path) -> None:
    assert not fitting.decodes_draws(StoredRun(runs / "ae"))
    stored = StoredRun(runs / "vae")
    assert fitting.decodes_draws(stored)
    autoencoder, images = load(stored), load_dataset(stored).train.images[:300]
    parameters = posterior_of(autoencoder, images)
    means = latents_of(autoencoder, images)
    np.testing.assert_allclose(means, parameters["mean"], rtol=1e-5, atol=1e-5)
    draws = latents_of(autoencoder, images, value=draw)
    standard = (draws - means) / np.exp(parameters["log_var"] / 2)
    assert standard.std() == pytest.approx(1, abs=0.1)
    assert standard.mean() == pytest.approx(0, abs=0.15)


def test_images_that_are_drawn_in_each_step_are_drawn_once_for_the_encoder() -> None:
    keys = {"_target_": "vae_runner.datasets.digits.load", "test_fraction": 0.2, "limit": 20}
    grey, dynamic = (build_dataset({**keys, "binarize": how}) for how in ("none", "dynamic"))
    assert encoded_training_images(grey) is grey.train
    assert len(np.unique(dynamic.train.images)) > 2
    assert set(np.unique(encoded_training_images(dynamic).images)) == {0, 255}


def test_a_conditional_run_has_a_density_for_each_class(
    runs: Path, tmp_path: Path, in_process: InProcess, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[np.ndarray] = []
    decode = StoredModel.decode
    monkeypatch.setattr(StoredModel, "decode", lambda self, z, labels: decoded.append(z) or decode(self, z, labels))
    arguments = ("--prior", "mixture", "--components", 1, "-n", 4000)
    drawn(in_process, runs / "class", *arguments, cwd=tmp_path)
    assert "a density fitted to its class: " in capsys.readouterr().out
    drawn(in_process, runs / "class", *arguments, "--label", 7, cwd=tmp_path)
    stored = StoredRun(runs / "class")
    train = load_dataset(stored).train
    latents = latents_of(load(stored), train.images, train.labels, value=draw)
    in_turn, of_class = decoded
    for label in range(10):
        own = latents[train.labels == label]
        error = 5 * own.std(axis=0) / np.sqrt(len(own))
        assert (np.abs(in_turn[label::10].mean(axis=0) - own.mean(axis=0)) < error).all()
    own = latents[train.labels == 7]
    np.testing.assert_allclose(of_class.std(axis=0), own.std(axis=0), rtol=0.5)


@pytest.mark.slow
def test_maps_of_codes_are_drawn_by_a_network_that_has_learned_them(
    tmp_path: Path, in_process: InProcess, capsys: Said, refusal: Callable[..., str]
) -> None:
    small = ("posterior.codes=16", "model.widths=8", "model.downsamplings=2")
    train("method=vq_vae", *small, "hydra.run.dir=run", cwd=tmp_path)
    run = tmp_path / "run"
    capsys.readouterr()
    drawn(in_process, run, "-n", 4, cwd=tmp_path)
    said = "The prior of this run, uniform codes, knows nothing of which codes go together: --prior autoregressive"
    assert said in capsys.readouterr().out
    images = drawn(in_process, run, "-n", 40, "--prior", "autoregressive", cwd=tmp_path)
    assert re.match(r"fitted autoregression: -\d+\.\d\d nats per held-out map of codes; fit", capsys.readouterr().out)
    np.testing.assert_array_equal(drawn(in_process, run, "-n", 40, "--prior", "autoregressive", cwd=tmp_path), images)
    kept = StoredRun(run).fitted_prior("autoregressive")
    assert kept is not None
    autoencoder = load(StoredRun(run))
    codes = latents_of(autoencoder, images, value=lambda posterior, n: posterior.codes)
    uniform = -np.log(16) * codes.shape[1]
    assert float(kept["held_out"]) > uniform / 2
    said = refusal("vae-sample", run, "--prior", "mixture", cwd=tmp_path)
    assert "would draw between the codes of this run: choose --prior autoregressive" in said


@pytest.mark.parametrize("drawn_from", [False, True])
def test_categories_that_a_decoder_was_trained_on_draws_of_are_drawn_for_a_fitted_density(
    drawn_from: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a density knows the likeliest category only, where the others are nearly as likely."""
    given: list[np.ndarray] = []

    class Recorded:
        distribution = SimpleNamespace(log_prob=lambda value: tf.zeros([len(value)]))

        @staticmethod
        def fit(space: object, values: np.ndarray, held_out: np.ndarray, *_: object) -> type["Recorded"]:
            given.append(np.concatenate([held_out, values]))
            return Recorded

    monkeypatch.setattr(fitting, "_family", lambda kind: Recorded)
    experiment = built("method=gumbel_vae", "latent=4", "posterior.categories=3")
    autoencoder, dataset = experiment.autoencoder, experiment.dataset
    fitting._fit(autoencoder, dataset, "autoregressive", 1, drawn=drawn_from)
    images = dataset.train.images[fixed_order(len(dataset.train))]
    likeliest = latents_of(autoencoder, images, value=lambda posterior, n: posterior.codes)
    same = np.mean(given[0].reshape(likeliest.shape) == likeliest)
    assert same < 0.8 if drawn_from else same == 1


def test_images_that_have_moved_are_found_where_the_command_says(
    runs: Path, tmp_path: Path, in_process: InProcess, refusal: Callable[..., str], capsys: Said
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    run, moved = tmp_path / "runs" / "ae", tmp_path / "moved"
    (run / "evaluation" / "prior_mixture.npz").unlink(missing_ok=True)
    shutil.copytree(runs / "photos", moved)
    (runs / "photos").rename(runs / "away")
    try:
        said = refusal("vae-sample", run, "--prior", "mixture", cwd=tmp_path)
        assert "does not exist" in said
        assert "--root and --data-dir say where the training images are now" in said
        drawn(in_process, run, "--prior", "mixture", "--root", "moved", "--data-dir", "data", cwd=tmp_path)
        (run / "evaluation" / "prior_mixture.npz").unlink()
        (moved / "00.png").unlink()
        said = refusal("vae-sample", run, "--prior", "mixture", "--root", "moved", "--data-dir", "data", cwd=tmp_path)
        assert "was trained on other images (train: 27 images then, 26 now" in said
    finally:
        (runs / "away").rename(runs / "photos")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior", "gaussian"], "argument --prior: invalid choice: 'gaussian'"),
        (["--components", "3"], "--components 3 is of a mixture: add --prior mixture"),
        (["--prior", "flow", "--components", "3"], "is of a mixture"),
        (["--root", "."], "which only --prior needs"),
        (
            ["--prior", "mixture", "--root", "."],
            "which the run's images are from, has no key root: leave it out",
        ),
        (["--prior", "mixture", "--components", "2000"], "more than there are embeddings to fit, 270"),
        (["--prior", "flow"], "prior_flow.npz cannot be used (it has "),
        (["--prior", "flow", "--label", "3"], "does not depend on classes"),
        (["--prior", "autoregressive"], "is of codes, and this run has none: choose --prior mixture or flow"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    arguments: list[str], message: str, runs: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    run = shutil.copytree(runs / "vae", tmp_path / "run")
    stored = StoredRun(run)
    np.savez(stored.fitted_prior_file("flow"), of_weights=stored.weights_digest, components=0)
    before = sorted(tmp_path.rglob("*"))
    assert message in refusal("vae-sample", run, *arguments, cwd=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_too_few_images_are_refused(
    runs: Path, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = build_dataset({"_target_": "vae_runner.datasets.digits.load", "test_fraction": 0.2, "limit": 50})
    monkeypatch.setattr(fitting, "load_dataset", lambda *_, **__: few)
    run = shutil.copytree(runs / "class", tmp_path / "run")
    fewest = np.bincount(few.train.labels).argmin()
    said = refusal("vae-sample", run, "--prior", "flow", cwd=tmp_path)
    assert re.search(rf"the run has \d training images of class {fewest}: a density is fitted to 10 or more", said)
