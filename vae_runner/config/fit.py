"""What fits what: what a component, or the value of one of its keys, needs of the others of a run, and what they give.

A component says so in its room's `schema.py`: `Component.needs` and `gives`, and the method `needs` of its keys.
"""

from collections.abc import Mapping

from vae_runner.config import registry
from vae_runner.config.instantiation import keys_of
from vae_runner.config.registry import Built, Component
from vae_runner.errors import UnfitError

MEANINGS = {  # of what a component may give, as the end of "needs a posterior …", "a dataset …" or "a loss …"
    "density": "with a density",
    "every z": "whose density is known at every z",
    "everywhere": "of vectors whose density is known at every z",
    "factorised": "whose dimensions are independent",
    "vector": "of vectors in all of space",
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


def check_fit(parts: Mapping[str, Built | Mapping[str, object]]) -> None:
    """Refuse components that do not fit each other; `parts` are those of a run, by group.

    Components that are not ours are left out: `experiment` checks them when they are built.

    Raises:
        UnfitError: one of them, or the value of one of its keys, needs what another does not give.
    """
    chosen = {group: registry.by_target(keys_of(part).get("_target_")) for group, part in parts.items()}
    for name, component in chosen.items():
        if component is None:
            continue
        for group, needed in component.needs.items():
            other = chosen.get(group)
            if other and needed not in other.gives:
                instead = _fitting_components(component, other)
                raise UnfitError(_refusal(f"{name}={component.name}", needed, other, instead))
        part = parts[name]
        for need in part.needs() if isinstance(part, Built) else ():
            other = chosen.get(need.group)
            if other and need.given not in other.gives:
                key = f"{name}.{need.key}"
                instead = f", or {key}={_word(getattr(type(part), need.key))}"  # its default, which needs nothing
                raise UnfitError(_refusal(f"{key}={_word(getattr(part, need.key))}", need.given, other, instead))


def _refusal(needing: str, needed: str, other: Component, instead: str) -> str:
    """Return what is wrong, and what to choose: another component, or what is said in `instead`."""
    fitting = [candidate.name for candidate in registry.components(other.group) if needed in candidate.gives]
    return (
        f"{needing} needs a {other.group} {MEANINGS[needed]}, and {other.group}={other.name} is not one: choose "
        f"{other.group} from {', '.join(fitting)}{instead}"
    )


def _fitting_components(component: Component, other: Component) -> str:
    """Return the choices in place of `component` that fit the other one, as the end of a message."""
    fitting = [
        candidate.name
        for candidate in registry.components(component.group)
        if candidate.needs.get(other.group) is None or candidate.needs[other.group] in other.gives
    ]
    return f", or {component.group} from {', '.join(fitting)}" if fitting else ""


def _word(value: object) -> str:
    """Return a value as it is given on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
