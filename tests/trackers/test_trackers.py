import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import vae_runner.schema  # noqa: F401 (registers our components)
from vae_runner.figures.pictures import Pictures
from vae_runner.figures.schema import FiguresConfig
from vae_runner.figures.trained import Trained
from vae_runner.runtime.console import ConsoleHandler, console
from vae_runner.trackers.figure_files import FigureFiles
from vae_runner.trackers.interface import Tracker
from vae_runner.trackers.metrics_table import MetricsTable
from vae_runner.trackers.multiple import Trackers
from vae_runner.trackers.record import Record
from vae_runner.trackers.tensorboard import TensorBoard
from vae_runner.training.outer import EpochResult, Progress

RESULTS = [
    EpochResult(1, 10, {"train/loss": 3.5, "test/loss": 4.25, "learning_rate": 0.5}),
    EpochResult(2, 20, {"train/loss": 2.5, "test/loss": 3.25, "learning_rate": 0.25}),
]


def test_the_table_has_a_row_an_epoch_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path)
    for count, result in enumerate(RESULTS, 1):
        table.epoch(result)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count
    assert rows[1] == {"epoch": "2", "step": "20", "train/loss": "2.5", "test/loss": "3.25", "learning_rate": "0.25"}
    assert table.rows[0]["epoch"] == 1


def test_a_table_goes_on_after_the_rows_of_the_epochs_before(tmp_path: Path) -> None:
    before = [{"epoch": 1, "step": 10, **RESULTS[0].metrics}]
    table = MetricsTable(tmp_path / "metrics.csv", before)
    table.epoch(RESULTS[1])
    assert [(row["epoch"], row["step"]) for row in table.rows] == [(1, 10), (2, 20)]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
    assert len(before) == 1


def test_a_record_of_a_run_that_goes_on_keeps_its_beginning_and_adds_up_its_seconds() -> None:
    written: list[Mapping[str, Any]] = []
    before = {
        **{"status": "interrupted", "started": "yesterday", "resumed": ["this morning"], "seconds": 1000.0},
        **{"epoch": 3, "step": 30, "metrics": {"test/loss": 1.5}, "error": "a fault", "ended": "at noon"},
    }
    record = Record(written.append, {"training": 1.23456}, before)
    told = written[-1]
    assert (told["status"], told["started"], told["epoch"], told["step"]) == ("running", "yesterday", 3, 30)
    assert told["metrics"] == {"test/loss": 1.5}
    assert told["resumed"][0] == "this morning"
    assert len(told["resumed"]) == 2
    assert not {"error", "ended"} & told.keys()
    assert 1000 <= told["seconds"] < 1010
    assert told["timings"]["training"] == 1.235
    assert told["timings"]["earlier"] >= 0  # what the imports took
    assert not record.was_finished
    record.end("failed", error="another")
    assert (written[-1]["status"], written[-1]["error"]) == ("failed", "another")


def test_a_finished_run_that_does_not_go_on_after_all_keeps_its_record() -> None:
    written: list[Mapping[str, Any]] = []
    before = {"status": "finished", "epoch": 3}
    record = Record(written.append, {}, before)
    assert record.was_finished
    record.end("failed", error="refused")
    assert written[-1] == before

    record = Record(written.append, {}, before)
    record.training_begins()
    record.end("failed", error="diverged")
    assert written[-1]["status"] == "failed"


@pytest.fixture
def events(tmp_path: Path) -> EventAccumulator:
    with TensorBoard(tmp_path) as board:
        board.configuration(
            (
                {
                    "latent": 2,
                    "loss": {"kl_weight": 1.5, "mine": 1},
                    "dataset": {"root": "x", "limit": None, "labels": None},
                    "model": {"filters": 8, "depth": "many"},
                    "figures": {"every": 5},
                    "hardware": {"deterministic": True},
                }
            ),
            "trial",
        )
        for result in RESULTS:
            board.epoch(result)
        figure = Figure(figsize=(1, 1), facecolor="red")
        board.figure("samples", figure, RESULTS[1])
        board.figure("final", figure)
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_every_metric_at_its_step(events: EventAccumulator) -> None:
    for name in RESULTS[0].metrics:
        points = [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(name)]
        assert points == [(r.step, r.metrics[name]) for r in RESULTS]


def test_tensorboard_has_the_picture_and_the_configuration(events: EventAccumulator) -> None:
    assert "final" not in events.Tags()["tensors"]
    (picture,) = events.Tensors("samples")
    assert picture.step == 20
    width, height, encoded = tf.make_ndarray(picture.tensor_proto)
    pixels = tf.io.decode_png(encoded).numpy()
    assert pixels.shape[:2] == (int(height), int(width))
    assert (pixels[..., :3] == [255, 0, 0]).all()
    text = tf.make_ndarray(events.Tensors("config")[0].tensor_proto)
    assert "latent: 2" in text.item().decode()


