"""Names of classes, runs and metrics are data: whatever is in them, they are drawn, and where they belong."""

import itertools
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from tests.conftest import command
from vae_runner.figures import labels
from vae_runner.figures.grid import image_grid
from vae_runner.figures.labels import plain_text
from vae_runner.storage.pictures import save_figure

CHINESE = "一二三四五六七八九十"
WIDE = "W" * 40


@pytest.fixture(autouse=True)
def only_matplotlibs_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fonts of a machine that has no others, and nothing known of them from other tests."""
    own = str(Path(matplotlib.get_data_path()))
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if font.fname.startswith(own)])
    monkeypatch.setattr(labels, "findSystemFonts", list)
    monkeypatch.setattr(labels, "_undrawable", set())
    labels._installed.cache_clear()
    with matplotlib.rc_context():
        yield
    labels._installed.cache_clear()


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A font, installed since Matplotlib made its list, in which the Chinese digits are black squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(character): "square" for character in CHINESE})
    font.setupGlyf({".notdef": square, "square": square})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "squares.ttf")
    monkeypatch.setattr(labels, "findSystemFonts", lambda: [str(tmp_path / "squares.ttf")])


def captioned(names: list[str], path: Path) -> np.ndarray:
    """The grey values of the picture of a row of white images with captions; no warning may come from drawing it."""
    images = np.ones((len(names), 28, 28, 1))
    figure = image_grid(images, len(names), "title", captions=[plain_text(name, 14) for name in names])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, path)
    return np.asarray(Image.open(path).convert("L"))


def test_letters_that_matplotlibs_font_lacks_are_drawn_with_one_that_has_them(squares: None, tmp_path: Path) -> None:
    assert [plain_text(name, 14) for name in CHINESE] == list(CHINESE)
    drawn, blank = captioned(["三四"], tmp_path / "a.png"), captioned([""], tmp_path / "b.png")
    assert (drawn < 50).sum() - (blank < 50).sum() > 2 * 10**2  # two black squares of 6 points each
    assert plain_text("shirt 一", 14) == "shirt 一"


def test_names_in_letters_that_all_fonts_have_leave_the_fonts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "findSystemFonts", lambda: pytest.fail("looked at all fonts"))
    before = matplotlib.rcParams["font.family"]
    assert [plain_text(name, 20) for name in ("T-shirt/top", "Größe", "юбка", "ποδήλατο")] == [
        *("T-shirt/top", "Größe", "юбка", "ποδήλατο")
    ]
    assert matplotlib.rcParams["font.family"] == before


def test_letters_that_no_font_has_are_written_out_which_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert [plain_text(name, 14) for name in ("一", "a二", "一")] == [r"\u4e00", r"a\u4e8c", r"\u4e00"]
        captioned(list(CHINESE), tmp_path / "a.png")
    assert [record.getMessage() for record in caplog.records] == [
        r"no installed font has the letter 一: in the pictures it is written out, as \u4e00, and so are others of its "
        "kind; install a font that has them"
    ]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("_background_", "_background_"),
        ("$x_{y}^2$", r"\$x_{y}^2\$"),
        (r"a\$b\frac{1", r"a\\$b\frac{1"),
        ("two\nlines\tof it", r"two\nlines\tof it"),
        ("\x1b[31m\u202e\udce9", r"\x1b[31m\u202e\udce9"),
        ("", ""),
    ],
)
def test_a_label_is_one_line_of_what_the_name_is(name: str, label: str) -> None:
    assert plain_text(name, 30) == label


@pytest.mark.parametrize("name", [WIDE, "i" * 100, "word " * 20, "ﷺ" * 20, "\n" * 20])
def test_a_label_that_is_too_wide_is_cut_to_its_place(name: str) -> None:
    place = labels._width("n" * 14)
    label = plain_text(name, 14)
    assert label.endswith("…")
    assert 0.8 * place < labels._width(label) <= place
    assert plain_text("n" * 14, 14) == "n" * 14
    assert plain_text("n" * 20 + "end", 14, keep_end=True).startswith("…n")
    assert plain_text("n" * 20 + "end", 14, keep_end=True).endswith("nend")


def test_wide_captions_do_not_overlap() -> None:
    captions = [plain_text(name, 14) for name in (WIDE, CHINESE * 3, "i" * 100, WIDE)]
    figure = image_grid(np.zeros((4, 28, 28, 1)), 4, "title", captions=captions)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 <= right.x0


MINE = """
import warnings

from matplotlib.figure import Figure

def draw(trained):
    for _ in range(3):
        with warnings.catch_warnings():  # makes Python forget which warnings it has given
            warnings.warn("something is deprecated")
    figure = Figure()
    figure.text(0, 0.5, "\\U000F0000 in a font that nobody has")
    return figure
"""


@pytest.mark.slow
def test_a_run_on_classes_of_any_name_says_nothing_of_fonts_on_the_terminal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("_background_", "$x_1$", "一", "two\nlines"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "mine.py").write_text(MINE)
    result = command(
        "vae-run", "dataset=folder", "dataset.root=images", "dataset.image_size=16", "dataset.labels=folders",
        "latent=2", "epochs=2", "batch_size=8", "figures.every=1", "hydra.run.dir=run",
        "+figures.periodic.mine={_target_: mine.draw, _partial_: true}",
        cwd=tmp_path, PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "Warning" not in result.stdout
    assert result.stdout.count("no installed font") <= 1
    log = (tmp_path / "run" / "vae-run.log").read_text()
    assert len(re.findall(r"\[py\.warnings\]\[WARNING\] .*UserWarning: something is deprecated", log)) == 1
    assert len(re.findall(r"\[py\.warnings\]\[WARNING\] .*Glyph 983040", log)) == 1
