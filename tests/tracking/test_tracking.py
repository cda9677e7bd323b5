import csv
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from vae_runner.tracking.metrics_table import MetricsTable
from vae_runner.tracking.tensorboard import TensorBoard
from vae_runner.training.outer import EpochResult

RESULTS = [
    EpochResult(1, 10, {"train/loss": 3.5, "test/loss": 4.25, "learning_rate": 0.5}),
    EpochResult(2, 20, {"train/loss": 2.5, "test/loss": 3.25, "learning_rate": 0.25}),
]


def test_the_table_has_a_row_an_epoch_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path)
    for count, result in enumerate(RESULTS, 1):
        table.add(result)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count
    assert rows[1] == {"epoch": "2", "step": "20", "train/loss": "2.5", "test/loss": "3.25", "learning_rate": "0.25"}
    assert table.rows[0]["epoch"] == 1


@pytest.fixture
def events(tmp_path: Path) -> EventAccumulator:
    with TensorBoard(tmp_path) as board:
        board.configuration(
            "latent: 2",
            OmegaConf.create(
                {
                    "latent": 2,
                    "loss": {"kl_weight": 1.5, "mine": 1},
                    "dataset": {"root": "x", "limit": None, "labels": None},
                    "model": {"filters": 8, "depth": "many"},
                    "figures": {"every": 5},
                }
            ),
            "trial",
        )
        for result in RESULTS:
            board.epoch(result)
        figure = Figure(figsize=(1, 1), facecolor="red")
        board.picture("samples", figure, 20)
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_every_metric_at_its_step(events: EventAccumulator) -> None:
    for name in RESULTS[0].metrics:
        points = [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(name)]
        assert points == [(r.step, r.metrics[name]) for r in RESULTS]


def test_tensorboard_has_the_picture_and_the_configuration(events: EventAccumulator) -> None:
    width, height, encoded = tf.make_ndarray(events.Tensors("samples")[0].tensor_proto)
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
    assert set(hparams) == {"latent", "loss.kl_weight", "loss.mine", "dataset.root", "dataset.labels", "model.filters"}
    assert np.isfinite(hparams["latent"].number_value)