def test_tensorboard_has_the_hyperparameters(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["latent"].number_value == 2
    assert hparams["loss.kl_weight"].number_value == 1.5
    assert hparams["dataset.root"].string_value == "x"
    # Of a key that other runs may have another kind of value for, text; a number that is none is left out.
    assert hparams["model.filters"].string_value == "8"
    assert hparams["loss.mine"].string_value == "1"
    assert hparams["dataset.labels"].string_value == "null"
    assert set(hparams) == {
        *("latent", "loss.kl_weight", "loss.mine", "dataset.root", "dataset.labels", "model.filters"),
        "hardware.deterministic",
    }
    assert hparams["hardware.deterministic"].string_value == "True"


def test_tensorboard_goes_on_after_the_last_step_that_is_kept(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        board.configuration({"latent": 2}, "trial")
        for result in RESULTS:
            board.epoch(result)
        board.figure("samples", Figure(figsize=(1, 1)), RESULTS[1])
    # TensorBoard reads files in the order of their names, which begin with the second in which they were opened.
    time.sleep(1)
    with TensorBoard(tmp_path, last_step=10) as board:
        board.epoch(EpochResult(2, 20, {"train/loss": 2.0}))
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    points = [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in accumulator.Tensors("train/loss")]
    assert points == [(10, 3.5), (20, 2.0)]
    assert "samples" not in accumulator.Tags()["tensors"]
    assert "config" in accumulator.Tags()["tensors"]


def periodic(trained: Trained) -> Figure:
    return Figure(label=f"periodic {trained.epoch}")


def final(trained: Trained) -> Figure:
    return Figure(label=f"final {trained.epoch}")


def test_figures_are_drawn_when_they_are_due_and_saved_by_their_epoch() -> None:
    saved: list[Any] = []
    nodes = {
        when: {name: {"_target_": f"{__name__}.{name}", "_partial_": True}}
        for when, name in (("periodic", "periodic"), ("final", "final"))
    }
    pictures = Pictures(FiguresConfig(2, **nodes))
    files = FigureFiles(lambda figure, name, epoch: saved.append((name, figure.get_label(), epoch)))
    stub: Any = None
    for epoch in (1, 2, 3):
        trained = Trained(stub, stub, (), [], epoch, 0)
        for name, figure in pictures.periodic(trained, is_last=epoch == 3):
            files.figure(name, figure, EpochResult(epoch, 100 * epoch, {}))
    for name, figure in pictures.final(trained):
        files.figure(name, figure)
    assert saved == [("periodic", "periodic 2", 2), ("periodic", "periodic 3", 3), ("final", "final 3", None)]


def test_everything_goes_to_all_trackers_in_their_order_and_they_are_closed_whatever_happens() -> None:
    taken: list[Any] = []

    class Taking(Tracker):
        def __init__(self, name: str) -> None:
            self.name = name

        def __exit__(self, *error: object) -> None:
            taken.append((self.name, "closed"))

        def epoch(self, result: EpochResult) -> None:
            taken.append((self.name, result.epoch))

    def fail() -> None:
        with Trackers([Taking("a"), Tracker(), Taking("b")]) as trackers:
            trackers.configuration({}, "run")
            trackers.progress(Progress(1, 2, {}, 3.0))
            trackers.epoch(RESULTS[0])
            trackers.figure("samples", Figure())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert taken == [("a", 1), ("b", 1), ("b", "closed"), ("a", "closed")]


def test_a_runs_pictures_are_at_the_steps_of_its_table(finished_run: Path) -> None:
    events = EventAccumulator(str(finished_run / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    with (finished_run / "metrics.csv").open(newline="") as file:
        steps = {int(row["epoch"]): int(row["step"]) for row in csv.DictReader(file)}
    for name in ("samples", "reconstructions"):
        assert [event.step for event in events.Tensors(name)] == [steps[2], steps[3]]
        files = sorted(path.name for path in (finished_run / "figures" / name).iterdir())
        assert files == ["epoch_0002.png", "epoch_0003.png"]


@pytest.mark.parametrize(
    ("name", "level", "shown"),
    [
        ("py.warnings", logging.WARNING, False),
        ("matplotlib.font_manager", logging.WARNING, False),
        ("tensorflow", logging.WARNING, False),
        ("tensorflow", logging.ERROR, True),
        ("vae_runner.run", logging.WARNING, True),
        ("my_loss", logging.WARNING, True),
    ],
)
def test_libraries_warnings_are_not_for_the_terminal(name: str, level: int, shown: bool) -> None:
    with console.capture() as capture:
        ConsoleHandler().handle(logging.LogRecord(name, level, "", 0, "said", None, None))
    assert ("said" in capture.get()) is shown
