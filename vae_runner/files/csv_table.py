"""Tables as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from vae_runner.errors import printable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_table(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return the content of a CSV file: the keys of the first row, and a line for each row; all have the same keys.

    Texts that a spreadsheet would take for a formula begin with an apostrophe.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for line in (*rows[:1], *(row.values() for row in rows)):
        writer.writerow(map(no_formula, line))
    return buffer.getvalue().encode()


def no_formula(value: object) -> object:
    """Return a value as a CSV file has it: with an apostrophe before a text that would be taken for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(FORMULA_STARTS) else printable(value)
