"""The registry of components: what can be chosen in each group, what builds it, and which keys it has.

Each room's `schema.py` lists the room's components, and `vae_runner.schema` registers them. Hydra's
store, the checks, the help text, the types of a resumed run and the question which code is ours are all answered here.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from omegaconf import MISSING


class Need(NamedTuple):
    """What the value of a component's key needs of the component of another group."""

    key: str  # without its group
    group: str
    given: str  # what the other is to give: see `config.fit`


class Lack(NamedTuple):
    """What the value of a component's key keeps it from giving, of what others may need of it."""

    key: str  # without its group
    given: frozenset[str]  # see `config.fit`


@dataclass
class Keys:
    """Keys of the configuration that belong together: a group's, or a component's."""

    def check(self) -> None:
        """Refuse values that do not go together."""

    def needs(self) -> Iterable[Need]:
        """Return what the values need of other components, beside what the component itself needs."""
        return ()

    def lacks(self) -> Iterable[Lack]:
        """Return what the values keep the component from giving."""
        return ()


@dataclass
class Built(Keys):
    """The keys of what is built; a component without keys of its own has this one only."""

    _target_: str = MISSING

    def check_latent(self, latent: int) -> None:
        """Refuse values that do not go with the number of latent dimensions, or of channels of a spatial latent."""


@dataclass(frozen=True)
class Component:
    """One choice of a group."""

    group: str
    name: str
    target: str | None  # what is called to build it; None: nothing is built
    schema: type[Keys] = Built
    shown: str = ""  # the keys that --help names
    gives: frozenset[str] = frozenset()  # what others may need of it, with some values of its keys: see `config.fit`
    needs: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)  # by the group of the other
    least_latent: int = 1  # how many latent dimensions it needs

    @property
    def node(self) -> Keys:
        """The keys and their defaults, as Hydra and OmegaConf take them."""
        return self.schema(_target_=self.target) if self.target and issubclass(self.schema, Built) else self.schema()


_components: dict[tuple[str, str], Component] = {}


def register(*added: Component) -> None:
    """Add components; the YAML of one, `conf/GROUP/NAME.yaml`, takes types and target from `/schema/GROUP/NAME`."""
    _components.update({(component.group, component.name): component for component in added})


def components(group: str | None = None) -> list[Component]:
    """Return the components of a group, or all, in the order in which they were registered."""
    return [component for component in _components.values() if group in (None, component.group)]


def by_target(target: object) -> Component | None:
    """Return the component that this `_target_` builds; None: it is none of ours."""
    return next((component for component in components() if target and component.target == target), None)


def root() -> type[Keys]:
    """Return the schema of the whole configuration."""
    return _components["", "config"].schema


def parts() -> list[str]:
    """Return the keys of the configuration that are built from a `_target_`."""
    built = {component.group for component in components() if component.target}
    return [field.name for field in dataclasses.fields(root()) if field.name in built]


def number_keys() -> set[str]:
    """Return the dotted keys that are numbers, or null, in every schema that has them, once a run has begun."""
    found: dict[str, bool] = {}
    places = [(f"{component.group}.".lstrip("."), component.schema) for component in components()]
    for prefix, schema in places:
        for field in dataclasses.fields(schema):
            key = f"{prefix}{field.name}"
            if isinstance(field.type, type) and issubclass(field.type, Keys):
                places.append((f"{key}.", field.type))
            is_number = field.type in (int, float, int | None, float | None) or bool(field.metadata.get("word"))
            found[key] = found.get(key, True) and is_number
    return {key for key, is_number in found.items() if is_number}
