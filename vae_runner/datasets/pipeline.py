"""From a split's images to the batches of an epoch."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Images, Labels

RESIDENT_BYTES = 1 << 30  # An array up to this size is copied to each device.
READ_AHEAD = 4  # batches
IN_TRANSIT = 2  # of them, which a strategy holds on their way to the devices
READ_AHEAD_BYTES = 256 << 20  # for all of them; larger batches are fewer, and at least one


class Share(NamedTuple):
    """What one replica gets of a batch: a contiguous piece of it.

    A batch of fewer images than replicas goes to each replica in full, with smaller weights: the step could not compute
    with no images.
    """

    content: tf.Tensor  # the images, uint8, or the int64 indices of resident ones
    first: tf.Tensor  # int64, the place of the first one in the batch
    weight: tf.Tensor  # float64, how many images they count for; the sum over all replicas is `batch`
    batch: tf.Tensor  # int64, the number of images in the batch
    labels: tf.Tensor  # int64, one an image; empty where there are none


class Batches:
    """The images of a split in batches, of which the last may be smaller.

    An iterator yields a `Share`, of which `images` makes uint8 images inside the compiled step. An array in memory is
    resident: each device has a copy, shares are indices, and the step gathers. Other images are streamed: shares are
    the images, read and copied to their device ahead of the step; each process reads those of its own replicas.

    The order of an epoch is a function of `(seed, epoch)` alone; without a seed it is that of the images.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int | None = None,
        strategy: tf.distribute.Strategy | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.count = len(images)
        self.batch_size = batch_size
        self._images = images
        self._labels = labels
        self._seed = seed
        self._strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
        self._resident: list[tf.Variable] = []
        if type(images) is np.ndarray and images.nbytes <= RESIDENT_BYTES:
            self._resident = [_on_device(images, device) for device in self._strategy.extended.worker_devices]

    @property
    def steps(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.count // self.batch_size)

    def shares(self, epoch: int = 0, first: int = 0) -> Iterator[Share]:
        """Yield the shares from batch number `first` of `epoch` on, one epoch after the other, without an end.

        One iterator is enough for a run; TensorFlow takes a tenth of a second to make one.
        """
        return iter(
            self._strategy.distribute_datasets_from_function(lambda context: self._dataset(epoch, first, context))
        )

    def images(self, share: Share) -> tf.Tensor:
        """Return the images of a share: uint8 `[images, height, width, channels]`."""
        if not self._resident:
            return share.content
        replica = int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))
        return tf.gather(self._resident[replica % len(self._resident)], share.content)

    def labels(self, share: Share) -> tf.Tensor | None:
        """Return the labels of a share, int64 `[images]`; None where the split has none."""
        return None if self._labels is None else share.labels

    # Its functions are traced for each dataset anew, and need no AutoGraph, which would rewrite them each time.
    @tf.autograph.experimental.do_not_convert
    def _dataset(self, epoch: int, first: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """Return the shares of this process's replicas, in turn."""
        replicas = context.num_replicas_in_sync
        own = replicas // context.num_input_pipelines

        def shares_of(number: tf.Tensor) -> tf.data.Dataset:
            order = tf.ensure_shape(tf.numpy_function(self._order, [number], tf.int64, stateful=False), [self.count])
            begin = tf.where(number == epoch, tf.constant(first * own, tf.int64), 0)
            return tf.data.Dataset.range(begin, self.steps * own).map(
                lambda place: self._share(order, place // own, own * context.input_pipeline_id + place % own, replicas)
            )

        ahead = self._read_ahead()
        shares = tf.data.Dataset.range(epoch, tf.int64.max).flat_map(shares_of)
        # Else a strategy would have all replicas ask each other before each step whether there is another.
        shares = shares.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        if not self._resident:
            shares = shares.map(self._read, num_parallel_calls=min(2, ahead), deterministic=True)
        options = tf.data.Options()
        options.autotune.enabled = False  # With nothing to tune, it has a thread that the process would wait for.
        shares = shares.with_options(options)
        return shares.prefetch((ahead - IN_TRANSIT) * own) if ahead > IN_TRANSIT else shares

    def _order(self, epoch: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._seed is None:
            return np.arange(self.count)
        return np.random.default_rng([self._seed, int(epoch)]).permutation(self.count)

    def _share(self, order: tf.Tensor, step: tf.Tensor, replica: tf.Tensor, replicas: int) -> Share:
        """Return a replica's share of a batch."""
        begin = step * self.batch_size
        batch = tf.minimum(self.count - begin, self.batch_size)
        shared = batch >= replicas
        low = tf.where(shared, batch * replica // replicas, 0)
        high = tf.where(shared, batch * (replica + 1) // replicas, batch)
        weight = tf.where(shared, tf.cast(high - low, tf.float64), batch / replicas)
        chosen = order[begin + low : begin + high]
        labels = chosen[:0] if self._labels is None else tf.gather(self._labels, chosen)
        return Share(chosen, low, weight, batch, labels)

    def _read_ahead(self) -> int:
        """Return how many batches to read ahead of the step."""
        if self._resident:
            return READ_AHEAD
        batch_bytes = self.batch_size * math.prod(self._images.shape[1:])
        return min(max(READ_AHEAD_BYTES // batch_bytes, 1), READ_AHEAD)

    def _read(self, share: Share) -> Share:
        images = tf.numpy_function(
            lambda chosen: np.asarray(self._images[chosen]), [share.content], tf.uint8, stateful=False
        )
        return share._replace(content=tf.ensure_shape(images, (None, *self._images.shape[1:])))


def _on_device(images: NDArray[np.uint8], device: str) -> tf.Variable:
    # A GPU gathers uint8 from variables only: it would fetch a constant's images from the host in each step. It is one
    # variable a device, because a strategy's own would be sent to every machine.
    with tf.device(device):
        return tf.Variable(tf.constant(images), trainable=False)
