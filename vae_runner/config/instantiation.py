"""From a part of the configuration to the object that it describes."""

import inspect
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vae_runner.config.refusals import explain_target
from vae_runner.errors import UserError, did_you_mean


def build(node: DictConfig, **arguments: Any) -> Any:
    """The object that `node` describes: its `_target_`, called with its keys and `arguments`.

    With `_partial_: true` it is not called: the target itself, or with the node's keys filled in.

    Raises:
        UserError: there is no such target, or it does not take these keys.
    """
    where = str(node._get_full_key(None))
    if "_target_" not in node:
        raise UserError(f"{where} names nothing to build: its YAML needs a _target_")
    try:
        target = instantiate(OmegaConf.to_container(node, resolve=True), _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{where}._target_={node._target_} {explain_target(node._target_, error)}") from error
    partial = bool(node.get("_partial_"))
    try:
        signature = inspect.signature(target.func)
        (signature.bind_partial if partial else signature.bind)(**(target.keywords | arguments))
    except (TypeError, ValueError) as error:
        unknown = next((name for name in target.keywords if f"'{name}'" in str(error)), "")
        hint = did_you_mean(unknown, signature.parameters) if unknown else ""
        raise UserError(f"{where}: {node._target_} does not fit its configuration: {error}.{hint}") from error
    for name, value in target.keywords.items():
        expected = signature.parameters[name].annotation if name in signature.parameters else None
        if expected is int and type(value) is not int:
            raise UserError(f"{where}.{name}={value}: must be a whole number")
    if partial:
        return target if target.keywords else target.func
    return target(**arguments)
