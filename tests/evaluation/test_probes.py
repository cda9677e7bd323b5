"""Probes on the bundled digits, and on codes of which the accuracy is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from tests.conftest import examples
from vae_runner.errors import UserError
from vae_runner.evaluation.probes import knn_probe, linear_probe, majority_class, mlp_probe, principal_components

PROBES = (linear_probe, mlp_probe, knn_probe)
Data = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def halves_of_the_digits(seed: int) -> Data:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[:898], order[898:]
    return images[train], labels[train], images[test], labels[test]


def rings(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Two classes that no line divides: within a circle, and around it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    return (1 + 2 * labels)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), labels


def test_the_digits_have_their_known_accuracies() -> None:
    # The known values are of one division that is not known: they are to be like those of any into halves.
    found = []
    for seed in range(8):
        train, train_labels, test, test_labels = halves_of_the_digits(seed)
        row = [probe(train, train_labels, test, test_labels) for probe in (linear_probe, knn_probe)]
        for size in (2, 8):
            few, few_test = principal_components(train, test, size)
            row += [probe(few, train_labels, few_test, test_labels) for probe in (linear_probe, knn_probe)]
        found.append(row)
    expected = np.array([0.968, 0.980, 0.620, 0.620, 0.892, 0.946])
    spread = np.std(found, axis=0, ddof=1)
    assert spread.max() < 0.025
    assert (np.abs(np.mean(found, axis=0) - expected) < 3 * spread).all(), (np.mean(found, axis=0), spread)
    assert mlp_probe(train, train_labels, test, test_labels) == pytest.approx(0.975, abs=0.012)
    assert majority_class(train_labels, test_labels) == pytest.approx(0.1, abs=0.03)


def test_the_linear_probe_is_linear_and_the_others_are_not() -> None:
    train, test = rings(500, 0), rings(500, 1)
    assert linear_probe(*train, *test) < 0.65
    assert mlp_probe(*train, *test) == 1
    assert knn_probe(*train, *test) == 1


def test_c_is_one_and_codes_are_standardised() -> None:
    # Unequal numbers move the threshold as far as the penalty says: with C → ∞ it would be in the middle.
    train, labels = np.array([[0.0]] * 9 + [[1.0]]), np.array([0] * 9 + [1])
    mean, sd = 0.1, 0.3
    codes = (train[:, 0] - mean) / sd
    w, b = 0.0, 0.0
    for _ in range(4_000):  # gradient descent on the sum of the losses + ½w²
        residual = 1 / (1 + np.exp(-(w * codes + b))) - labels
        w, b = w - 0.05 * (residual @ codes + w), b - 0.05 * residual.sum()
    threshold = mean - sd * b / w
    assert 0.5 < threshold < 1
    below, above = np.array([[threshold - 0.01]]), np.array([[threshold + 0.01]])
    assert linear_probe(train, labels, below, np.array([0])) == 1
    assert linear_probe(train, labels, above, np.array([1])) == 1


def test_a_dimension_that_is_constant_in_training_is_without_effect() -> None:
    train, train_labels, test, test_labels = halves_of_the_digits(0)
    padded = np.concatenate([train, np.full((len(train), 1), 0.1)], axis=1)
    padded_test = np.concatenate([test, np.random.default_rng(0).normal(size=(len(test), 1))], axis=1)
    assert linear_probe(padded, train_labels, padded_test, test_labels) == linear_probe(
        train, train_labels, test, test_labels
    )


@pytest.mark.parametrize("probe", PROBES)
def test_random_codes_tell_no_class(probe: type[linear_probe]) -> None:  # type: ignore[valid-type]
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(600, 5)), rng.normal(size=(600, 5))
    assert probe(train, rng.integers(0, 4, 600), test, rng.integers(0, 4, 600)) == pytest.approx(0.25, abs=0.07)


def test_the_same_call_gives_the_same_number_and_neither_uses_nor_changes_the_global_random_state() -> None:
    train, test = rings(200, 0), rings(200, 1)
    noisy = [(codes + np.random.default_rng(2).normal(size=codes.shape), labels) for codes, labels in (train, test)]
    found = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002 (that is the state)
        found.append([probe(*noisy[0], *noisy[1]) for probe in PROBES])
        assert np.random.random() == np.random.RandomState(seed).random()  # noqa: NPY002
    assert found[0] == found[1]


@settings(max_examples=examples(25))
@given(st.integers(0, 10_000))
def test_the_order_of_the_dimensions_signs_and_names_of_classes_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, test_labels = rng.permutation(np.repeat([0, 1, 2], 20)), rng.integers(0, 3, 30)
    train, test = rng.normal(size=(60, 4)) + labels[:, None], rng.normal(size=(30, 4)) + test_labels[:, None]
    axes, signs, order = rng.permutation(4), rng.choice([-1, 1], 4), rng.permutation(60)
    for probe in (linear_probe, knn_probe):
        found = probe(train, labels, test, test_labels)
        # A test image near the border may change sides by rounding.
        near = pytest.approx(found, abs=1.1 / 30)
        assert probe((train * signs)[:, axes], labels, (test * signs)[:, axes], test_labels) == near
        assert probe(train[order], labels[order], test, test_labels) == near
        assert probe(train, 10 * labels + 3, test, 10 * test_labels + 3) == near
    shifted = linear_probe(100 * train + 7, labels, 100 * test + 7, test_labels)
    assert shifted == pytest.approx(linear_probe(train, labels, test, test_labels), abs=1.1 / 30)


def test_the_majority_class_is_that_of_the_training_images() -> None:
    assert majority_class(np.array([3, 3, 5]), np.array([3, 5, 5, 5])) == 0.25
    with pytest.raises(UserError, match="no majority class"):
        majority_class(np.array([], int), np.array([1]))


def test_principal_components_are_of_the_training_images_alone() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 6)) * [9, 5, 1, 1, 1, 1], rng.normal(size=(40, 6))
    few, few_test = principal_components(train, test, 2)
    assert few.shape == (50, 2)
    values, vectors = np.linalg.eigh(np.cov(train, rowvar=False))
    np.testing.assert_allclose(few.var(axis=0, ddof=1), values[:-3:-1])
    projected = (test - train.mean(axis=0)) @ vectors[:, :-3:-1]
    np.testing.assert_allclose(np.abs(few_test), np.abs(projected))
    np.testing.assert_allclose(principal_components(train, test[::-1], 2)[1], few_test[::-1], atol=1e-12)
    with pytest.raises(UserError, match="no 7 principal components: take at most 6"):
        principal_components(train, test, 7)
    with pytest.raises(UserError, match="not finite"):
        principal_components(np.where(train > 9, np.nan, train), test, 2)


@pytest.mark.parametrize("probe", PROBES)
def test_what_has_no_accuracy_is_refused_in_one_line(probe: type[linear_probe]) -> None:  # type: ignore[valid-type]
    codes, labels = rings(40, 0)
    with pytest.raises(UserError, match="of one class"):
        probe(codes, np.ones(40, int), codes, labels)
    with pytest.raises(UserError, match=r"the same code.*collapsed"):
        probe(np.full((40, 2), 0.1), labels, codes, labels)
    with pytest.raises(UserError, match="training codes have values that are not finite"):
        probe(np.where(codes > 0.5, np.nan, codes), labels, codes, labels)
    with pytest.raises(UserError, match="test codes have values that are not finite"):
        probe(codes, labels, codes + np.inf, labels)
    with pytest.raises(UserError, match="there are no test codes"):
        probe(codes, labels, codes[:0], labels[:0])
    with pytest.raises(UserError, match="39 labels"):
        probe(codes, labels[:39], codes, labels)
    with pytest.raises(UserError, match="2 dimensions and test codes 1"):
        probe(codes, labels, codes[:, :1], labels)
    with pytest.raises(UserError, match="5 nearest neighbours cannot be found among 4"):
        knn_probe(codes[:4], np.array([0, 1, 0, 1]), codes, labels)
