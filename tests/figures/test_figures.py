"""What figures have beside what test_cells.py reads in them: a place for everything, and no picture where none fits."""

import itertools
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from tests.networks import build
from vae_runner.datasets.dataset import Split
from vae_runner.evaluation.embeddings import decode
from vae_runner.figures import interpolations as interpolations_module
from vae_runner.figures import traversals as traversals_module
from vae_runner.figures.comparison import Compared, comparison, in_order
from vae_runner.figures.grid import image_grid
from vae_runner.figures.interpolations import interpolations
from vae_runner.figures.latent_space import latent_space, plane
from vae_runner.figures.loss_curves import loss_curves
from vae_runner.figures.manifold import manifold
from vae_runner.figures.reconstructions import reconstructions
from vae_runner.figures.samples import samples, samples_normal, samples_uniform
from vae_runner.figures.trained import Trained
from vae_runner.figures.traversals import traversals
from vae_runner.models import mlp
from vae_runner.posteriors.base import Posterior
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.posteriors.point import Point
from vae_runner.posteriors.power_spherical import PowerSpherical
from vae_runner.priors.base import Prior
from vae_runner.priors.class_conditional import ClassConditional
from vae_runner.priors.sphere import Sphere
from vae_runner.storage.pictures import save_figure
from vae_runner.training.noise import NumpyNoise

NAMES = ("shirt", "shoe", "bag")


def make(
    latent: int = 2,
    channels: int = 1,
    count: int = 60,
    posterior: type[Posterior] = Gaussian,
    prior: Prior | None = None,
    classes: int = 0,
) -> Trained:
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, 64, 64, channels), np.uint8)
    history = [{"epoch": e, "train/loss": 9 - e, "train/kl": e, "test/loss": 10 - e, "test/kl": e} for e in (1, 2, 3)]
    autoencoder = build((64, 64, channels), latent, posterior(), mlp, None, prior, classes, depth=1, width=16)
    return Trained(autoencoder, Split(images, rng.integers(0, 3, count)), NAMES, history, epoch=3, seed=5)


