import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

import vae_runner.schema  # noqa: F401 (registers our components)
from vae_runner.datasets.dataset import Split
from vae_runner.figures.pictures import Pictures
from vae_runner.figures.schema import FiguresConfig
from vae_runner.figures.trained import Trained
from vae_runner.runtime.console import ConsoleHandler, console
from vae_runner.storage.names import RunPaths
from vae_runner.trackers.figure_files import FigureFiles
from vae_runner.trackers.interface import Tracker
from vae_runner.trackers.metrics_table import MetricsTable
from vae_runner.trackers.multiple import Trackers
from vae_runner.trackers.projector import write_projector
from vae_runner.trackers.record import Record
from vae_runner.trackers.tensorboard import TensorBoard, write_evaluation
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
    asked: list[int] = []

    def surroundings() -> dict[str, object]:
        asked.append(1)  # which would write the changes in a git checkout over those of the run
        return {"git": None}

    record = Record(written.append, {}, before, surroundings)
    assert record.was_finished
    record.end("failed", error="refused")
    assert written[-1] == before
    assert not asked

    record = Record(written.append, {}, before, surroundings)
    record.training_begins()
    record.end("failed", error="diverged")
    assert (written[-1]["status"], written[-1]["git"]) == ("failed", None)


RUN = Path("2026-01-31") / "12-00-00"  # in the folder that TensorBoard is given


@pytest.fixture
def logs(tmp_path: Path) -> EventMultiplexer:
    """What TensorBoard reads of a run."""
    config = {
        "latent": 2,
        "data_dir": "/somewhere",
        "loss": {"_target_": "vae_runner.losses.elbo.Elbo", "kl_weight": 1.5, "mine": 1},
        "dataset": {"root": "x", "url": "https://x", "limit": None, "labels": None},
        "model": {"_target_": "mine.Model", "filters": 8, "depth": "many"},
        "schedule": {"_target_": "mine.Schedule", "_partial_": True},
        "figures": {"every": 5},
        "evaluation": {"every": 5},
        "checkpoint": {"every": 5},
        "hardware": {"deterministic": True, "precision": "float32"},
    }
    with TensorBoard(RunPaths(tmp_path / RUN)) as board:
        board.configuration(config, {"schedule": "mine", "method": "beta_vae"})
        for result in RESULTS:
            board.epoch(result)
        figure = Figure(figsize=(1, 1), facecolor="red")
        board.figure("samples", figure, RESULTS[1])
        board.figure("final", figure)
    return read(tmp_path)


def read(folder: Path) -> EventMultiplexer:
    return EventMultiplexer(tensor_size_guidance={"tensors": 0}).AddRunsFromDirectory(str(folder)).Reload()


def scalars(logs: EventMultiplexer, run: str, tag: str) -> list[tuple[int, float]]:
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in logs.Tensors(run, tag)]


def test_train_and_test_of_a_metric_are_one_chart_of_tensorboard_below_the_name_of_the_run(
    logs: EventMultiplexer,
) -> None:
    assert set(logs.Runs()) == {str(RUN), f"{RUN}/train", f"{RUN}/test"}
    for split in ("train", "test"):
        assert scalars(logs, f"{RUN}/{split}", "loss") == [(r.step, r.metrics[f"{split}/loss"]) for r in RESULTS]
    assert scalars(logs, str(RUN), "learning_rate") == [(10, 0.5), (20, 0.25)]


def test_tensorboard_has_the_picture_and_the_configuration(logs: EventMultiplexer) -> None:
    events = logs.GetAccumulator(str(RUN))
    assert "final" not in events.Tags()["tensors"]
    (picture,) = events.Tensors("samples")
    assert picture.step == 20
    width, height, encoded = tf.make_ndarray(picture.tensor_proto)
    pixels = tf.io.decode_png(encoded).numpy()
    assert pixels.shape[:2] == (int(height), int(width))
    assert (pixels[..., :3] == [255, 0, 0]).all()
    text = tf.make_ndarray(events.Tensors("config")[0].tensor_proto)
    assert "latent: 2" in text.item().decode()


def test_tensorboard_has_hyperparameters_without_paths_and_targets_the_main_ones_first(logs: EventMultiplexer) -> None:
    content = logs.SummaryMetadata(str(RUN), "_hparams_/session_start_info").plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert session.group_name == ""  # It is shown as the run is.
    values = {name: value.number_value or value.string_value for name, value in session.hparams.items()}
    # Of a key that other runs may have another kind of value for, text; a number that is none is left out.
    assert values == {
        **{" latent": 2, " loss": "vae", " model": "mine.Model", " schedule": "mine", " method": "beta_vae"},
        **{"loss.kl_weight": 1.5, "loss.mine": "1", "dataset.labels": "null", "model.filters": "8"},
        "hardware.precision": "float32",
    }
    assert sorted(values)[:5] == [" latent", " loss", " method", " model", " schedule"]


