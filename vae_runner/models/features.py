"""Feature spaces in which images are compared: a name, and a network that maps images to features.

None is downloaded. `classifier` is a small network trained on the labels of the training split (as the authors of the
Fréchet distance advise for images that are not like ImageNet's): values compare only within one such network, which its
hash names. `random` is the same network before training (Naeem et al., 2020, recommend random features far from
ImageNet). A Keras file of the user's is the third. Evaluation compares samples with real images in them, and a loss may
compare reconstructions.

Samples are rounded to 8 bits, as real images are: what a metric sees of both is made in the same way.
"""

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from vae_runner.config.composition import CLASSIFIER, RANDOM
from vae_runner.datasets.dataset import Images
from vae_runner.errors import UserError, first_line

Pixels = NDArray[np.uint8]  # [n, height, width, channels]
Labels = NDArray[np.integer]  # [n]
Shape = tuple[int, int, int]  # of an image

FEATURES = 64
WIDTHS = (32, 64)  # of the first convolution, and of all further ones
SMALLEST_SIDE = 4  # pixels: convolutions halve an image until its smaller side is about this
STEPS = 1500
BATCH = 128
LEARNING_RATE = 2e-3  # at the start; it falls to 0 as a cosine
PASSED_AT_ONCE = 64  # images; always as many, so that a feature does not depend on what is passed beside it


@dataclass(frozen=True)
class FeatureSpace:
    """A network that maps images to features, and what must be said beside a number made with it."""

    name: str  # classifier, random, or the file
    network: keras.Model  # float32 images in [0, 1] → [n, …]
    weights_hash: str  # of the weights: the first 16 hexadecimal digits of SHA-256
    accuracy: float | None = None  # of the classifier, on the test split

    def __call__(self, pixels: Images) -> NDArray[np.float32]:
        """Return the features of uint8 images, `[n, d]`; these need not be in memory, nor come all at once.

        Raises:
            UserError: the images are not uint8, or of another shape than the network takes.
        """
        if pixels.dtype != np.uint8:
            raise UserError(f"features are made of uint8 images, and these are {pixels.dtype}: round them first")
        (taken,) = (tuple(of.shape[1:]) for of in self.network.inputs)
        if not _fits(tuple(pixels.shape[1:]), taken):
            raise UserError(f"feature space {self.name} takes images of {taken}, and these are {pixels.shape[1:]}")
        parts = []
        for start in range(0, max(len(pixels), 1), PASSED_AT_ONCE):
            batch = np.asarray(pixels[start : start + PASSED_AT_ONCE])
            padding = np.zeros((PASSED_AT_ONCE - len(batch), *batch.shape[1:]), np.uint8)
            parts.append(self._compiled(tf.constant(np.concatenate([batch, padding]))).numpy()[: len(batch)])
        return np.concatenate(parts)

    @cached_property
    def _compiled(self) -> Callable[[tf.Tensor], tf.Tensor]:
        @tf.function(autograph=False)
        def features(pixels: tf.Tensor) -> tf.Tensor:
            outputs = self.network(tf.cast(pixels, tf.float32) / 255.0, training=False)
            return tf.cast(tf.reshape(outputs, [PASSED_AT_ONCE, -1]), tf.float32)

        return features


def to_pixels(images: ArrayLike) -> Pixels:
    """Return images in [0, 1] rounded to 8 bits, as they would be stored; what is outside is clipped.

    Raises:
        UserError: a value is not finite.
    """
    images = np.asarray(images)
    if not np.isfinite(images).all():
        raise UserError(
            "images have values that are not finite (NaN or infinity), so they have no features: see whether the "
            "model's weights are finite"
        )
    return np.rint(np.clip(images, 0, 1) * np.float32(255)).astype(np.uint8)


