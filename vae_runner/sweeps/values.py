"""Values of keys, as tables and plots take them: numbers by their size, all else as text."""

from vae_runner.files.untrusted import is_number


def as_number(value: object) -> float | None:
    """Return a number as such, None for what is none."""
    return float(value) if isinstance(value, int | float) and is_number(value) else None


def in_order(value: object) -> tuple[bool, float, str]:
    """Return by what values are sorted: numbers by their size, before all else, which is sorted as text."""
    number = as_number(value)
    return (False, number, "") if number is not None else (True, 0.0, str(value))
