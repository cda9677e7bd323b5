"""What the tests of the installed commands share."""

from pathlib import Path

import pytest

TELLS = """\
import json, os
from pathlib import Path
from vae_runner.losses.elbo import Elbo
class Mine(Elbo):
    def __init__(self, behaviour=""):
        super().__init__()
        told = {name: os.environ.get(name) for name in ("TF_NUM_INTRAOP_THREADS", "CUDA_VISIBLE_DEVICES")}
        Path(f"process_{os.getpid()}.json").write_text(json.dumps(told))
        if behaviour == "fails":
            raise RuntimeError("a fault of mine")
        if behaviour == "dies":
            os.kill(os.getpid(), 9)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a loss of the user's own, which tells of its process, and can fail, or kill it."""
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: my_loss.Mine\nbehaviour: good\n")
    (tmp_path / "my_loss.py").write_text(TELLS)
    return tmp_path
