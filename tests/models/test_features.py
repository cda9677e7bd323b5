"""Feature spaces on the bundled digits: what they tell apart, and that a feature is a function of its image alone."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from tests.networks import build
from vae_runner.errors import UserError
from vae_runner.evaluation.frechet import frechet_distance
from vae_runner.evaluation.probes import principal_components
from vae_runner.losses.patch_gan import PatchGan
from vae_runner.models import mlp
from vae_runner.models.features import (
    FeatureSpace,
    classifier_features,
    file_features,
    random_features,
    to_pixels,
    weights_hash,
)

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
KEY = "evaluation.samples.features"
IMAGES, LABELS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(IMAGES))
TRAIN, TEST = ORDER[:898], ORDER[898:1796]
REAL, REAL_LABELS = IMAGES[TRAIN] / 16, LABELS[TRAIN]
OTHERS, OTHER_LABELS = IMAGES[TEST] / 16, LABELS[TEST]


def pixels(flat: Array) -> Pixels:
    return to_pixels(flat.reshape(-1, 8, 8, 1))


def noisy(scale: float) -> Array:
    return np.clip(OTHERS + scale * np.random.default_rng(1).normal(size=OTHERS.shape), 0, 1)


# The generated sets of a table of known distances from the real half: (pixels, 16 principal components).
SETS: dict[str, tuple[Array, float, float]] = {
    "floor": (OTHERS, 0.075, 0.041),
    "a little noise": (noisy(0.1), 0.179, 0.054),
    "much noise": (noisy(0.3), 1.350, 0.177),
    "blur": (gaussian_filter(OTHERS.reshape(-1, 8, 8), (0, 0.7, 0.7)).reshape(-1, 64), 1.595, 1.022),
    "two classes missing": (OTHERS[~np.isin(OTHER_LABELS, [3, 8])], 0.191, 0.142),
    "a Gaussian": (
        np.random.default_rng(2).multivariate_normal(REAL.mean(axis=0), np.cov(REAL, rowvar=False), 898),
        0.036,
        0.018,
    ),
}


@pytest.fixture(scope="module")
def classifier() -> FeatureSpace:
    return classifier_features(pixels(REAL), REAL_LABELS, pixels(OTHERS), OTHER_LABELS, steps=400)


@pytest.mark.parametrize("name", SETS)
def test_the_digits_have_their_known_distances_in_pixels_and_principal_components(name: str) -> None:
    # The known values are of one division into halves; others move them by less than 0.02 and a twentieth.
    generated, in_pixels, in_components = SETS[name]
    assert frechet_distance(generated, REAL) == pytest.approx(in_pixels, rel=0.05, abs=0.02)
    real_components, components = principal_components(REAL, generated, 16)
    assert frechet_distance(components, real_components) == pytest.approx(in_components, rel=0.05, abs=0.02)


def test_a_classifier_knows_worse_from_better_samples_where_pixels_do_not(classifier: FeatureSpace) -> None:
    assert classifier.accuracy == pytest.approx(0.976, abs=0.012)
    real = classifier(pixels(REAL))
    found = {name: frechet_distance(classifier(pixels(of)), real) for name, (of, _, _) in SETS.items()}
    assert found["floor"] == pytest.approx(0.8, abs=0.5)
    order = ["floor", "a little noise", "two classes missing", "much noise", "blur"]
    assert sorted(order, key=found.__getitem__) == order
    assert found["a Gaussian"] > 2 * found["floor"]
    in_pixels = {name: frechet_distance(of, REAL) for name, (of, _, _) in SETS.items()}
    assert in_pixels["a Gaussian"] < in_pixels["floor"]


def test_random_features_know_worse_from_better_samples() -> None:
    space = random_features((8, 8, 1))
    real = space(pixels(REAL))
    found = {name: frechet_distance(space(pixels(of)), real) for name, (of, _, _) in SETS.items()}
    order = ["floor", "a little noise", "two classes missing", "much noise", "blur"]
    assert sorted(order, key=found.__getitem__) == order
    assert found["a Gaussian"] > 2 * found["floor"]


def spaces(classifier: FeatureSpace) -> list[tuple[FeatureSpace, Pixels]]:
    rng = np.random.default_rng(0)
    return [
        (classifier, pixels(OTHERS)[:200]),
        (random_features((28, 28, 1)), rng.integers(0, 256, (150, 28, 28, 1), np.uint8)),
        (random_features((64, 48, 3)), rng.integers(0, 256, (70, 64, 48, 3), np.uint8)),
    ]


def test_a_feature_does_not_depend_on_the_images_beside_it(classifier: FeatureSpace) -> None:
    for space, images in spaces(classifier):
        features = space(images)
        assert features.shape == (len(images), 64)
        assert features.dtype == np.float32
        for size in (1, 7, 64, 65):
            some = images[: 3 * size]
            parts = [space(some[start : start + size]) for start in range(0, len(some), size)]
            np.testing.assert_array_equal(np.concatenate(parts), features[: len(some)])
        order = np.random.default_rng(1).permutation(len(images))
        np.testing.assert_array_equal(space(images[order]), features[order])
        assert space(images[:0]).shape == (0, 64)


def test_the_same_seed_gives_the_same_network_and_another_another(classifier: FeatureSpace) -> None:
    def trained(seed: int) -> str:
        keras.utils.set_random_seed(seed)
        data = pixels(REAL), REAL_LABELS, pixels(OTHERS), OTHER_LABELS
        return classifier_features(*data, steps=5, seed=seed // 2).weights_hash

    assert trained(0) == trained(1) != trained(2)
    hashes = [random_features((8, 8, 1), seed=seed).weights_hash for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 16
    assert classifier.weights_hash not in hashes


def test_training_leaves_the_global_random_state_and_reports_its_progress() -> None:
    np.random.seed(3)  # noqa: NPY002 (that is the state)
    done: list[float] = []
    data = pixels(REAL)[:50], REAL_LABELS[:50], pixels(OTHERS)[:0], OTHER_LABELS[:0]
    assert classifier_features(*data, steps=4, report=done.append).accuracy is None
    assert done == [0.25, 0.5, 0.75, 1]
    assert np.random.random() == np.random.RandomState(3).random()  # noqa: NPY002


@pytest.mark.slow
def test_labels_need_not_be_0_to_n(classifier: FeatureSpace) -> None:
    again = classifier_features(pixels(REAL), 7 * REAL_LABELS - 3, pixels(OTHERS), 7 * OTHER_LABELS - 3, steps=400)
    assert (again.weights_hash, again.accuracy) == (classifier.weights_hash, classifier.accuracy)


def test_features_are_in_float32_whatever_the_precision_of_the_run() -> None:
    images = pixels(OTHERS)[:10]
    expected = random_features((8, 8, 1))(images)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        np.testing.assert_array_equal(random_features((8, 8, 1))(images), expected)
    finally:
        keras.config.set_dtype_policy(policy)


def test_samples_are_rounded_to_8_bits() -> None:
    np.testing.assert_array_equal(
        to_pixels([-0.1, 0, 0.49 / 255, 0.51 / 255, 127.4 / 255, 1, 1.5]), [0, 0, 0, 1, 127, 255, 255]
    )
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_pixels(every / np.float32(255)), every)
    with pytest.raises(UserError, match="not finite"):
        to_pixels([0.5, np.nan])


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """Saves a model of some layers, and returns its path."""

    def save(*layers: keras.Layer, shape: tuple[int | None, ...] = (8, 8, 1)) -> str:
        model = keras.Sequential([keras.Input(shape), *layers])
        model.save(tmp_path / "of mine.keras")
        return str(tmp_path / "of mine.keras")

    return save


def test_a_keras_file_gives_features(saved: Callable[..., str]) -> None:
    space = file_features(KEY, saved(keras.layers.AveragePooling2D(4)), (8, 8, 1))
    images = pixels(OTHERS)[:70]
    means = OTHERS[:70].reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4)
    np.testing.assert_allclose(space(images), means, atol=3e-3)
    assert space.name == "of mine.keras"
    assert space(images[:0]).shape == (0, 4)
    convolved = file_features(
        KEY, saved(keras.layers.Conv2D(3, 3), keras.layers.GlobalMaxPooling2D(), shape=(None, None, 1)), (8, 8, 1)
    )
    assert convolved(images).shape == (70, 3)
    assert convolved.weights_hash == weights_hash(convolved.network)


@pytest.mark.parametrize("key", ["evaluation.samples.features", "loss.perceptual_model"])
def test_a_file_of_no_such_network_is_refused_alike_whichever_key_names_it(
    key: str, saved: Callable[..., str], tmp_path: Path
) -> None:
    def refused(file: str, shape: tuple[int, int, int] = (8, 8, 1)) -> str:
        loss, networks = PatchGan(perceptual_model=file), build(shape, model=mlp, width=8)
        with pytest.raises(UserError) as error:
            _ = file_features(key, file, shape) if key == KEY else loss.players(networks)
        assert str(error.value).startswith(f"{key}={file}")
        return str(error.value)

    assert "no such file" in refused(str(tmp_path / "none.keras"))
    (tmp_path / "bad.keras").write_bytes(b"no model")
    assert "cannot be read" in refused(str(tmp_path / "bad.keras"))
    assert "cannot be read" in refused(saved(keras.layers.Lambda(lambda x: x + 1)))
    assert "takes (8, 8, 1), and the images are (8, 8, 3)" in refused(saved(keras.layers.Flatten()), (8, 8, 3))


def test_what_is_no_feature_space_is_refused_in_one_line(tmp_path: Path) -> None:
    images = keras.Input((8, 8, 1))
    keras.Model(images, [keras.layers.Flatten()(images)] * 2).save(tmp_path / "two.keras")
    with pytest.raises(UserError, match="gives 2 outputs: give a model with one"):
        file_features(KEY, str(tmp_path / "two.keras"), (8, 8, 1))
    space = random_features((8, 8, 1))
    with pytest.raises(UserError, match=r"takes images of \(8, 8, 1\), and these are \(8, 9, 1\)"):
        space(np.zeros((2, 8, 9, 1), np.uint8))
    with pytest.raises(UserError, match="these are float64: round them first"):
        space(np.zeros((2, 8, 8, 1)))
    with pytest.raises(UserError, match="of one class"):
        classifier_features(pixels(REAL), np.ones(898, int), pixels(OTHERS), OTHER_LABELS)
    with pytest.raises(UserError, match="898 images and 5 labels"):
        classifier_features(pixels(REAL), REAL_LABELS[:5], pixels(OTHERS), OTHER_LABELS)
