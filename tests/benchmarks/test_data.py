"""The benchmark of data calls the program as it is."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SMALL = """
import sys
from pathlib import Path
from benchmarks import data
data.SIDE, data.WAITING_STEPS = 16, 3
for keys in (["latent=200"], ["method=kl_autoencoder", "model.widths=[4,8]"]):
    measure = data.waiting(4, ["dataset=cartoon", *keys])
    print(measure(Path(), Path(sys.argv[1]))["step_seconds"])
"""


@pytest.mark.slow
def test_waiting_is_measured_beside_the_step_that_trains(tmp_path: Path) -> None:
    np.zeros((3 * 4, 16, 16, 3), np.uint8).tofile(tmp_path / "stored.u8")
    output = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert [float(seconds) > 0 for seconds in output.split()] == [True, True]
