"""Keras 3.15: variables without memory, gradients that are sums already, settings of other programs, a warning.

Nothing here imports Keras before it is needed: the last two come before that.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@contextmanager
def unallocated() -> Iterator[None]:
    """Let variables made inside have shapes, but no values; they get them at the end, unless what is inside fails.

    A network may be too large for the machine, which is to be said before its memory is taken. A `StatelessScope` puts
    values off; there is no public way to give up variables that wait for them.
    """
    import keras
    from keras.src.backend.common import global_state

    with keras.StatelessScope():
        try:
            yield
        except BaseException:
            global_state.set_global_attribute("uninitialized_variables", [])
            raise


def sums_no_gradients(optimizer: "keras.optimizers.Optimizer") -> None:
    """Let a Keras optimizer take gradients that are already sums over the replicas.

    Keras sums them itself, but only after it has clipped them and looked for numbers that are not finite: what it then
    does depends on how many replicas there are.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


@contextmanager
def without_settings_file() -> Iterator[None]:
    """Import Keras inside: it finds no keras.json, whose defaults are for other programs, and which may be broken.

    Keras reads that file when it is imported, and has no switch for it: KERAS_HOME names the folder that it is in.
    """
    home = os.environ.get("KERAS_HOME")
    os.environ["KERAS_HOME"] = os.devnull
    try:
        yield
    finally:
        if home is None:
            del os.environ["KERAS_HOME"]
        else:
            os.environ["KERAS_HOME"] = home


def ignore_warning_of_import() -> None:
    """Keep a warning that importing Keras may give out of the logs of runs.

    Up to 3.15.0 Keras looks for a name in NumPy, about which NumPy warns. As a line of a log that would also keep a
    folder in which nothing else has been written.
    """
    warnings.filterwarnings("ignore", r".*`np\.object`", FutureWarning, r"keras\.src\.export")