def cells(figure: Figure, rows: int, columns: int, caption: float = 0) -> np.ndarray:
    """The 64×64 images that a grid's canvas is made of."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    canvas = canvas[..., np.newaxis] if canvas.ndim == 2 else canvas
    step_y, step_x = (canvas.shape[0] + 4) // rows, 68
    band = step_y - 68
    cut = [
        canvas[r * step_y + band : r * step_y + band + 64, c * step_x : c * step_x + 64]
        for r in range(rows)
        for c in range(columns)
    ]
    return np.stack(cut)


def texts(figure: Figure) -> list[str]:
    axes = figure.axes[0]
    return [t.get_text() for t in axes.texts]


def nothing_clipped(figure: Figure, tmp_path: object) -> None:
    """No ink touches the edge of the picture."""
    path = f"{tmp_path}/figure.png"
    figure.savefig(path, dpi=60)
    pixels = np.asarray(Image.open(path).convert("L"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge > 250).all()


def test_samples_are_decoded_draws_of_the_prior_the_same_at_every_epoch() -> None:
    trained = make()
    first = cells(samples(trained, 3, 4), 3, 4)
    z = np.random.default_rng([5, 0]).standard_normal((12, 2))
    np.testing.assert_allclose(first, decode(trained.autoencoder, z), atol=1e-6)
    later = Trained(trained.autoencoder, trained.test, NAMES, trained.history, epoch=9, seed=5)
    np.testing.assert_array_equal(first, cells(samples(later, 3, 4), 3, 4))


def test_other_latent_spaces_are_drawn_by_tsne_and_a_1d_one_as_it_is() -> None:
    axes = latent_space(make(latent=5)).axes[0]
    assert axes.get_xlabel() == "t-SNE 1"
    assert sum(len(c.get_offsets()) for c in axes.collections) == 60
    trained = make(latent=1)
    x = np.concatenate([c.get_offsets()[:, 0] for c in latent_space(trained).axes[0].collections])
    np.testing.assert_allclose(np.sort(x), np.sort(trained.posterior["mean"][:, 0]), atol=1e-6)


def test_a_sphere_in_three_coordinates_is_drawn_as_a_map_that_keeps_areas() -> None:
    draws = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    points, names = plane(draws / np.linalg.norm(draws, axis=1, keepdims=True))
    assert "sphere" in names[0]
    # Uniform on the sphere, and so on the disc of radius 2: the squares of their radii are uniform in [0, 4].
    shares = np.histogram(np.square(points).sum(axis=1), bins=4, range=(0, 4))[0] / len(points)
    np.testing.assert_allclose(shares, 0.25, atol=0.02)
    np.testing.assert_allclose(plane(np.float32([[0, 0, 1]]))[0], [[0, 0]], atol=1e-6)
    assert np.isfinite(plane(np.float32([[0, 0, -1]]))[0]).all()


def test_only_samples_of_a_2d_latent_space_have_captions() -> None:
    assert texts(samples_uniform(make(latent=3), 2, 2)) == []
    assert len(texts(samples_uniform(make(), 2, 2))) == 4


def test_only_a_2d_latent_space_has_a_manifold() -> None:
    assert manifold(make(latent=3), 3) is None


def test_traversals_of_a_point_posterior_go_by_variance() -> None:
    trained = make(latent=3, posterior=Point)
    label = traversals(trained, 1, 3).axes[0].get_yticklabels()[0].get_text()
    assert f"{{{trained.posterior['mean'].var(axis=0).argmax() + 1}}}" in label
    assert label.endswith(" var.")


def test_traversals_and_interpolations_of_a_sphere_stay_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = make(latent=2, posterior=PowerSpherical)
    trained = replace(trained, autoencoder=replace(trained.autoencoder, prior=Sphere()))
    decoded = []
    for module in (traversals_module, interpolations_module):
        monkeypatch.setattr(module, "decode", lambda model, z, labels: decoded.append(z) or decode(model, z))
    label = traversals(trained, 3, 4).axes[0].get_yticklabels()[0].get_text()
    interpolations(trained, 2, 5)
    for z in decoded:
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    assert len(decoded) == 2
    assert label.endswith(" var.")  # a sphere has no KL divergence of a coordinate


@pytest.mark.parametrize("prior", [None, ClassConditional()])
def test_samples_of_a_conditional_run_have_a_row_a_class(prior: Prior | None, tmp_path: object) -> None:
    trained = make(prior=prior, classes=3)
    labels = np.repeat([0, 1, 2], 4)
    for draw in (samples, samples_normal, samples_uniform):
        figure = draw(trained, 8, 4)
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NAMES)
        assert ", a class a row" in figure.get_suptitle()
        nothing_clipped(figure, tmp_path)
    noise = NumpyNoise(trained.random(0), 12)
    z = np.asarray(trained.autoencoder.latent_prior(labels).sample(noise))
    expected = trained.autoencoder.decode(tf.constant(z), labels).mean
    np.testing.assert_allclose(cells(samples(trained, 8, 4), 3, 4), expected, atol=1e-5)


def test_other_figures_of_a_conditional_run_give_the_images_their_classes(tmp_path: object) -> None:
    trained = make(classes=3)
    images, labels = trained.test.images / np.float32(255), trained.test.labels
    assert labels is not None
    z = trained.autoencoder.encode(images, labels).mean
    np.testing.assert_allclose(trained.posterior["mean"], z, atol=1e-5)
    drawn = cells(reconstructions(trained, 5), 2, 5, caption=1)[5:]
    np.testing.assert_allclose(drawn, trained.autoencoder.decode(z[:5], labels[:5]).mean, atol=1e-5)

    figure = interpolations(trained, 4, 5)
    assert figure is not None
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [NAMES[label] for label in (0, 1, 2, 0)]
    nothing_clipped(figure, tmp_path)
    drawn = cells(figure, 4, 5).reshape(4, 5, 64, 64, 1)
    for row, label in enumerate((0, 1, 2, 0)):
        left, right = np.flatnonzero(labels == label)[2 * (row // 3) : 2 * (row // 3) + 2]
        np.testing.assert_allclose(drawn[row, 0], images[left], atol=1e-5)
        np.testing.assert_allclose(drawn[row, 4], images[right], atol=1e-5)
        middle = trained.autoencoder.decode((z[left] + z[right])[np.newaxis] / 2, np.array([label])).mean[0]
        np.testing.assert_allclose(drawn[row, 2], middle, atol=1e-5)

    of_class, name = z.numpy()[labels == labels[0]], NAMES[labels[0]]
    nothing_clipped(traversals(trained, 1, 5), tmp_path)
    figure = traversals(trained, 1, 3)
    assert figure.get_suptitle().endswith(f"the range of class {name}")
    dimension = int(figure.axes[0].get_yticklabels()[0].get_text()[4]) - 1
    moved = np.repeat(of_class[:1], 3, axis=0)
    low, high = np.percentile(of_class[:, dimension], (0.5, 99.5))
    moved[:, dimension] = low, (low + high) / 2, high
    expected = trained.autoencoder.decode(tf.constant(moved), np.full(3, labels[0])).mean
    np.testing.assert_allclose(cells(figure, 1, 3), expected, atol=1e-5)

    figure = manifold(trained, 1)
    assert figure is not None
    assert f"class {name}" in figure.get_suptitle()
    expected = trained.autoencoder.decode(tf.zeros([1, 2]), labels[:1]).mean[0, ..., 0]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), expected, atol=1e-5)


def test_names_of_classes_beside_rows_are_cut_and_at_most_20_have_one(tmp_path: object) -> None:
    trained = make(classes=30)
    long = replace(trained, label_names=["a very long name of a class"] * 30)
    figure = samples(long, 2, 3)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 20
    assert names[0].endswith("…")
    nothing_clipped(figure, tmp_path)
    unnamed = samples(replace(trained, label_names=()), 2, 3).axes[0].get_yticklabels()
    assert unnamed[19].get_text() == "19"


@pytest.mark.parametrize("channels", [1, 3])
def test_no_figure_is_clipped(channels: int, tmp_path: object) -> None:
    for latent in (2, 12):
        trained = make(latent=latent, channels=channels)
        figures = [
            samples(trained, 3, 4),
            reconstructions(trained, 5),
            latent_space(trained),
            samples_uniform(trained, 3, 3),
            samples_normal(trained, 3, 3),
            manifold(trained, 5),
            traversals(trained, 10, 5),
            interpolations(trained, 3, 5),
            loss_curves(trained),
        ]
        for figure in figures:
            if figure is not None:
                nothing_clipped(figure, tmp_path)


def test_captions_do_not_overlap_their_neighbours() -> None:
    figure = image_grid(np.zeros((6, 28, 28, 1)), 6, "title", captions=["T-shirt/top", "Ankle boot", "Pullover"] * 2)
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 <= right.x0


def test_class_names_that_are_formulas_or_very_long_are_drawn_as_text(tmp_path: object) -> None:
    trained = make()
    names = ("a$\\foo{$b", "$x_{y}^2$", "long " * 30)
    odd = Trained(trained.autoencoder, trained.test, names, trained.history, 1, 0)
    for figure in (reconstructions(odd, 5), latent_space(odd)):
        nothing_clipped(figure, tmp_path)
    legend = [t.get_text() for t in latent_space(odd).axes[0].get_legend().get_texts()]
    assert legend[1] == r"\$x_{y}^2\$"
    assert legend[2].endswith("…")


@pytest.mark.parametrize("count", [4, 40])
def test_embeddings_that_are_all_the_same_have_a_latent_space(count: int) -> None:
    points, _ = plane(np.ones((count, 5), np.float32))
    np.testing.assert_array_equal(points, np.ones((count, 2)))


def test_a_dataset_without_classes_and_with_few_images_has_its_figures() -> None:
    trained = make()
    bare = Trained(trained.autoencoder, Split(trained.test.images[:1]), (), trained.history, 1, 0)
    for draw in (
        lambda t: reconstructions(t, 10),
        latent_space,
        lambda t: traversals(t, 2, 3),
        lambda t: samples(t, 2, 2),
    ):
        assert isinstance(draw(bare), Figure)
    assert interpolations(bare, 3, 5) is None


def test_metrics_of_several_runs_are_in_order_also_where_the_first_has_fewer() -> None:
    first = ("train/loss", "test/loss", "learning_rate", "train/images_per_second", "seconds")
    others = ("train/loss", "train/kl", "test/loss", "test/kl", "learning_rate")
    assert in_order([*first, *others]) == [
        *("train/loss", "train/kl", "test/loss", "test/kl", "learning_rate", "train/images_per_second", "seconds")
    ]


def test_comparison_puts_2d_latent_spaces_of_a_prior_on_the_same_axes_and_metrics_in_line() -> None:
    rng = np.random.default_rng(0)

    def compared(scale: float, prior: str = "N(0, I)", **metrics: float) -> Compared:
        images = rng.random((8, 8, 8, 1))
        return Compared(
            "run", "about", rng.normal(0, scale, (50, 2)), rng.integers(0, 3, 50), images, images, prior, metrics
        )

    images = rng.integers(0, 256, (8, 8, 8, 1), np.uint8)
    runs = [compared(1, loss=1.5, kl=2.0), compared(10, loss=3.25)]
    figure = comparison(images, NAMES, runs)
    left, right = figure.axes[0], figure.axes[1]
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    for axes, run in zip((left, right), runs, strict=True):
        points = run.embeddings
        assert axes.get_xlim()[0] < points[:, 0].min() <= points[:, 0].max() < axes.get_xlim()[1]
    assert [t.get_text() for t in figure.axes[7].texts] == ["loss", "3.25", "kl", "–"]
    other = comparison(images, NAMES, [*runs, compared(100, "VampPrior", loss=1.0)]).axes[:3]
    assert other[0].get_xlim() == other[1].get_xlim() == left.get_xlim()
    assert other[2].get_xlim()[1] > 3 * other[0].get_xlim()[1]


def test_a_saved_figure_is_a_png(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(f"{tmp_path}") / "sub" / "grid.png"
    save_figure(image_grid(np.zeros((4, 8, 8, 3)), 2, "title"), path)
    assert Image.open(path).format == "PNG"
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]


def test_a_saved_figure_has_the_pixels_of_savefig_and_keeps_its_own_resolution(tmp_path: Path) -> None:
    def draw() -> Figure:
        return image_grid(np.linspace(0, 1, 256).reshape(4, 8, 8, 1), 2, "title", row_labels=["a", "b"])

    figure = draw()
    save_figure(figure, tmp_path / "ours.png")
    draw().savefig(tmp_path / "theirs.png", dpi=150)
    ours, theirs = (Image.open(tmp_path / f"{name}.png") for name in ("ours", "theirs"))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert ours.info["dpi"] == theirs.info["dpi"]
    assert figure.dpi == Figure().dpi