def test_hparams_has_the_loss_and_beside_it_what_was_evaluated(tmp_path: Path) -> None:
    with TensorBoard(RunPaths(tmp_path / "run")) as board:
        board.configuration({"latent": 2}, {})
        board.epoch(RESULTS[0])

    def metrics() -> set[tuple[str, str]]:
        backend = Context(TBContext(data_provider=MultiplexerDataProvider(read(tmp_path), str(tmp_path))))
        asked = RequestContext()
        given = backend.hparams_from_data_provider(asked, "", limit=None)
        shown = backend.experiment_from_metadata(asked, "", True, backend.hparams_metadata(asked, ""), given)
        return {(metric.name.tag, metric.name.group) for metric in shown.metric_infos}

    losses = {("loss", "train"), ("loss", "test"), ("learning_rate", "")}
    assert metrics() == losses
    write_evaluation(tmp_path / "run", 10, {"nll": 90.0})
    assert metrics() == {*losses, ("evaluation/nll", "")}


def test_tensorboard_goes_on_after_the_last_step_that_is_kept(tmp_path: Path) -> None:
    with TensorBoard(RunPaths(tmp_path)) as board:
        board.configuration({"latent": 2}, {})
        for result in RESULTS:
            board.epoch(result)
        board.figure("samples", Figure(figsize=(1, 1)), RESULTS[1])
    # TensorBoard reads files in the order of their names, which begin with the second in which they were opened.
    time.sleep(1)
    with TensorBoard(RunPaths(tmp_path), [RESULTS[0].row]) as board:
        board.epoch(EpochResult(2, 20, {"train/loss": 2.0}))
    logs = read(tmp_path)
    assert scalars(logs, "train", "loss") == [(10, 3.5), (20, 2.0)]
    assert scalars(logs, "test", "loss") == [(10, 4.25)]
    assert "samples" not in logs.GetAccumulator(".").Tags()["tensors"]
    assert "config" in logs.GetAccumulator(".").Tags()["tensors"]


def test_a_run_whose_events_are_where_an_earlier_version_wrote_them_has_all_its_metrics(tmp_path: Path) -> None:
    with TensorBoard(RunPaths(tmp_path / "tensorboard")) as before:
        before.epoch(RESULTS[0])
    write_evaluation(tmp_path, 10, {"active_units": 2.0})  # before it is resumed
    with TensorBoard(RunPaths(tmp_path), [RESULTS[0].row]) as board:
        board.epoch(RESULTS[1])
    assert scalars(read(tmp_path), "test", "loss") == [(10, 4.25), (20, 3.25)]


def test_the_projector_has_2000_embeddings_with_their_classes_and_pictures(tmp_path: Path) -> None:
    rng, stub = np.random.default_rng(0), Mock()
    images, labels = rng.integers(0, 256, (2100, 64, 32, 3), np.uint8), rng.integers(0, 2, 2100)
    images[:, :, :, 0] = np.arange(2100)[:, None, None] % 256  # by which a thumbnail is known
    trained = Trained(stub, Split(images, labels), ["a\tshirt", "b"], [], 1, 0)
    trained.__dict__["posterior"] = {"mean": rng.normal(size=(2100, 3)).astype(np.float32)}
    write_projector(RunPaths(tmp_path), trained)

    (embedding,) = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    found = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(found, trained.posterior["mean"][:2000], rtol=1e-4)
    names = (tmp_path / embedding.metadata_path).read_text().splitlines()
    assert names == [("a shirt", "b")[label] for label in labels[:2000]]
    assert list(embedding.sprite.single_image_dim) == [16, 32]
    sprite = np.asarray(Image.open(tmp_path / embedding.sprite.image_path))
    assert sprite.shape == (45 * 32, 45 * 16, 3)
    for number in (0, 44, 45, 1999):
        top, left = number // 45 * 32, number % 45 * 16
        assert (sprite[top : top + 32, left : left + 16, 0] == number % 256).all()


def test_a_run_has_the_projector_of_its_test_images_where_tensorboard_looks_for_it(finished_run: Path) -> None:
    plugin = ProjectorPlugin(TBContext(data_provider=Mock(list_runs=lambda *_, **__: []), logdir=str(finished_run)))
    plugin._update_configs()
    (config,) = plugin._configs.values()
    (embedding,) = config.embeddings
    assert list(embedding.tensor_shape) == [359, 3]  # all test images of the digits, and a zero beside two dimensions
    assert len((finished_run / embedding.metadata_path).read_text().splitlines()) == 359


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
            trackers.configuration({}, {})
            trackers.progress(Progress(1, 2, {}, 3.0))
            trackers.epoch(RESULTS[0])
            trackers.figure("samples", Figure())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert taken == [("a", 1), ("b", 1), ("b", "closed"), ("a", "closed")]


def test_a_runs_pictures_are_at_the_steps_of_its_table(finished_run: Path) -> None:
    events = read(finished_run).GetAccumulator(".")
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
