"""What a run promises holds for every posterior, prior, likelihood and loss: runs `axis_values.py` in processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PARTS = 2  # of the runs that together have every component: a process each


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_resuming_replicas_xla_bfloat16_models_samples_and_figures_work_for_every_component(part: int) -> None:
    file = Path(__file__).with_name("axis_values.py")
    # XLA takes longest to compile: what it computes is the same where LLVM does not make it fast.
    environment = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", "-p", "no:cacheprovider", file],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, "VAE_RUNNER_TEST_PART": f"{part}/{PARTS}", **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]
