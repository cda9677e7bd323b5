"""`batch_size=auto`: the largest doubling that memory and the number of images allow; then a number like any other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import yaml

from tests.small_experiments import built
from vae_runner import experiment
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.errors import UserError
from vae_runner.models.summary import training_bytes
from vae_runner.training import batch_size
from vae_runner.training.batch_size import candidates

SHORT = ("dataset.limit=400", "model=mlp", "model.width=8", "figures=none")


@pytest.mark.parametrize(
    ("images", "replicas", "sizes"),
    [
        (60_000, 1, [32, 64, 128, 256, 512, 1024]),
        (60_000, 3, [48, 96, 192, 384, 768]),
        (1438, 1, [32, 64, 128]),  # ten steps at least
        (50, 1, [4]),
        (5, 4, [4]),
    ],
)
def test_batch_sizes_are_doubled_and_leave_an_epoch_ten_steps(images: int, replicas: int, sizes: list[int]) -> None:
    assert candidates(images, replicas) == sizes


def test_a_run_keeps_the_number_that_it_has_chosen_and_computes_what_one_with_that_number_does(
    tmp_path: Path, in_process: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(run: str) -> dict[str, Any]:
        return dict(json.loads((tmp_path / run / "run.json").read_text()))

    in_process("vae-run", *SHORT, "epochs=1", "batch_size=auto", "hydra.run.dir=chosen", cwd=tmp_path)
    config = yaml.safe_load((tmp_path / "chosen" / "config.yaml").read_text())
    assert config["batch_size"] == 32
    assert (
        "Batch size: 32 images (batch_size=auto): the largest with which"
        in (tmp_path / "chosen/vae-run.log").read_text()
    )
    in_process("vae-run", *SHORT, "epochs=1", "batch_size=32", "hydra.run.dir=given", cwd=tmp_path)
    chosen, given = (told(run)["metrics"]["train/loss"] for run in ("chosen", "given"))
    assert chosen == pytest.approx(given, rel=1e-5)
    in_process("vae-run", "resume=chosen", "epochs=2", cwd=tmp_path)
    assert told("chosen")["step"] == 26
    (tmp_path / "chosen" / "run.json").unlink()  # Its command given again continues it, with the number it had.
    monkeypatch.setattr("vae_runner.run.choose_batch_size", lambda *given: pytest.fail("it is chosen anew"))
    in_process("vae-run", *SHORT, "epochs=3", "batch_size=auto", "hydra.run.dir=chosen", cwd=tmp_path)
    assert told("chosen")["step"] == 39


def test_main_memory_is_not_filled_to_find_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = built("dataset.limit=null")
    caplog.clear()
    caplog.set_level("INFO")
    for images in (128, 64, 32):
        least = training_bytes(made.autoencoder, images, draws=1, weighed=1)
        needed = int(least * experiment.WORKING_BYTES / experiment.PART_OF_MEMORY) + 1
        monkeypatch.setattr(experiment, "memory", lambda needed=needed: needed)
        assert experiment.choose_batch_size(made.config, made.dataset, made.machine) == images
    monkeypatch.setattr(batch_size, "LARGEST", 32)
    assert experiment.choose_batch_size(made.config, made.dataset, made.machine) == 32
    few = Dataset(Split(made.dataset.train.images[:7]), made.dataset.test)
    assert experiment.choose_batch_size(made.config, few, made.machine) == 1
    monkeypatch.setattr(experiment, "candidates", lambda images, replicas: candidates(images, 4))
    few = Dataset(Split(made.dataset.train.images[:38]), made.dataset.test)
    assert experiment.choose_batch_size(made.config, few, made.machine) == 4
    assert [message.partition(": ")[2].partition(": ")[2] for message in caplog.messages] == [
        "the largest with which an epoch of 1,438 training images has at least 10 full steps",
        "a step on 128 needs more than 50% of memory",
        "a step on 64 needs more than 50% of memory",
        "larger ones, which ask for a learning rate of their own, are not tried",
        "the smallest, an image for each device, with which an epoch has 7 steps",
        "the smallest, an image for each device, with which an epoch has 10 steps",
    ]
    monkeypatch.setattr(experiment, "memory", lambda: 1000)
    with pytest.raises(UserError, match="a step on 32 images needs more than 50% of memory"):
        experiment.choose_batch_size(made.config, made.dataset, made.machine)


def test_on_a_gpu_steps_are_tried_until_its_memory_is_exhausted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = built("dataset.limit=null", "checkpoint.metric=test/loss")
    gpu = replace(made.machine, description={**made.machine.description, "device": "gpu"})
    build, tried = experiment.build_experiment, []

    def exhausted(config: Any, *arguments: Any) -> Any:
        tried.append(config.batch_size)
        if config.batch_size > 64:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return build(config, *arguments)

    monkeypatch.setattr(experiment, "build_experiment", exhausted)
    caplog.clear()
    with caplog.at_level("INFO"):
        assert experiment.choose_batch_size(made.config, made.dataset, gpu) == 64
    assert tried == [32, 64, 128]
    assert caplog.messages == ["Batch size: 64 images (batch_size=auto): a step on 128 needs more memory than there is"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["batch_size=automatic"], "batch_size=automatic: must be a whole number (images), or auto"),
        (["batch_size=1.5"], "batch_size=1.5: must be a whole number (images), or auto"),
        (["batch_size=0"], "batch_size=0: must be at least 1 (images)"),
        (
            ["batch_size=auto", "hardware=multi_worker", "hardware.workers=[a:1,b:1]", "hardware.worker=0"],
            "give a number",
        ),
    ],
)
def test_other_words_and_numbers_are_refused(
    given: list[str], message: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert message in refusal("vae-run", *given, cwd=tmp_path)
