"""Losses of a batch's statistics: several replicas compute what one device does."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.parametrize("marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_two_replicas_take_the_statistics_of_the_whole_batch(marked: str) -> None:
    """Run `on_two_devices.py` in a process in which TensorFlow begins anew."""
    file = Path(__file__).with_name("on_two_devices.py")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", marked, "-p", "no:cacheprovider", file],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]
