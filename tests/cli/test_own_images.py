"""`vae-encode`, `vae-reconstruct`, `vae-sample --like` and `--between`: one's own images through a finished run."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.small_experiments import built
from vae_runner.datasets import digits
from vae_runner.datasets.io.prepared import decoded
from vae_runner.datasets.io.preprocessing import Preprocessing
from vae_runner.datasets.own_images import Preparation
from vae_runner.evaluation.embeddings import decode, reconstruct
from vae_runner.experiment import Experiment
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.stored_model import StoredModel


def store(experiment: Experiment, path: Path) -> Path:
    """Write an experiment as a run that is finished, without training it."""
    with RunDirectory.create(path, experiment.config.content) as directory:
        directory.save_models(experiment.result)
        test = {
            "images": np.asarray(experiment.dataset.test.images[:4]),
            "count": np.array(len(experiment.dataset.test)),
        }
        directory.save_arrays("test_images", {**test, "label_names": np.array(experiment.dataset.label_names, str)})
        directory.write_info({"status": "finished", "epoch": 1, "metrics": {"test/loss": 1.0}})
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' test images as files, in a folder for each class, named by their places; and some other files."""
    root = tmp_path_factory.mktemp("digits") / "images"
    test = digits.load(test_fraction=0.2).test
    assert test.labels is not None
    for place, (image, label) in enumerate(zip(np.asarray(test.images), test.labels, strict=True)):
        file = root / str(label) / f"{place:03}.{'png' if place % 2 else 'bmp'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store(built("method=cvae"), tmp_path_factory.mktemp("conditional") / "run")


def places(names: np.ndarray) -> np.ndarray:
    """The places in the test split of images that are named by them."""
    return np.array([int(Path(name).stem) for name in names])


def as_png(name: str) -> str:
    """The name of an image's reconstruction."""
    return name if name.endswith(".png") else f"{name}.png"


