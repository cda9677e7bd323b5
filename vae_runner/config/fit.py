"""What fits what: what a component needs of the others of a run, and what these give."""

from collections.abc import Mapping

from vae_runner.config import registry
from vae_runner.config.registry import Component
from vae_runner.errors import UnfitError

MEANINGS = {  # of what a component may give, as the end of "needs a posterior …", "a dataset …" or "a loss …"
    "density": "with a density",
    "error": "that is an error and no density",
    "everywhere": "of vectors whose density is known at every z",
    "factorised": "whose dimensions are independent",
    "vector": "of vectors in all of space",
    "sphere": "on the sphere",
    "labels": "with labels",
    "prior": "with a term of the prior",
}


def check_fit(targets: Mapping[str, object]) -> None:
    """Refuse components that do not fit each other; `targets` has the `_target_` of each part of a run.

    Components that are not ours are left out: `experiment` checks them when they are built.

    Raises:
        UnfitError: one of them needs what another does not give.
    """
    chosen = {part: registry.by_target(target) for part, target in targets.items()}
    for component in chosen.values():
        for group, needed in component.needs.items() if component else ():
            other = chosen.get(group)
            if component and other and needed not in other.gives:
                raise UnfitError(_refusal(component, other, needed))


def _refusal(component: Component, other: Component, needed: str) -> str:
    """Return what is wrong, and the choices of either group that fit the other component."""
    fitting = [candidate.name for candidate in registry.components(other.group) if needed in candidate.gives]
    also = [
        candidate.name
        for candidate in registry.components(component.group)
        if candidate.needs.get(other.group) is None or candidate.needs[other.group] in other.gives
    ]
    instead = f", or {component.group} from {', '.join(also)}" if also else ""
    return (
        f"{component.group}={component.name} needs a {other.group} {MEANINGS[needed]}, and {other.group}={other.name} "
        f"is not one: choose {other.group} from {', '.join(fitting)}{instead}"
    )
