"""Networks whose weights take no memory until it is known that there is enough."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras.src.backend.common import global_state  # there is no public way to give up variables that wait for values


@contextmanager
def unallocated() -> Iterator[None]:
    """Let variables made inside have shapes, but no values; they get them at the end, unless what is inside fails."""
    with keras.StatelessScope():
        try:
            yield
        except BaseException:
            global_state.set_global_attribute("uninitialized_variables", [])
            raise
