"""What fits what: what a component, or the value of one of its keys, needs of the others of a run, and what they give.

A component says so in its room's `schema.py`: `Component.needs` and `gives`, and the methods `needs` and `lacks` of its
keys.
"""

from collections.abc import Mapping
from typing import NamedTuple

from vae_runner.config import registry
from vae_runner.config.instantiation import keys_of
from vae_runner.config.registry import Built, Need
from vae_runner.errors import UnfitError

MEANINGS = {  # of what a component may give, as the end of "needs a posterior …", "a dataset …" or "a loss …"
    "density": "with a density",
    "every z": "whose density is known at every z",
    "factorised": "whose dimensions are independent",
    "vector": "of vectors in all of space",
    "map": "whose z can be a map",
    "sphere": "on the sphere",
    "codes": "of codes",
    "weighed codes": "of codes that a loss weighs by their probability",
    "codebook": "with a codebook",
    "error": "that is an error and no density",
    "mean": "whose mean follows from a location or a logit",
    "labels": "with labels",
    "prior": "with a term of the prior",
    "log prior": "with a term of log p(z)",
}


Parts = Mapping[str, Built | Mapping[str, object]]  # of a run, by group


class Misfit(NamedTuple):
    """What the component of one group needs, and that of another does not give."""

    group: str
    need: Need  # of the component itself where its key is ""


def check_fit(parts: Parts) -> None:
    """Refuse components that do not fit each other.

    Components that are not ours are left out: `experiment` checks them when they are built.

    Raises:
        UnfitError: one of them, or the value of one of its keys, needs what another does not give.
    """
    if found := misfits(parts):
        raise UnfitError(_refusal(parts, found))


def misfits(parts: Parts) -> list[Misfit]:
    """Return all that components, and the values of their keys, need, and others do not give."""
    found = []
    chosen = {group: registry.by_target(keys_of(part).get("_target_")) for group, part in parts.items()}
    for group, component in chosen.items():
        if component is None:
            continue
        part = parts[group]
        needs = [Need("", of, given) for of, needed in component.needs.items() for given in MEANINGS if given in needed]
        for need in (*needs, *(part.needs() if isinstance(part, Built) else ())):
            other = chosen.get(need.group)
            if other and (need.given not in other.gives or _lacking(parts[need.group], need.given)):
                found.append(Misfit(group, need))
    return found


def _lacking(part: Built | Mapping[str, object], given: str) -> str:
    """Return the key whose value keeps a component from giving that; "" where there is none."""
    lacks = part.lacks() if isinstance(part, Built) else ()
    return next((lack.key for lack in lacks if given in lack.given), "")


def _refusal(parts: Parts, found: list[Misfit]) -> str:
    """Return what is wrong first, and each choice that mends it and does not make something else wrong."""
    group, (key, other_group, given) = found[0]
    part, other_part = parts[group], parts[other_group]
    component, other = (registry.by_target(keys_of(of)["_target_"]) for of in (part, other_part))
    assert component
    assert other
    needing, lacking = f"{group}={component.name}", f"{other_group}={other.name}"
    mending = [other_group, *(() if key else (group,))]
    choices = [f"{name} from {', '.join(fitting)}" for name in mending if (fitting := _fitting(parts, found, name))]
    if given in other.gives:
        withholding = _lacking(other_part, given)
        lacking += f" with {other_group}.{withholding}={_word(getattr(other_part, withholding))}"
        choices.append(f"another {other_group}.{withholding}")
    if key:
        needing = f"{group}.{key}={_word(getattr(part, key))}"
        default = getattr(type(part), key)
        choices.append(f"another {group}.{key}" if default == getattr(part, key) else f"{group}.{key}={_word(default)}")
    return (
        f"{needing} needs a {other_group} {MEANINGS[given]}, and {lacking} is not one: choose {', or '.join(choices)}"
    )


def _fitting(parts: Parts, found: list[Misfit], group: str) -> list[str]:
    """Return the choices of a group that, in place of the run's, mend the first of these misfits and make no other.

    They are those that leave the fewest of the others.
    """
    left = {}
    for other in registry.components(group):
        node = other.node
        if isinstance(node, Built) and other.target != keys_of(parts[group])["_target_"]:
            after = misfits({**parts, group: node})
            if set(found[1:]).issuperset(after):
                left[other.name] = len(after)
    return [name for name, count in left.items() if count == min(left.values())]


def _word(value: object) -> str:
    """Return a value as it is given on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
