"""Train variational autoencoders on images: see `vae-run --help`, or `vae_runner.run` for one run, top to bottom.

From Python, `vae_runner.api` is most of what there is to know; the names below are imported when they are asked for.
"""

import importlib
import os
import sys
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
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's
MODULES = {"UserError": "errors", "runs": "storage.catalog"}  # of which neither needs TensorFlow

if TYPE_CHECKING:
    from vae_runner.api import Run, load, train
    from vae_runner.errors import UserError
    from vae_runner.storage.catalog import runs
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in MODULES:
            return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
        return getattr(_api(), name)

    def _api() -> object:
        """Return the module `api`; of TensorFlow's notes on how it was built show none, unless they are asked for."""
        if "tensorflow" in sys.modules or os.environ.get(LOG_LEVEL):
            return importlib.import_module(f"{__name__}.api")
        before = os.environ.get(LOG_LEVEL)  # which may be empty
        os.environ[LOG_LEVEL] = "2"
        try:
            with importlib.import_module(f"{__name__}.runtime.console").native_stderr_to_log():
                module = importlib.import_module(f"{__name__}.api")
                sys.modules["tensorflow"].config.list_physical_devices()  # else its notes on GPUs come with first use
        finally:
            os.environ.pop(LOG_LEVEL, None)
            if before is not None:
                os.environ[LOG_LEVEL] = before
        return module

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
