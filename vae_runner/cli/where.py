"""`--where 'latent>8 and method=iwae'`: comparisons of what is known of runs. Nothing of them is run as code."""

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vae_runner.errors import UserError
from vae_runner.storage.catalog import OWN, RunRecord

ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
COMPARISON = re.compile(r"""\s*([A-Za-z_][\w./-]*)\s*(<=|>=|!=|==?|<|>)\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>=!]+))""")
NEAREST = 3  # names that are offered for one that no run has
JOINED = re.compile(r"\s+and\s+(?=\S)")


@dataclass(frozen=True)
class Comparison:
    """A comparison of a metric, a setting, a choice, … of a run with a number or a word."""

    name: str
    sign: str
    wanted: str

    def holds(self, record: RunRecord) -> bool:
        """Return whether the comparison is true of a run; what a run does not have equals only `null`."""
        value = record.value(self.name)
        if self.sign in ORDERS:
            return _is_number(value) and ORDERS[self.sign](float(str(value)), float(self.wanted))
        values = value or [None] if isinstance(value, list) and self.name == "tag" else [value]
        return any(_is(one, self.wanted) for one in values) != (self.sign == "!=")


def parsed(text: str) -> list[Comparison]:
    """Return the comparisons in the text of `--where`; refuse what is none."""
    comparisons, place = [], 0
    while True:
        found = COMPARISON.match(text, place)
        if found is None:
            raise UserError(
                f"--where: cannot read '{text[place:].strip()}': write NAME=VALUE, with =, !=, <, <=, > or >=, and "
                "'and' between two, like 'latent>8 and test/loss<40'; a value with spaces needs quotes"
            )
        name, sign = found[1], found[2]
        wanted = next(value for value in found.groups()[2:] if value is not None)
        if sign in ORDERS and not _is_number(wanted):
            raise UserError(f"--where: {name}{sign}{wanted}: {wanted} is no number: words are compared with = and !=")
        comparisons.append(Comparison(name, "=" if sign == "==" else sign, wanted))
        place = found.end()
        if not text[place:].strip():
            return comparisons
        joined = JOINED.match(text, place)
        place = joined.end() if joined else place
        if joined is None:
            raise UserError(f"--where: cannot read '{text[place:].strip()}': comparisons are joined by 'and'")


def check_names(names: Iterable[str], records: Sequence[RunRecord]) -> None:
    """Refuse a name that says nothing of any run: it is misspelt, or its runs are elsewhere."""
    for name in names:
        if records and name not in OWN and not any(_has(record, name) for record in records):
            known = {*OWN, *(name for r in records for of in (r.metrics, r.settings, r.choices) for name in of)}
            raise UserError(f"no run has '{name}'.{_nearest(name, known)} vae-runs show RUN lists what a run has.")


def _has(record: RunRecord, name: str) -> bool:
    return name in record.metrics or name in record.settings or name in record.choices


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'test/kl' or 'train/kl'?"` for names of the same last word, or that look like it."""
    names = sorted(known)
    of_last_word = [other for other in names if _last_word(other) == _last_word(name)]
    close = list(dict.fromkeys([*of_last_word, *difflib.get_close_matches(name, names)]))[:NEAREST]
    return " Did you mean '" + "' or '".join(close) + "'?" if close else ""


def _last_word(name: str) -> str:
    return re.split("[./]", name)[-1]


def _is(value: object, wanted: str) -> bool:
    if value is None:
        return wanted == "null"
    if _is_number(value) and _is_number(wanted):
        return float(str(value)) == float(wanted)
    return (str(value).lower() if isinstance(value, bool) else str(value)) == wanted


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    try:
        float(str(value))
    except ValueError:
        return False
    return True
