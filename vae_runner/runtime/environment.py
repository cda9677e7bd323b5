"""Environment variables and settings that are meant for other programs, or for other uses of our libraries."""

import os

from vae_runner.errors import UserError

# The configuration decides these (hardware.deterministic, hardware.xla), or they would give us another Keras.
REMOVED = (
    *("TF_DETERMINISTIC_OPS", "TF_FUNCTION_JIT_COMPILE_DEFAULT", "TF_USE_LEGACY_KERAS"),
    *("KERAS_NNX_ENABLED", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"),
)
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
EMPTY_IS_UNSET = (*THREADS, "VAE_RUNNER_DATA", "TF_CPP_MIN_LOG_LEVEL")
MAX_THREADS = 1024  # as for hardware.intra_op_threads


def prepare() -> None:
    """Set this process's environment as our libraries need it, before they are imported."""
    empty = {name for name in EMPTY_IS_UNSET if not os.environ.get(name)}
    if os.environ.get("COLUMNS", "").strip() in ("", "0"):  # In no columns rich writes nothing at all.
        empty.add("COLUMNS")
    for name in (*REMOVED, *empty):
        os.environ.pop(name, None)
    os.environ["MPLBACKEND"] = "agg"  # Our figures go into files; a notebook's backend may not be installed here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notes on how TensorFlow was built


def check() -> None:
    """Refuse invalid numbers of threads: TensorFlow ignores some of them, and aborts with others."""
    for name in THREADS:
        given = os.environ.get(name, "0")
        if not (given.isascii() and given.isdecimal() and int(given) <= MAX_THREADS):
            raise UserError(f"{name}={given}: must be a whole number from 0 (all cores) to {MAX_THREADS}; or unset it")


def threads() -> int:
    """Return how many threads this process has for its own work: its share, where runs share a machine."""
    return int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or os.cpu_count() or 1
