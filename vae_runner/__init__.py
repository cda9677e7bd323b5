"""Train variational autoencoders on images: see `vae-run --help`, or `vae_runner.run` for one run, top to bottom.

From Python, `vae_runner.api` is most of what there is to know; the names below are imported when they are asked for.
"""

import importlib
import os
import time
from typing import TYPE_CHECKING

STARTED = time.time()  # when the command did, but for Python itself

# Our networks and compiled loops are TensorFlow's. Keras reads this once, when it is first imported, and would
# otherwise follow whatever ~/.keras/keras.json says.
os.environ["KERAS_BACKEND"] = "tensorflow"

# oneDNN's convolutions are faster than TensorFlow's own also on the x86 CPUs on which TensorFlow leaves them off by
# default (those without AVX-512 VNNI). TensorFlow reads this when it is first imported.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = os.environ.get("TF_ENABLE_ONEDNN_OPTS") or "1"

__version__ = "0.2.0"

__all__ = ["Run", "UserError", "load", "runs", "train"]
MODULES = {"UserError": "errors", "runs": "storage.catalog"}  # of which neither needs TensorFlow

if TYPE_CHECKING:
    from vae_runner.api import Run, load, train
    from vae_runner.errors import UserError
    from vae_runner.storage.catalog import runs
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{MODULES.get(name, 'api')}"), name)
