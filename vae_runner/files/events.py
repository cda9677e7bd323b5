"""What TensorFlow writes itself: TensorBoard's events, and profiles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from vae_runner.errors import UnwritableError, first_line


@contextmanager
def writing_events(path: Path) -> Iterator[None]:
    """Make what TensorFlow cannot write inside an `UnwritableError` that names `path`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise UnwritableError(f"{path} cannot be written ({first_line(error)})") from error
