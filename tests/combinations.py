"""Which components fit: `python -m tests.combinations` prints the tables of docs/methods.md, made from the registry."""

from itertools import product

from vae_runner.config import registry
from vae_runner.config.fit import check_fit
from vae_runner.errors import UserError
from vae_runner.schema import register_schemas

AXES = ("posterior", "prior", "likelihood", "loss")


def names(group: str) -> list[str]:
    """Return the components of a group."""
    register_schemas()
    return [component.name for component in registry.components(group)]


def target(group: str, name: str) -> str | None:
    """Return what a component is built from."""
    return next(component.target for component in registry.components(group) if component.name == name)


def fits(**chosen: str) -> bool:
    """Return whether components fit each other, each given by its group."""
    try:
        check_fit({group: target(group, name) for group, name in chosen.items()})
    except UserError:
        return False
    return True


def every_fitting() -> list[tuple[str, ...]]:
    """Return all combinations of the four axes that fit."""
    return [chosen for chosen in product(*map(names, AXES)) if fits(**dict(zip(AXES, chosen, strict=True)))]


def table(rows: str, columns: str) -> str:
    """Return a Markdown table of which components of two groups fit each other."""
    lines = [f"| `{rows}` \\ `{columns}` | " + " | ".join(f"`{name}`" for name in names(columns)) + " |"]
    lines.append("|---" * (len(names(columns)) + 1) + "|")
    for row in names(rows):
        marks = ["✓" if fits(**{rows: row, columns: column}) else "–" for column in names(columns)]
        lines.append(f"| `{row}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def tables() -> str:
    """Return the tables of all pairs of groups in which something does not fit."""
    pairs = (("posterior", "prior"), ("posterior", "loss"), ("likelihood", "loss"))
    counts = " × ".join(f"{len(names(group))} {group}s" for group in AXES).replace("losss", "losses")
    fitting = len(every_fitting())
    return "\n\n".join([*(table(*pair) for pair in pairs), f"Of {counts}, {fitting:,} combinations fit."])


if __name__ == "__main__":
    print(tables())