def classifier_features(
    train: Images,
    train_labels: Labels,
    test: Images,
    test_labels: Labels,
    *,
    steps: int = STEPS,
    seed: int = 0,
    report: Callable[[float], None] = lambda done: None,
) -> FeatureSpace:
    """Train a classifier of the labels, and return its penultimate layer: 64 features, with its test accuracy.

    `report` is called with the fraction done. The global random state is neither used nor changed.

    Raises:
        UserError: there are no images or labels, or fewer than two classes.
    """
    classes = np.unique(train_labels)
    if len(train) == 0 or len(train) != len(train_labels):
        raise UserError(
            f"a classifier needs a label for each training image, and there are {len(train):,} images and "
            f"{len(train_labels):,} labels: choose features that need none"
        )
    if len(classes) < 2:
        raise UserError(
            "all training images are of one class, so that no classifier can be trained: choose features that need no "
            "labels"
        )
    targets = np.searchsorted(classes, train_labels)
    body, classifier = _networks((train.shape[1], train.shape[2], train.shape[3]), len(classes), seed)
    step = _training_step(classifier, steps)
    rng = np.random.default_rng(seed)
    size = min(BATCH, len(train))
    order = np.zeros(0, np.intp)
    for number in range(steps):
        if len(order) < size:
            order = rng.permutation(len(train))
        # Sorted, because images that are in a file are read faster so; a batch's order is of no account.
        chosen, order = np.sort(order[:size]), order[size:]
        step(tf.constant(np.asarray(train[chosen])), tf.constant(targets[chosen]))
        report((number + 1) / steps)
    logits = FeatureSpace(CLASSIFIER, classifier, "")
    accuracy = float(np.mean(classes[logits(test).argmax(axis=1)] == test_labels)) if len(test) else None
    return FeatureSpace(CLASSIFIER, body, weights_hash(body), accuracy)


def random_features(image_shape: Shape, *, seed: int = 0) -> FeatureSpace:
    """Return the features of a classifier that is not trained: 64 of each image."""
    body, _ = _networks(image_shape, 2, seed)
    return FeatureSpace(RANDOM, body, weights_hash(body))


def file_features(key: str, file: str, image_shape: Shape) -> FeatureSpace:
    """Return what a Keras model of the user's makes of images with pixels in [0, 1], flattened.

    Raises:
        UserError: `read_network` refuses it, or it gives several outputs.
    """
    model = read_network(key, file, image_shape)
    if len(model.outputs) != 1:
        raise UserError(f"{key}={file} gives {len(model.outputs)} outputs: give a model with one, the features")
    return FeatureSpace(Path(file).name, model, weights_hash(model))


def read_network(key: str, file: str, image_shape: Shape) -> keras.Model:
    """Return the Keras model in the file that the configuration's `key` names, which is not to be trained.

    Raises:
        UserError: there is no model in the file, it needs code of its own, or it does not take images of this shape.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={file}: there is no such file: give a model that Keras has saved")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{key}={file} cannot be read ({first_line(error)}): give a .keras file, as model.save writes it, of a "
            "model of Keras's own layers"
        ) from error
    taken = [tuple(of.shape[1:]) for of in model.inputs]
    if len(taken) != 1 or not _fits(image_shape, taken[0]):
        raise UserError(
            f"{key}={file} takes {' and '.join(map(str, taken))}, and the images are {image_shape}: give a model whose "
            "one input is such an image, with pixels in [0, 1]"
        )
    model.trainable = False
    return model


def weights_hash(network: keras.Model) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a network's weights, in their order."""
    digest = hashlib.sha256()
    for value in network.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def _networks(image_shape: tuple[int, ...], classes: int, seed: int) -> tuple[keras.Model, keras.Model]:
    """Return the network up to its penultimate layer, and the whole one, which gives logits."""
    seeds = iter(np.random.SeedSequence(seed).generate_state(64))

    def options() -> dict[str, object]:
        # float32 whatever the run's precision is: a metric does not depend on that.
        return {"kernel_initializer": keras.initializers.HeNormal(int(next(seeds))), "dtype": "float32"}

    x = inputs = keras.Input(image_shape, dtype="float32")
    width = WIDTHS[0]
    while True:
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", activation="relu", **options())(x)
        width = WIDTHS[1]
        if min(x.shape[1:3]) < 2 * SMALLEST_SIDE:
            break
    x = keras.layers.Flatten(dtype="float32")(x)
    x = keras.layers.Dense(FEATURES, activation="relu", **options())(x)
    return keras.Model(inputs, x), keras.Model(inputs, keras.layers.Dense(classes, **options())(x))


def _training_step(network: keras.Model, steps: int) -> Callable[[tf.Tensor, tf.Tensor], None]:
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(network.trainable_variables)

    @tf.function(autograph=False)
    def step(pixels: tf.Tensor, targets: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = network(tf.cast(pixels, tf.float32) / 255.0, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)

    return step


def _fits(image_shape: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    """Return whether a model that takes this shape, None for any number, takes images."""
    return len(taken) == 3 and all(of in (side, None) for side, of in zip(image_shape, taken, strict=True))
