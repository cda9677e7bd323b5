"""Every figure, cell by cell: what a picture shows is what the label beside it says.

The autoencoder is a stub whose images tell their z, and whether they were decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from vae_runner.datasets.dataset import Split
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.distributions.squared_error import SquaredError
from vae_runner.figures.comparison import Compared, comparison
from vae_runner.figures.interpolations import interpolations
from vae_runner.figures.latent_space import latent_space
from vae_runner.figures.loss_curves import loss_curves
from vae_runner.figures.manifold import manifold
from vae_runner.figures.reconstructions import reconstructions
from vae_runner.figures.samples import samples, samples_normal, samples_uniform
from vae_runner.figures.trained import Trained
from vae_runner.figures.traversals import traversals
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.priors.normal import Normal

HEIGHT, WIDTH, BAND = 48, 64, 8  # pixels; a band of rows an entry of z, and the last one for the mark
REACH = 10.0  # z is within ±
SEED = 5
NAMES = ("shirt", "shoe", "bag")


class Stub:
    """Decodes z into an image of which z can be read, and encodes an image of that kind as the z in it."""

    posterior, prior = Gaussian(), Normal()
    image_shape = (HEIGHT, WIDTH, 1)
    classes = 0

    def __init__(self, latent: int) -> None:
        self.latent, self.latent_size = latent, f"{latent}-D"

    def parameters(
        self, images: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False
    ) -> dict[str, tf.Tensor]:
        mean = tf.constant([z_of(image)[: self.latent] for image in images.numpy()], tf.float32)
        spread = tf.range(self.latent, dtype=tf.float32)  # dimensions differ in their variances
        return {"mean": mean, "log_var": tf.zeros_like(mean) - spread}

    def encode(self, images: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False) -> DiagonalGaussian:
        return self.posterior.distribution(self.parameters(images))

    def decode(self, z: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False) -> SquaredError:
        return SquaredError(tf.constant(images_of(z.numpy(), mark=1.0)))

    def latent_prior(self, labels: tf.Tensor | None = None) -> StandardNormal:
        return StandardNormal(self.latent)


def images_of(z: np.ndarray, mark: float) -> np.ndarray:
    """Images in [0, 1] that tell z `[n, latent]`; those the decoder makes have the mark 1, those of the data 0."""
    images = np.full((len(z), HEIGHT, WIDTH, 1), 0.5, np.float32)
    for index in range(z.shape[1]):
        images[:, index * BAND : (index + 1) * BAND] = (0.5 + z[:, index] / (2 * REACH))[:, None, None, None]
    images[:, -BAND:] = mark
    return images


def z_of(image: np.ndarray) -> np.ndarray:
    """What an image tells."""
    return (image.reshape(HEIGHT, WIDTH)[: HEIGHT - BAND : BAND, 0] - 0.5) * 2 * REACH


def is_decoded(image: np.ndarray) -> bool:
    return bool(image.reshape(HEIGHT, WIDTH)[-1, 0] == 1)


@dataclass(frozen=True)
class Cell:
    """An image as it is seen, and the texts above it, left of its row, and above its column."""

    image: np.ndarray
    caption: str
    row: str
    column: str

    def z(self, latent: int) -> np.ndarray:
        return z_of(self.image)[:latent]


def seen(figure: Figure, axes: Axes, rows: int, columns: int, gap: int = 4) -> list[list[Cell]]:
    """The cells of a grid, row by row from the top, each from the left, as they lie in the picture."""
    FigureCanvasAgg(figure).draw()
    canvas = np.asarray(axes.images[0].get_array())
    step_y, step_x = (canvas.shape[0] + gap) // rows, (canvas.shape[1] + gap) // columns
    assert step_x == WIDTH + gap
    band = step_y - HEIGHT - gap
    texts = [(text.get_text(), text.get_window_extent()) for text in axes.texts]
    row_labels = [(text.get_text(), text.get_window_extent()) for text in axes.get_yticklabels()]
    column_labels = [(text.get_text(), text.get_window_extent()) for text in axes.get_xticklabels()]
    placed = []
    for row in range(rows):
        for column in range(columns):
            top, left = row * step_y + band, column * step_x
            image = canvas[top : top + HEIGHT, left : left + WIDTH]
            corners = axes.transData.transform([(left, top), (left + WIDTH, top + HEIGHT)])
            (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
            above = y1 + (y1 - y0) * 0.6
            cell = Cell(
                image,
                "".join(t for t, box in texts if x0 < _middle(box)[0] < x1 and y1 < _middle(box)[1] < above),
                "".join(t for t, box in row_labels if y0 < _middle(box)[1] < y1 and box.x1 < x0),
                "".join(t for t, box in column_labels if x0 < _middle(box)[0] < x1 and box.y0 > y1),
            )
            placed.append((-round(y1), round(x0), cell))
    ordered = [cell for _, _, cell in sorted(placed, key=lambda place: place[:2])]
    return [ordered[row * columns : (row + 1) * columns] for row in range(rows)]


def _middle(box: Any) -> tuple[float, float]:
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def flat(grid: list[list[Cell]]) -> list[Cell]:
    return [cell for row in grid for cell in row]


def make(latent: int = 2, count: int = 40) -> Trained:
    """Test images whose embeddings lie in another range in each dimension."""
    rng = np.random.default_rng(1)
    z = rng.uniform(-1, 1, (count, latent)) * (1 + np.arange(latent)) + 2 * np.arange(latent) - 2
    images = np.round(images_of(z, mark=0.0) * 255).astype(np.uint8)
    names = [
        f"{split}/{term}" for split in ("train", "validation", "test") for term in ("loss", "reconstruction", "kl")
    ]
    history = [
        {"epoch": epoch, "step": 10 * epoch, **{name: 100 * index + epoch for index, name in enumerate(names)}}
        for epoch in (1, 2, 3)
    ]
    stub: Any = Stub(latent)
    return Trained(stub, Split(images, rng.integers(0, 3, count)), NAMES, history, epoch=3, seed=SEED)


def of_the_data(trained: Trained) -> np.ndarray:
    """The z that the test images tell."""
    return np.stack([z_of(image / 255) for image in trained.test.images])[:, : trained.autoencoder.latent]


def close(actual: object, expected: object, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)  # type: ignore[arg-type]


def test_samples_are_in_the_order_of_their_draws() -> None:
    figure = samples(make(), 3, 4)
    cells = flat(seen(figure, figure.axes[0], 3, 4))
    close([cell.z(2) for cell in cells], np.random.default_rng([SEED, 0]).standard_normal((12, 2)))
    assert all(is_decoded(cell.image) for cell in cells)
    assert {(cell.caption, cell.row, cell.column) for cell in cells} == {("", "", "")}
    assert figure.get_suptitle() == "Samples: z ~ N(0, I), after epoch 3"


def test_normal_samples_are_what_their_captions_say() -> None:
    figure = samples_normal(make(), 3, 4)
    cells = flat(seen(figure, figure.axes[0], 3, 4))
    close([cell.z(2) for cell in cells], np.random.default_rng([SEED, 1]).standard_normal((12, 2)))
    close([[float(part) for part in cell.caption.split(", ")] for cell in cells], [cell.z(2) for cell in cells], 0.006)


def test_uniform_samples_are_what_their_captions_say_and_fill_the_box_of_the_embeddings() -> None:
    trained = make()
    figure = samples_uniform(trained, 8, 9)
    cells = flat(seen(figure, figure.axes[0], 8, 9))
    z, embeddings = np.stack([cell.z(2) for cell in cells]), of_the_data(trained)
    close([[float(part) for part in cell.caption.split(", ")] for cell in cells], z, 0.006)
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    share = (z - low) / (high - low)
    assert (share >= -1e-4).all()
    assert (share <= 1 + 1e-4).all()
    close(share.min(axis=0), [0, 0], 0.1)
    close(share.max(axis=0), [1, 1], 0.1)


def test_reconstructions_are_below_the_images_they_are_of_with_the_class_above() -> None:
    trained = make()
    figure = reconstructions(trained, 5)
    images, decoded = seen(figure, figure.axes[0], 2, 5)
    assert [cell.caption for cell in images] == [NAMES[label] for label in trained.test.labels[:5]]
    assert {cell.row for cell in images} == {"image"}
    assert {cell.row for cell in decoded} == {"reconstruction"}
    assert not any(is_decoded(cell.image) for cell in images)
    assert all(is_decoded(cell.image) for cell in decoded)
    for row in (images, decoded):
        close([cell.z(2) for cell in row], of_the_data(trained)[:5])


def test_traversals_move_the_dimension_of_their_row_upwards_and_no_other() -> None:
    trained = make(latent=3)
    embeddings = of_the_data(trained)
    log_var = -np.arange(3)
    kl = (-0.5 * (1 + log_var - embeddings**2 - np.exp(log_var))).mean(axis=0)
    figure = traversals(trained, rows=3, columns=5)
    rows = seen(figure, figure.axes[0], 3, 5)
    for row, dimension in zip(rows, np.argsort(-kl), strict=True):
        assert {cell.row for cell in row} == {f"$z_{{{dimension + 1}}}$  {kl[dimension]:.2f} nats"}
        expected = np.repeat(embeddings[:1], 5, axis=0)
        expected[:, dimension] = np.linspace(*np.percentile(embeddings[:, dimension], (0.5, 99.5)), 5)
        close([cell.z(3) for cell in row], expected)


def test_interpolations_run_from_the_left_image_to_the_right_one() -> None:
    trained = make()
    z = of_the_data(trained)
    figure = interpolations(trained, rows=3, columns=7)
    assert figure is not None
    for index, row in enumerate(seen(figure, figure.axes[0], 3, 7)):
        first, last = z[2 * index], z[2 * index + 1]
        assert [cell.column for cell in row] == ["image", "0%", "25%", "50%", "75%", "100%", "image"]
        assert [is_decoded(cell.image) for cell in row] == [False, *[True] * 5, False]
        close([row[0].z(2), row[-1].z(2)], [first, last])
        for cell in row[1:-1]:
            share = int(cell.column.removesuffix("%")) / 100
            close(cell.z(2), (1 - share) * first + share * last)


def test_the_manifold_has_z1_to_the_right_and_z2_upwards_as_its_ticks_say() -> None:
    side = 6
    figure = manifold(make(), side)
    assert figure is not None
    grid = seen(figure, figure.axes[0], side, side, gap=0)
    quantiles = [NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)]
    for row, z_2 in zip(grid, reversed(quantiles), strict=True):
        for cell, z_1 in zip(row, quantiles, strict=True):
            close(cell.z(2), [z_1, z_2])
            assert (cell.column, cell.row) == (f"{z_1:.1f}", f"{z_2:.1f}")


@pytest.mark.parametrize("names", [NAMES, ("_background_", "$x$", ""), ("_a", "_a", "_nolegend_")])
def test_the_latent_space_has_each_class_in_the_colour_of_the_legend(names: Sequence[str]) -> None:
    trained = make()
    trained = Trained(trained.autoencoder, trained.test, names, trained.history, 3, SEED)
    axes = latent_space(trained).axes[0]
    points = {to_hex(group.get_facecolor()[0][:3]): np.asarray(group.get_offsets()) for group in axes.collections}
    legend = axes.get_legend()
    assert [text.get_text().replace(r"\$", "$") for text in legend.get_texts()] == list(names)
    for index, handle in enumerate(legend.legend_handles):
        mine = points.pop(to_hex(handle.get_facecolor()[0][:3]))
        close(mine, of_the_data(trained)[trained.test.labels == index])
    assert not points
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")
    assert axes.get_xlim()[0] < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < axes.get_ylim()[1]


def test_every_panel_of_the_loss_curves_has_the_metric_of_its_title() -> None:
    trained = make()
    panels = loss_curves(trained).axes
    assert [axes.get_title() for axes in panels] == ["loss", "reconstruction", "kl"]
    for axes in panels:
        drawn = {line.get_color(): line for line in axes.lines}
        legend = axes.get_legend()
        shown = dict(zip([t.get_text() for t in legend.get_texts()], legend.get_lines(), strict=True))
        assert list(shown) == ["train", "validation", "test"]
        for split, handle in shown.items():
            line = drawn.pop(handle.get_color())
            assert list(line.get_xdata()) == [1, 2, 3]
            assert list(line.get_ydata()) == [row[f"{split}/{axes.get_title()}"] for row in trained.history]
        assert not drawn
        assert axes.get_xlabel() == "epoch"


def test_a_comparison_has_in_each_column_what_its_title_says() -> None:
    trained, rng = make(), np.random.default_rng(2)
    images = trained.test.images[:8]

    def compared(number: int) -> Compared:
        z = rng.uniform(-3, 3, (40, 2)) + number
        return Compared(
            name=f"run {number}",
            about=f"the {number}th",
            embeddings=z,
            labels=trained.test.labels,
            reconstructions=images_of(z[:8], mark=1.0),
            samples=images_of(z[8:24], mark=1.0),
            prior=f"prior {number}",
            metrics={"test/loss": 100.0 + number, **({"test/kl": 200.0 + number} if number else {})},
        )

    runs = [compared(number) for number in range(3)]
    figure = comparison(images, NAMES, runs)
    axes = np.array(figure.axes).reshape(4, 3)
    FigureCanvasAgg(figure).draw()
    assert (np.diff([[a.get_position().x0 for a in row] for row in axes]) > 0).all()  # from the left
    assert (np.diff([[a.get_position().y0 for a in row] for row in axes], axis=0) < 0).all()  # from the top
    for column, run in enumerate(runs):
        space, reconstructed, sampled, listed = axes[:, column]
        assert space.get_title() == f"{run.name}\n{run.about}"
        for index, group in enumerate(space.collections):
            close(group.get_offsets(), run.embeddings[trained.test.labels == index])
        assert reconstructed.get_title() == "test images, reconstructions"
        above, below = seen(figure, reconstructed, 2, 8)
        assert [is_decoded(cell.image) for cell in (*above, *below)] == [False] * 8 + [True] * 8
        close([cell.z(2) for cell in above], of_the_data(trained)[:8])
        close([cell.z(2) for cell in below], run.embeddings[:8])
        assert sampled.get_title() == f"samples, z ~ {run.prior}"
        close([cell.z(2) for cell in flat(seen(figure, sampled, 2, 8))], run.embeddings[8:24])
        lines: dict[float, dict[str, str]] = {}
        for text in listed.texts:
            lines.setdefault(text.get_position()[1], {})[text.get_ha()] = text.get_text()
        assert {line["left"]: line["right"] for line in lines.values()} == {
            "test/loss": f"{100 + column}",
            "test/kl": f"{200 + column}" if column else "–",
        }
    legends = [a.get_legend() for a in axes[0]]
    assert [legend is None for legend in legends] == [True, True, False]
    assert [text.get_text() for text in legends[2].get_texts()] == list(NAMES)


def test_what_is_seen_of_a_grid_is_what_a_png_has_there() -> None:
    figure = manifold(make(), 3)
    assert figure is not None
    grid = seen(figure, figure.axes[0], 3, 3, gap=0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., 0] / 255
    box = figure.axes[0].get_window_extent()
    for row, cells in enumerate(grid):
        for column, cell in enumerate(cells):
            x = box.x0 + box.width * (column + 0.5) / 3
            top = box.y1 - box.height * row / 3
            inside = [round(pixels.shape[0] - (top - box.height / 3 * (band + 0.5) * BAND / HEIGHT)) for band in (0, 1)]
            close([(pixels[y, round(x)] - 0.5) * 2 * REACH for y in inside], cell.z(2), 0.3)