def test_images_are_encoded_and_reconstructed_as_the_runs_own_are(
    finished_run: Path,
    images: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_process("vae-encode", finished_run, images, "--draws", 2, cwd=tmp_path)
    assert "other files: 1 (like notes.txt)" in capsys.readouterr().out
    codes = np.load(tmp_path / "codes.npz")
    of = places(codes["names"])
    assert sorted(of) == list(range(359))
    assert codes["names"].tolist() == sorted(codes["names"])
    embeddings = np.load(finished_run / "evaluation" / "embeddings.npz")["mean"]
    np.testing.assert_allclose(codes["means"], embeddings[of], atol=1e-4)
    assert codes["draws"].shape == (359, 2, 2)
    assert (codes["draws"][:, 0] != codes["draws"][:, 1]).any(axis=1).all()
    np.testing.assert_array_equal(codes["latent_shape"], [2])

    in_process("vae-encode", finished_run, images, "--out", "codes.csv", "--draws", 1, cwd=tmp_path)
    with (tmp_path / "codes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "mean_0", "mean_1", "draw_0_0", "draw_0_1"]
    assert [row["name"] for row in rows] == codes["names"].tolist()
    np.testing.assert_array_equal(np.array([row["mean_1"] for row in rows], np.float32), codes["means"][:, 1])

    in_process("vae-reconstruct", finished_run, images, "--out", "made", cwd=tmp_path)
    made = {path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.png")}
    assert made == {as_png(name) for name in codes["names"]}
    picture = np.asarray(Image.open(tmp_path / "made" / as_png(codes["names"][-1])))
    model, test = StoredModel.open(finished_run), digits.load(test_fraction=0.2).test
    expected = reconstruct(model.autoencoder, np.asarray(test.images[of[-1:]]))
    np.testing.assert_allclose(picture, expected[0, ..., 0] * 255, atol=0.51)
    assert {path.name for path in tmp_path.iterdir()} == {"codes.npz", "codes.csv", "made"}


def test_images_of_a_folder_are_prepared_as_the_run_has_prepared_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 256, (20 + number, 31, 4), np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    size = ("dataset.image_size=[12,16]", "dataset.background=[200,30,90]", "dataset.crop=true")
    folder = ("dataset=folder", f"dataset.root={tmp_path / 'photos'}", f"data_dir={tmp_path / 'data'}")
    experiment = built(*folder, *size, "dataset.binarize=threshold")
    model = StoredModel.open(store(experiment, tmp_path / "run"))
    files = sorted((tmp_path / "photos").iterdir())
    prepared = np.stack(list(decoded(files, model.preparation.preprocessing)))
    own = np.concatenate([np.asarray(split.images) for split in experiment.dataset.splits.values()])
    binary = model.preparation.binary(prepared, np.arange(8))
    assert {image.tobytes() for image in binary} == {image.tobytes() for image in own}
    np.testing.assert_array_equal(model.checked(prepared), binary)


def test_images_of_mnists_size_get_its_border_where_a_run_has_it_so(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    Image.fromarray(np.full((50, 60), 7, np.uint8)).save(tmp_path / "other.png")
    preprocessing = Preparation.of({"_target_": "vae_runner.datasets.mnist.load"}, (32, 32, 1)).preprocessing
    np.testing.assert_array_equal(preprocessing(tmp_path / "digit.png")[..., 0], np.pad(pixels, 2))
    assert (preprocessing(tmp_path / "other.png") == 7).all()
    own_size = Preparation.of({"_target_": "vae_runner.datasets.mnist.load"}, (28, 28, 1)).preprocessing
    np.testing.assert_array_equal(own_size(tmp_path / "digit.png")[..., 0], pixels)


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_binary_images_are_drawn_by_their_places_and_black_and_white_ones_stay(binarize: str) -> None:
    preparation = Preparation.of({"binarize": binarize}, (8, 8, 1))
    grey = np.full((3, 8, 8, 1), 128, np.uint8)
    binary = preparation.binary(grey, np.array([0, 1, 5]))
    assert set(np.unique(binary)) == {0, 255}
    np.testing.assert_array_equal(preparation.binary(grey[:1], np.array([5])), binary[2:])
    np.testing.assert_array_equal(preparation.binary(binary, np.array([7, 8, 9])), binary)


KINDS = {
    "point": (("loss=ae", "posterior=point"), (), (3,)),
    "sphere": (("posterior=power_spherical", "prior=sphere", "loss=vae"), (), (4,)),
    "codes": (("method=vq_vae", "model=conv", "model.latent=spatial", "model.filters=2", "latent=3"), ("codes",), None),
    "relaxed codes": (("method=gumbel_vae", "posterior.categories=4"), ("codes",), (12,)),
    "map": (("model=conv", "model.latent=spatial", "model.filters=2", "model.downsamplings=1"), (), (4, 4, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_latents_of_every_kind_are_encoded_decoded_and_walked(
    kind: str, images: Path, tmp_path: Path, in_process: Callable[..., None], refusal: Callable[..., str]
) -> None:
    overrides, others, shape = KINDS[kind]
    network = () if "model=conv" in overrides else ("model=mlp", "model.width=8", "latent=3")
    run = store(built(*overrides, network=network or ("latent=3",)), tmp_path / "run")
    few = images / "3"
    in_process("vae-encode", run, few, cwd=tmp_path)
    codes = np.load(tmp_path / "codes.npz")
    model = StoredModel.open(run)
    assert set(codes) == {"names", "means", "latent_shape", *others}
    assert tuple(codes["latent_shape"]) == (shape or model.autoencoder.latent_shape)
    assert codes["means"].shape == (len(list(few.iterdir())), np.prod(codes["latent_shape"]))
    in_process("vae-reconstruct", run, few, "--out", "made", cwd=tmp_path)
    decoded_means = decode(model.autoencoder, codes["means"])
    first = Image.open(tmp_path / "made" / as_png(codes["names"][0]))
    np.testing.assert_allclose(np.asarray(first), decoded_means[0, ..., 0] * 255, atol=0.51)

    one, other = sorted(few.iterdir())[:2]
    like = ("vae-sample", run, "--like", one, "--out", "like.npy", "-n", 5)
    between = ("vae-sample", run, "--between", one, other, "--out", "between.npy", "-n", 5)
    if kind in ("point", "codes"):
        assert "has points for posteriors: there is nothing to draw" in refusal(*like, cwd=tmp_path)
        assert "nothing to draw" in refusal("vae-encode", run, few, "--draws", 2, "--out", "no.npz", cwd=tmp_path)
        assert not (tmp_path / "no.npz").exists()
    else:
        in_process(*like, cwd=tmp_path)
        assert np.load(tmp_path / "like.npy").shape == (5, 8, 8, 1)
    if "codes" in kind:
        assert "are codes: there is nothing between two of them" in refusal(*between, cwd=tmp_path)
    else:
        in_process(*between, cwd=tmp_path)
        path = np.load(tmp_path / "between.npy")
        np.testing.assert_allclose(path[[0, -1]], decoded_means[:2] * 255, atol=0.51)
        on_path = model.between(
            *(model.checked(np.asarray(Image.open(i))[np.newaxis])[0] for i in (one, other)), 7, None
        )
        if kind == "sphere":
            np.testing.assert_allclose(np.linalg.norm(on_path, axis=1), 1, atol=1e-5)


def test_pictures_of_variations_and_of_a_path_begin_with_the_image(
    finished_run: Path, images: Path, tmp_path: Path, in_process: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("vae_runner.cli.sample.save_figure", lambda figure, out: drawn.append(figure))
    one, other = sorted((images / "3").iterdir())[:2]
    in_process("vae-sample", finished_run, "--like", one, "-n", 8, cwd=tmp_path)
    in_process("vae-sample", finished_run, "--between", one, other, cwd=tmp_path)
    like, between = drawn
    assert like.get_suptitle() == f"8 variations of {one.name}, z ~ q(z|x)"
    assert [text.get_text() for text in like.axes[0].texts][:2] == ["image", ""]
    texts = [text.get_text() for text in between.axes[0].texts]
    assert texts == ["image", "0%", *texts[2:-2], "100%", "image"]
    assert len(texts) == 12
    pixels = between.axes[0].images[0].get_array()
    first = np.asarray(Image.open(one)).repeat(8, 0).repeat(8, 1) / 255
    np.testing.assert_allclose(pixels[-64:, :64], first, atol=1e-6)


def test_a_conditional_run_asks_for_labels_and_takes_them_from_a_name_or_from_folders(
    conditional: Path, images: Path, tmp_path: Path, in_process: Callable[..., None], refusal: Callable[..., str]
) -> None:
    one = next((images / "4").iterdir())
    for asked in (("vae-encode", conditional, images), ("vae-reconstruct", conditional, images)):
        assert "give --label NAME, the class of all" in refusal(*asked, cwd=tmp_path)
    assert "give --label NAME" in refusal("vae-sample", conditional, "--like", one, cwd=tmp_path)
    assert "label sea: there is no such class" in refusal(
        "vae-encode", conditional, images, "--label", "sea", cwd=tmp_path
    )
    in_process("vae-encode", conditional, images, "--labels", "folders", cwd=tmp_path)
    by_folder = np.load(tmp_path / "codes.npz")
    test = digits.load(test_fraction=0.2).test
    assert test.labels is not None
    np.testing.assert_array_equal(by_folder["labels"], test.labels[places(by_folder["names"])])
    in_process("vae-encode", conditional, images / "4", "--label", "4", cwd=tmp_path)
    fours = by_folder["means"][by_folder["labels"] == 4]
    np.testing.assert_allclose(np.load(tmp_path / "codes.npz")["means"], fours, atol=1e-5)
    in_process("vae-encode", conditional, images / "4", "--label", "5", cwd=tmp_path)
    assert np.abs(np.load(tmp_path / "codes.npz")["means"] - fours).max() > 1e-4
    in_process("vae-sample", conditional, "--like", one, "--label", "4", "-n", 3, "--out", "like.npy", cwd=tmp_path)
    assert len(np.load(tmp_path / "like.npy")) == 3


def test_broken_images_are_named_and_skipped_and_the_exit_status_tells(
    finished_run: Path, images: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(sorted((images / "1").iterdir())[:6]):
        (folder / f"{number}{image.suffix}").write_bytes(image.read_bytes())
    broken = sorted(folder.iterdir())[5]
    broken.write_bytes(b"no image")
    empty = folder / "empty.png"
    empty.touch()
    for command in (("vae-encode",), ("vae-reconstruct", "--out", "made")):
        line = refusal(command[0], finished_run, folder, *command[1:], cwd=tmp_path)
        out = "made" if command[1:] else "codes.npz"
        assert line == f"{command[0]}: skipped 2 of 7 images as broken: {out} has the other 5\n"
    assert len(np.load(tmp_path / "codes.npz")["names"]) == 5
    again = refusal("vae-encode", finished_run, folder, cwd=tmp_path)
    assert again.endswith("codes.npz has the other 5, in place of what was there\n")
    assert len(list((tmp_path / "made").iterdir())) == 5
    for file in folder.iterdir():
        file.write_bytes(b"")
    line = refusal("vae-reconstruct", finished_run, folder, "--out", "none", cwd=tmp_path)
    assert "none of 7 images can be used; the first: " in line
    assert not (tmp_path / "none").exists()


def test_each_broken_image_is_a_line_of_the_output(
    finished_run: Path,
    images: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").touch()
    (folder / "good.bmp").write_bytes(next((images / "1").glob("*.bmp")).read_bytes())
    with pytest.raises(SystemExit):
        in_process("vae-encode", finished_run, folder, cwd=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Skipped: {folder}/{number}.png is empty" for number in range(2)]


def test_images_are_decoded_a_few_ahead_of_the_network(
    finished_run: Path, images: Path, tmp_path: Path, in_process: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded_images, encoded_images, ahead = [], [], []
    call, encode = Preprocessing.__call__, StoredModel.encode

    def counted(self: Preprocessing, path: Path) -> np.ndarray:
        decoded_images.append(path)
        return call(self, path)

    def encoding(self: StoredModel, pixels: np.ndarray, *others: object) -> object:
        ahead.append(len(decoded_images) - len(encoded_images))
        encoded_images.extend(pixels)
        return encode(self, pixels, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Preprocessing, "__call__", counted)
    monkeypatch.setattr(StoredModel, "encode", encoding)
    in_process("vae-encode", finished_run, images, cwd=tmp_path)
    assert len(encoded_images) == 359
    assert ahead[0] <= 128 + 64, "of 359 images, a batch and those decoded ahead of it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vae-encode", "RUN", "IMAGES", "--out", "codes.txt"), "the name must end in .npz (arrays) or .csv (a table)"),
        (("vae-encode", "RUN", "nowhere"), "nowhere does not exist: give the folder the images are in"),
        (("vae-encode", "RUN", "empty"), "empty holds no image: looked below it for .bmp"),
        (("vae-encode", "IMAGES", "IMAGES"), "is no run directory"),
        (("vae-encode", "RUN", "IMAGES", "--label", "3"), "does not depend on classes: leave it out"),
        (("vae-encode", "RUN", "IMAGES", "--draws", "0"), "0 is not a whole number of at least 1"),
        (("vae-reconstruct", "RUN", "IMAGES", "--out", "IMAGES"), "whose images would be mixed with it"),
        (("vae-reconstruct", "RUN", "IMAGES", "--out", "full"), "--out full is there already, and not an empty folder"),
        (("vae-reconstruct", "RUN", "IMAGES", "--out", "no/where"), "there is no folder"),
        (("vae-reconstruct", "RUN", "twins"), "the reconstruction of a.bmp would be a.bmp.png, as another's"),
        (("vae-sample", "RUN", "--like", "full/x.png"), "full/x.png is empty: give another image"),
        (("vae-sample", "RUN", "--like", "full/x.png", "--prior", "mixture"), "--prior, --like and --between each say"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(
    arguments: tuple[str, ...], message: str, finished_run: Path, images: Path, tmp_path: Path,
    refusal: Callable[..., str],
) -> None:  # fmt: skip
    for folder in ("empty", "full", "twins"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full" / "x.png").touch()
    for twin in ("a.bmp", "a.bmp.png"):
        (tmp_path / "twins" / twin).write_bytes(next((images / "1").iterdir()).read_bytes())
    before = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    given = {"RUN": finished_run, "IMAGES": images}
    assert message in refusal(arguments[0], *(given.get(a, a) for a in arguments[1:]), cwd=tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == before
