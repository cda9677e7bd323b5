"""Which components fit: `python -m tests.combinations` prints the tables of docs/methods.md, made from the registry.

With `--train` it also takes two optimizer steps of every posterior × prior × loss that fits.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType

from vae_runner.config import registry
from vae_runner.config.fit import misfits
from vae_runner.config.registry import Component
from vae_runner.errors import UnfitError
from vae_runner.schema import register_schemas

AXES = ("posterior", "prior", "likelihood", "loss")
CONDITIONAL = ("false", "true")


def names(group: str) -> list[str]:
    """Return the names of a group's components."""
    register_schemas()
    return [component.name for component in registry.components(group)]


def component(group: str, name: str) -> Component:
    """Return a component by its name."""
    return next(known for known in registry.components(group) if known.name == name)


def fits(keys: Mapping[str, Mapping[str, object]] = MappingProxyType({}), /, **chosen: str) -> bool:
    """Return whether components fit each other, each given by its group; `keys` are those of a group's with a value."""
    nodes = {group: component(group, name).node for group, name in chosen.items()}
    return not misfits({group: replace(node, **keys.get(group, {})) for group, node in nodes.items()})


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


def every_trained() -> list[tuple[str, ...]]:
    """Return every posterior × prior × loss that fits, each with one likelihood; likelihoods take turns."""
    taken = dict.fromkeys(names("likelihood"), 0)
    chosen = []
    for posterior, prior, loss in product(names("posterior"), names("prior"), names("loss")):
        fitting = [name for name in taken if fits(posterior=posterior, prior=prior, likelihood=name, loss=loss)]
        if fitting:
            likelihood = min(fitting, key=taken.__getitem__)
            taken[likelihood] += 1
            chosen.append((posterior, prior, likelihood, loss))
    return chosen


def tables() -> str:
    """Return the tables of all pairs of groups in which something does not fit."""
    pairs = (("posterior", "prior"), ("posterior", "loss"), ("likelihood", "loss"))
    posteriors, priors, likelihoods, losses = (len(names(group)) for group in AXES)
    fitting = (
        f"{len(every_fitting()):,} combinations of the {posteriors} posteriors, {priors} priors, {likelihoods} "
        f"likelihoods and {losses} losses fit;\nof a posterior, a prior and a loss, {len(every_trained()):,}."
    )
    return "\n\n".join([*(table(*pair) for pair in pairs), fitting])


def train() -> bool:
    """Take two steps of every posterior × prior × loss; print failures and counts; return whether none failed.

    Each is taken with and without labels. A combination counts as refused if that is so before any work, and as failed
    if the registry lets it through and it is refused later.
    """
    from tests.small_experiments import built, problems  # here, because the tables need no TensorFlow

    start, chosen = time.monotonic(), every_trained()
    unfit = len(names("posterior")) * len(names("prior")) * len(names("loss")) - len(chosen)
    counts = Counter(refused=len(CONDITIONAL) * unfit)
    for components, conditional in product(chosen, CONDITIONAL):
        overrides = [f"{group}={name}" for group, name in zip(AXES, components, strict=True)]
        overrides.append(f"model.conditional={conditional}")
        try:
            found = list(problems(built(*overrides), components[-1], compiled=False))
        except UnfitError:
            counts["refused"] += 1
            continue
        except Exception as error:  # Whatever it is, the others are still trained.
            found = [f"{type(error).__name__}: {error}"]
        counts["failed" if found else "trained"] += 1
        if found:
            print(" ".join(overrides), "; ".join(found), sep=": ", flush=True)
    outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("trained", "failed", "refused"))
    print(f"posterior × prior × loss: {outcomes}, in {time.monotonic() - start:.0f} seconds")
    return not counts["failed"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.combinations", description=__doc__)
    parser.add_argument("--train", action="store_true", help="train every posterior × prior × loss that fits, too")
    arguments = parser.parse_args()
    print(tables())
    if arguments.train:
        sys.exit(not train())
