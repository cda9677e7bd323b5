"""A run that begins with the weights of another one: all of them, or some parts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import command
from tests.small_experiments import SMALL, built
from vae_runner.errors import UserError
from vae_runner.experiment import Experiment, initialize
from vae_runner.models.variables import Variables
from vae_runner.schema import register_schemas
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun

register_schemas()

OF_SOURCE = ("model.normalization=batch", "prior=learned_normal", "seed=1")
FINISHED = {"status": "finished", "epoch": 1, "metrics": {"test/loss": 1.0}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run, with moving averages that are not those of a new one."""
    path, experiment = tmp_path_factory.mktemp("source") / "run", built(*OF_SOURCE)
    for variable in (*experiment.autoencoder.encoder.non_trainable_variables, *experiment.autoencoder.prior.variables):
        variable.assign(np.random.default_rng(0).uniform(size=variable.shape))
    with RunDirectory.create(path, experiment.config.content) as directory:
        directory.save_models(experiment.result)
        directory.write_info(FINISHED)
    return path


def weights(experiment: Experiment) -> dict[str, NDArray[np.generic]]:
    return Variables(experiment.autoencoder.parts).values()


@pytest.mark.parametrize("parts", [None, ["encoder"], ["decoder", "prior"]])
def test_a_run_begins_with_the_weights_of_another_in_the_parts_that_are_named(
    source: Path, parts: list[str] | None
) -> None:
    chosen = [] if parts is None else [f"init_parts=[{','.join(parts)}]"]
    experiment = built(*OF_SOURCE[:2], f"init_from={source}", *chosen)
    theirs, before = StoredRun.open_finished(source).weights, weights(experiment)
    initialize(experiment)
    found = weights(experiment)
    assert {name.partition("/")[0] for name in found} == {"encoder", "decoder", "prior"}
    for name, value in found.items():
        expected = theirs if parts is None or name.partition("/")[0] in parts else before
        np.testing.assert_array_equal(value, expected[name])
    assert any(not np.array_equal(before[name], theirs[name]) for name in before)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["latent=4"], r"init_from=\S+run: decoder/0 is float32 \(3, 8\), where the configuration makes it float32 "
            r"\(4, 8\): choose the model, latent and images of that run"),
        (["prior=normal"], r"prior/0 is float32 \(1, 3\), where the configuration makes it not there: give "
            r"init_parts=\[encoder,decoder\], which fit, or choose"),
        (["latent=4", "init_parts=[prior]"], r"prior/0 is float32 \(1, 3\), .* makes it float32 \(1, 4\): choose"),
        (["init_parts=[posterior]"], r"the posterior of \S+ has no weights: name some of encoder, decoder, prior"),
        (["likelihood=gaussian"], r"likelihood/0 is not there, where .* give init_parts=\[encoder,decoder,prior\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_the_parts_that_do(source: Path, keys: list[str], message: str) -> None:
    experiment = built(*OF_SOURCE[:2], f"init_from={source}", *keys)
    before = weights(experiment)
    with pytest.raises(UserError, match=message):
        initialize(experiment)
    for name, value in weights(experiment).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["init_from=nowhere"], "init_from: nowhere does not exist: give a run directory"),
        (["init_from="], "init_from= is empty: give a folder, or leave it out"),
        (["init_from=."], "init_from: . is no run directory"),
        (["init_parts=[encoder]"], "init_parts chooses parts of the run init_from: give that too"),
        (["init_from=x", "init_parts=[encodr]"], "must be a list of some of encoder, decoder, posterior, prior, "
            "likelihood. Did you mean 'encoder'?"),
        (["init_from=x", "init_parts=[]"], "init_parts=[]: must be a list of some of encoder"),
    ],
)  # fmt: skip
def test_what_names_no_run_or_no_part_is_refused_before_any_work(
    refusal: Callable[..., str], keys: list[str], message: str, tmp_path: Path
) -> None:
    assert message in refusal("vae-run", *keys, "hydra.run.dir=run", cwd=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_sweep_is_refused_once_where_its_runs_begin_with_none_and_goes_on_when_that_is_gone(
    source: Path, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / "source")
    sweep = ("-m", *SMALL, *OF_SOURCE[:2], "figures=none", "sweep.dir=sweep")
    refused = command("vae-run", *sweep, "init_from=source,nowhere", cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("vae-run: init_from: ")
    assert refused.stderr.endswith("nowhere does not exist: give a run directory\n")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert command("vae-run", *sweep, "init_from=source", "seed=0", cwd=tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "source")
    again = command("vae-run", *sweep, "init_from=source", "seed=0", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    more = command("vae-run", *sweep, "init_from=source", "seed=0,1", cwd=tmp_path)
    assert more.returncode == 2, more.stderr
    assert len(list(tmp_path.glob("sweep/*/run.json"))) == 1


def test_a_run_goes_on_when_the_one_it_began_with_is_gone_and_leaves_averaged_weights(
    source: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    shutil.copytree(source, tmp_path / "source")
    keys = (*SMALL, *OF_SOURCE[:2], "optimizer.ema=0.9", "figures=none", "hydra.run.dir=run", "init_from=source")
    in_process("vae-run", *keys, cwd=tmp_path)
    shutil.rmtree(tmp_path / "source")
    in_process("vae-run", "resume=run", "epochs=2", cwd=tmp_path)
    begun = f"First weights: those of {tmp_path / 'source'} (encoder, decoder, prior)"
    assert (tmp_path / "run" / "vae-run.log").read_text().count(begun) == 1
    run = RunDirectory.open(tmp_path / "run")
    assert run.info["epoch"] == 2
    checkpoint = run.checkpoints.newest()
    assert checkpoint is not None
    saved = [value for name, value in run.weights.items() if "/" in name]
    averages = [value for name, value in checkpoint.variables.items() if name.startswith("averages/")]
    for one, other in zip(saved, averages[1:], strict=True):  # after the number of updates
        np.testing.assert_array_equal(one, other)
