"""One run over many devices computes what it computes on one."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import REPOSITORY
from vae_runner.datasets import pipeline
from vae_runner.datasets.pipeline import Batches


@pytest.mark.parametrize("replicas", ["2", "4"])
def test_many_devices_compute_what_one_computes(replicas: str) -> None:
    """All of `on_four_devices.py`, in a process in which TensorFlow begins anew."""
    file = Path(__file__).with_name("on_four_devices.py")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        cwd=REPOSITORY, env={**os.environ, "VAE_RUNNER_TEST_REPLICAS": replicas}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]


class Shelf:
    """Something that is indexed like an array, and remembers what was taken from it."""

    def __init__(self, count: int) -> None:
        self.shape = (count, 2, 2, 1)
        self.taken: list[int] = []

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        self.taken += chosen.tolist()
        return np.broadcast_to((chosen % 256).astype(np.uint8)[:, None, None, None], (len(chosen), *self.shape[1:]))


@pytest.mark.parametrize(("machines", "replicas"), [(1, 1), (1, 3), (2, 2), (2, 4), (3, 6)])
@pytest.mark.parametrize("count", [40, 41, 46])
def test_a_machine_reads_the_images_of_its_own_replicas_and_no_others(
    machines: int, replicas: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "READ_AHEAD_BYTES", 1)  # one batch after the other
    order = np.random.default_rng([0, 0]).permutation(count)
    own, steps = replicas // machines, -(-count // 10)
    shelves = [Shelf(count) for _ in range(machines)]
    found: dict[tuple[int, int], list[int]] = {}
    for machine, shelf in enumerate(shelves):
        batches = Batches(shelf, 10, 0)
        shares = batches._dataset(0, 0, tf.distribute.InputContext(machines, machine, replicas))
        for number, share in enumerate(shares.take(steps * own)):
            found[number // own, machine * own + number % own] = share.content[:, 0, 0, 0].numpy().tolist()
    for step in range(steps):
        batch = order[10 * step : 10 * (step + 1)].tolist()
        parts = [found[step, replica] for replica in range(replicas)]
        assert parts == [batch] * replicas if len(batch) < replicas else list(chain(*parts)) == batch
    for machine, shelf in enumerate(shelves):
        own_shares = [images for (_, replica), images in found.items() if replica // own == machine]
        assert shelf.taken[: sum(map(len, own_shares))] == list(chain(*own_shares))
