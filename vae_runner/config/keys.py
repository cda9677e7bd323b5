"""Keys of the configuration: what values each allows, and the check of one value."""

import dataclasses
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf

from vae_runner.errors import YAML_WORDS, UserError, did_you_mean

PRESETS = ("method", "experiment")  # groups: choices of other groups' components

Content = dict[str, Any]  # a configuration as YAML has it: nested dictionaries, lists and plain values

if TYPE_CHECKING:
    T = TypeVar("T")
    Mixed = Annotated[T, "of several types"]
else:

    class Mixed:
        """The type of a key that takes values of several, `Mixed[int | list[int]]`.

        OmegaConf has no such unions, and takes it for Any: what it lets through, `choices` or a `check` refuses.
        """

        def __class_getitem__(cls, allowed: object) -> object:
            return Any


LARGEST_INT = 2**63 - 1
SMALLEST_FLOAT, LARGEST_FLOAT = 1.2e-38, 3.4e38  # of float32, which losses and optimizers are computed in
COMPARISONS = {"at least": operator.ge, "greater than": operator.gt, "at most": operator.le, "less than": operator.lt}


def key(
    default: object = MISSING,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    choices: tuple[object, ...] = (),
    unit: str = "",
    word: str | None = None,
) -> Any:
    """Return a dataclass field with the values it allows: from `minimum` to `maximum`, `above` and `below` others.

    With a `word` it is a whole number, or that word, in place of which a run puts the number that it has chosen.
    """
    bounds = dict(zip(COMPARISONS, (minimum, above, maximum, below), strict=True))
    given = {word: bound for word, bound in bounds.items() if bound is not None}
    return field(default=default, metadata={"bounds": given, "choices": choices, "unit": unit, "word": word})


def typed_keys(node: DictConfig, prefix: str) -> Iterator[tuple[str, object, dataclasses.Field[object]]]:
    """Yield path, value and field of each key below `node` with a schema; refuse unknown, empty and removed keys."""
    schema = OmegaConf.get_type(node)
    fields = {f.name: f for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
    for missing in fields.keys() - node.keys():
        raise UserError(f"{prefix}{missing} was removed from the configuration: it needs a value")
    for key_ in node:
        name = str(key_)
        path = f"{prefix}{name}"
        if fields and name not in fields:
            raise UserError(f"there is no key '{path}'.{did_you_mean(name, fields)} Leave it out.")
        if OmegaConf.is_missing(node, name):
            raise UserError(f"{path} has no value: give it one ({path}=…)")
        value = node[name]
        if name in fields:
            yield path, value, fields[name]
        if isinstance(value, DictConfig):
            yield from typed_keys(value, f"{path}.")


def check_value(path: str, value: object, schema_field: dataclasses.Field[object]) -> None:
    """Refuse a value that its field does not allow."""
    choices = schema_field.metadata.get("choices", ())
    if choices and value is not None and (type(value), value) not in [(type(c), c) for c in choices]:
        shown = [str(c).lower() if isinstance(c, bool) else str(c) for c in choices]
        words = f" {YAML_WORDS}" if str(value) in ("True", "False") else ""
        raise UserError(f"{path}={value}: must be one of {', '.join(shown)}.{did_you_mean(str(value), shown)}{words}")
    word = schema_field.metadata.get("word")
    if word and type(value) is not int and value != word:
        raise UserError(f"{path}={value}: must be a whole number ({schema_field.metadata['unit']}), or {word}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    unit = f" ({schema_field.metadata['unit']})" if schema_field.metadata.get("unit") else ""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path}={value}: must be a finite number{unit}")
    for word, bound in schema_field.metadata.get("bounds", {}).items():
        if not COMPARISONS[word](value, bound):
            raise UserError(f"{path}={value}: must be {word} {bound:{'d' if isinstance(bound, int) else 'g'}}{unit}")
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        raise UserError(f"{path}={_short(value)}: must be at most {LARGEST_INT}{unit}")
    if isinstance(value, float) and value and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT:
        raise UserError(f"{path}={value}: must be 0, or from {SMALLEST_FLOAT:g} to {LARGEST_FLOAT:g}{unit}")


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**24 else f"{str(value)[:20]}…"


def leaves(node: object, prefix: str = "", *, into_lists: bool = True) -> Iterator[tuple[str, object]]:
    """Yield each value in nested dictionaries, and in lists unless those are values, with its dotted key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key), into_lists=into_lists)
    elif isinstance(node, list) and into_lists:
        for number, value in enumerate(node):
            yield from leaves(value, f"{prefix}.{number}")
    else:
        yield prefix, node
