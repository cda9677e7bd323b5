"""One run over many devices computes what it computes on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("replicas", "marked", "tests"),
    [
        ("2", "not slow", ""),
        pytest.param("2", "slow", "", marks=pytest.mark.slow),
        # Of four, some get more images than others, or a batch has fewer: nothing else depends on how many there are.
        pytest.param("4", "not slow", "over_an_epoch", marks=pytest.mark.slow),
    ],
)
def test_many_devices_compute_what_one_computes(replicas: str, marked: str, tests: str) -> None:
    """Run `on_four_devices.py` in a process in which TensorFlow begins anew."""
    file = Path(__file__).with_name("on_four_devices.py")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", marked, "-k", tests, "-p", "no:cacheprovider", file],
        cwd=REPOSITORY, env={**os.environ, "VAE_RUNNER_TEST_REPLICAS": replicas}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]
