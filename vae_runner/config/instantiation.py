"""From a part of the configuration to the object that it describes."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from vae_runner.config.keys import Content
from vae_runner.config.refusals import explain_target
from vae_runner.config.registry import Built
from vae_runner.errors import UserError, did_you_mean


def build(part: Built | Mapping[str, object], path: str, /, **arguments: object) -> Any:
    """Return the object that a part describes: its `_target_`, called with its keys, and `arguments`.

    With `_partial_: true` it is not called: the target itself, or with the part's keys filled in. `path` is the part's
    dotted key, for messages.

    Raises:
        UserError: there is no such target, or it does not take these keys.
    """
    keys = keys_of(part)
    target, signature = _target(keys, path)
    name = str(keys["_target_"])
    try:
        bind = signature.bind_partial if keys.get("_partial_") else signature.bind
        bind(**(target.keywords | arguments))
    except TypeError as error:
        unknown = next((key for key in target.keywords if f"'{key}'" in str(error)), "")
        hint = did_you_mean(unknown, signature.parameters) if unknown else ""
        raise UserError(f"{path}: {name} does not fit its configuration: {error}.{hint}") from error
    for key, value in target.keywords.items():
        expected = signature.parameters[key].annotation if key in signature.parameters else None
        if expected is int and type(value) is not int:
            raise UserError(f"{path}.{key}={value}: must be a whole number")
    if keys.get("_partial_"):
        return target if target.keywords else target.func
    return target(**arguments)


def takes(part: Built | Mapping[str, object], path: str, argument: str) -> bool:
    """Return whether the `_target_` of a part, which is as in `build`, has an argument of this name."""
    _, signature = _target(keys_of(part), path)
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def _target(keys: Content, path: str) -> tuple[partial[Any], inspect.Signature]:
    """Return the `_target_` with the other keys filled in, and its signature."""
    if "_target_" not in keys:
        raise UserError(f"{path} names nothing to build: its YAML needs a _target_")
    name = str(keys["_target_"])
    try:
        target = instantiate(keys, _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{path}._target_={name} {explain_target(name, error)}") from error
    try:
        signature = inspect.signature(target.func)
    except ValueError as error:  # Some functions written in C have no signature.
        raise UserError(f"{path}._target_={name} cannot be used: {error}") from error
    return target, signature


def keys_of(part: Built | Mapping[str, object]) -> Content:
    """Return the keys of a part of the configuration, and their values."""
    return dict(part if isinstance(part, Mapping) else vars(part))
