"""From a split's images to the batches of an epoch."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

RESIDENT_BYTES = 1 << 30  # an array up to this size is handed to TensorFlow whole
READ_AHEAD = 4  # batches
READ_AHEAD_BYTES = 256 << 20  # what they may take; beyond it there are fewer, and at least one


class Batches:
    """The images of a split in batches, the last one smaller where they do not divide.

    What an iterator yields is an *element*; inside the compiled step, `images` makes uint8 images of it. An array in
    memory is resident: it lies on the device once, elements are indices, and the step gathers. Anything else (images in
    a file) is streamed: elements are the images, read and brought to the device ahead of the step, in the background.

    The order of an epoch is a function of `(seed, epoch)` alone; without a seed it is that of the images.
    """

    def __init__(self, images: Any, batch_size: int, seed: int | None = None) -> None:
        self.count = len(images)
        self.batch_size = batch_size
        self._images = images
        self._seed = seed
        self._resident = None
        if type(images) is np.ndarray and images.nbytes <= RESIDENT_BYTES:
            # A variable, because uint8 is gathered on a GPU from variables only; a constant's images would come from
            # the host step by step.
            self._resident = tf.Variable(tf.constant(images), trainable=False)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.count // self.batch_size)

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[tf.Tensor]:
        """The elements of one epoch, counted from 0, from batch number `first` on."""
        order = np.arange(self.count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, epoch]).permutation(self.count)
        ahead = self._read_ahead()
        elements = tf.data.Dataset.from_tensor_slices(order[first * self.batch_size :]).batch(self.batch_size)
        if self._resident is None:
            elements = elements.map(self._read, num_parallel_calls=min(2, ahead), deterministic=True)
        options = tf.data.Options()
        options.autotune.enabled = False  # nothing is left to it, and its thread is waited for at the end of an epoch
        elements = elements.with_options(options)
        if tf.config.list_logical_devices("GPU"):  # on a CPU this would only copy
            return iter(elements.apply(tf.data.experimental.prefetch_to_device("/gpu:0", ahead)))
        return iter(elements.prefetch(ahead))

    def images(self, element: tf.Tensor) -> tf.Tensor:
        """The images of an element: uint8 `[batch, height, width, channels]`."""
        return element if self._resident is None else tf.gather(self._resident, element)

    def _read_ahead(self) -> int:
        """How many batches to read before they are asked for."""
        if self._resident is not None:
            return READ_AHEAD
        batch_bytes = self.batch_size * math.prod(self._images.shape[1:])
        return min(max(READ_AHEAD_BYTES // batch_bytes, 1), READ_AHEAD)

    def _read(self, indices: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(lambda chosen: np.asarray(self._images[chosen]), [indices], tf.uint8, stateful=False)
        return tf.ensure_shape(images, (None, *self._images.shape[1:]))
