"""Names from the data as labels: whatever is in them, they are drawn as text, in one line, and cut to their place."""

import logging
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from matplotlib import rcParams
from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

LAST_RESORT = "Last Resort High-Efficiency"  # Matplotlib's own: it has a box for every character, and no letters
FONT_ERRORS = (OSError, RuntimeError, ValueError, LookupError)  # of files that are no fonts, or none to be scaled

log = logging.getLogger(__name__)

_undrawable: set[str] = set()  # characters that no installed font has


def plain_text(name: str, longest: int, *, keep_end: bool = False) -> str:
    r"""Return a name as a label that is no formula, cut to the width of `longest` letters n.

    Characters that cannot be seen, or that no installed font has, are written as escapes, like `\n` and `\u4e00`.
    """
    _provide_fonts(name)
    name = "".join(c if c.isprintable() and c not in _undrawable else _written_out(c) for c in name)
    widest = _width("n" * longest)
    if _width(name) > widest:

        def cut(count: int) -> str:
            return f"…{name[-count:]}" if keep_end else f"{name[:count]}…"

        name = cut(max(bisect_right(range(1, len(name)), widest, key=lambda count: _width(cut(count))), 1))
    return name.replace("$", r"\$")


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _width(text: str) -> float:
    return text_to_path.get_text_width_height_descent(text, FontProperties(), ismath=False)[0]


def _provide_fonts(text: str) -> None:
    """Let Matplotlib fall back on further fonts where its own lack letters of `text`; note which no font has."""
    lacking = {c for c in text if not c.isascii() and c.isprintable()} - _undrawable
    for family in rcParams["font.family"] if lacking else ():
        lacking -= _drawn_by(findfont(FontProperties(family=[family])), lacking)
    if not lacking:  # which is nearly always so: looking at all fonts takes a moment
        return
    fonts = _installed()
    while lacking:
        best = max(fonts, key=lambda font: len(_drawn_by(font.fname, lacking, font.index)))
        if not (drawn := _drawn_by(best.fname, lacking, best.index)):
            break
        rcParams["font.family"] = [*rcParams["font.family"], best.name]
        lacking -= drawn
    if lacking and not _undrawable:
        example = min(lacking)
        log.warning(
            "no installed font has the letter %s: in the pictures it is written out, as %s, and so are others of its "
            "kind; install a font that has them",
            example,
            _written_out(example),
        )
    _undrawable.update(lacking)


@cache
def _installed() -> list[FontEntry]:
    """Return the fonts to choose from, ordinary ones first, also those installed since Matplotlib made its list."""
    known = {font.fname for font in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            with suppress(*FONT_ERRORS):
                fontManager.addfont(path)
    fonts = [font for font in fontManager.ttflist if font.name != LAST_RESORT]
    return sorted(fonts, key=lambda font: (font.style != "normal", font.weight != 400, font.name, font.fname))


def _drawn_by(path: str, characters: Iterable[str], index: int = 0) -> set[str]:
    """Return which of the characters a font has."""
    try:
        font = FT2Font(path, face_index=index)
    except FONT_ERRORS:
        return set()
    return {c for c in characters if font.get_char_index(ord(c))}
