"""A CSV of the factors of image files: a file's name in the first column, and a column for each factor."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError, counted
from vae_runner.files.untrusted import DamagedError, read, reading

MAX_BYTES = 1 << 28
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class FactorTable(NamedTuple):
    """The factors of some files."""

    names: Sequence[str]
    sizes: Sequence[int]  # how many values each has
    factors: NDArray[np.int64]  # `[files, factors]`: which of a factor's values, in their order


def read_factors(path: Path, folder: Path, files: Sequence[Path]) -> FactorTable:
    """Return the factors of `files`, which lie below `folder`, from a CSV with a header.

    A factor's values are integers, or words; they are counted from 0 in their order, of integers or the alphabet.

    Raises:
        UserError: the table cannot be read, lacks one of the files, has another, or has one twice; or a value is
            missing, or is neither.
    """
    given = f"dataset.factors={path}"
    header, *rows = _rows(path) or [(1, [])]
    names = [name.strip() for name in header[1][1:]]
    if not names or not all(names) or len(set(names)) < len(names):
        raise UserError(
            f"{given}, line {header[0]}: it must name the columns, first the files' and then each factor, "
            "and no two alike"
        )
    known = {file.relative_to(folder).as_posix(): index for index, file in enumerate(files)}
    lines: dict[int, int] = {}  # of each file
    cells = np.empty((len(files), len(names)), object)
    for line, row in rows:
        at = f"{given}, line {line}"
        if len(row) != len(header[1]):
            raise UserError(f"{at}: it has {counted(len(row), 'column')}, and the first line {len(header[1])}")
        name = row[0].strip().removeprefix("./")
        if (index := known.get(name)) is None:
            raise UserError(
                f"{at}: there is no image {name} among those of {folder}: leave the line out, or mend the name"
            )
        if index in lines:
            raise UserError(f"{at}: {name} has factors in line {lines[index]} already: leave one of them out")
        lines[index] = line
        cells[index] = [value.strip() for value in row[1:]]
    if len(lines) < len(files):
        lacking = [name for name, index in known.items() if index not in lines]
        raise UserError(
            f"{given} has no line for {min(lacking)} ({len(lacking)} of {len(files)} images have none): add it"
        )
    order = sorted(lines, key=lines.__getitem__)
    columns = [_column(cells[:, i], f"{given}, line", name, order, lines) for i, name in enumerate(names)]
    return FactorTable(names, [size for size, _ in columns], np.stack([values for _, values in columns], axis=1))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty, with their numbers."""
    try:
        content = read(path, MAX_BYTES)
        with reading():
            table = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
            rows, begin = [], 1
            for row in table:
                if any(cell.strip() for cell in row):
                    rows.append((begin, row))
                begin = table.line_num + 1
            return rows
    except (DamagedError, csv.Error) as error:
        raise UserError(f"dataset.factors={path} cannot be read as a CSV ({error}): give another file") from error


def _column(
    cells: NDArray[np.object_], at: str, name: str, order: Sequence[int], lines: dict[int, int]
) -> tuple[int, NDArray[np.int64]]:
    """Return how many values a factor has, and which of them each file has; refuse values of two kinds."""
    of_integers = INTEGER.fullmatch(cells[order[0]]) is not None
    for index in order:
        value = cells[index]
        if not value:
            raise UserError(f"{at} {lines[index]}: it has no value of {name}: give one, or leave the column out")
        if of_integers != (INTEGER.fullmatch(value) is not None) or (not of_integers and _is_number(value)):
            raise UserError(
                f"{at} {lines[index]}: {name}={value}: a factor's values must all be integers, or all be words: "
                "number what lies between, or leave the column out"
            )
    found = [int(value) for value in cells] if of_integers else list(cells)
    values = {value: place for place, value in enumerate(sorted(set(found)))}
    return len(values), np.array([values[value] for value in found], np.int64)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
