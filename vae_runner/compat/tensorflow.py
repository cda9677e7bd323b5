"""Custom gradients, and what TensorFlow keeps because of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from tensorflow.python.framework import ops  # there is no public way to the registry


@contextmanager
def forgotten() -> Iterator[None]:
    """Forget, at the end, the custom gradients of what was traced inside.

    Each `tf.custom_gradient` in a traced function is registered by a name of its own for as long as the process lives,
    and with it the whole graph, some megabytes: a sweep would grow by that with every run. tf.distribute uses them too,
    to sum gradients over replicas.
    """
    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in registry.keys() - before:
            if name.startswith("CustomGradient-"):
                del registry[name]
