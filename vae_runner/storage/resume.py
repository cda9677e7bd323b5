"""The stored configuration of a run, what may be changed in it, and what of it is trusted.

A run directory may come from anyone, so its configuration is data: it may name this package's own parts, and modules
that the user names on the command line.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_runner.config import registry
from vae_runner.config.keys import Content, leaves
from vae_runner.errors import DAMAGED, UntrustedError, UserError, did_you_mean
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun

# What does not change what a run has done already.
MAY_CHANGE = (
    *("epochs", "early_stopping", "checkpoint", "figures", "evaluation", "hardware"),
    *("data_dir", "dataset.data_dir", "dataset.root", "dataset.url"),  # where the images are, which are compared
    "dataset.factors",  # which training does not use
    "profile",
)

REPEATABLE = (
    "figures",
    "evaluation",
    "checkpoint",
)  # what a finished run can be asked for again, if it is other than before


def may_change(key: str) -> bool:
    """Return whether a key may be given when a run is resumed."""
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def configuration(path: Path, asked: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return the stored configuration of the run at `path`, with `overrides` taken from the composed one, `asked`.

    Raises:
        UserError: it is no configuration of ours, or names code that is not trusted.
    """
    directory = StoredRun.open(path)
    config = stored_configuration(directory, asked.trust)
    before = [OmegaConf.to_container(config[part]) for part in REPEATABLE]
    _apply_all(config, asked, overrides)
    info = directory.info
    done = info.get("epoch", 0)
    draws = [OmegaConf.to_container(config[part]) for part in REPEATABLE] != before
    if config.epochs < done or (config.epochs == done and info.get("status") == "finished" and not draws):
        with RunDirectory(path) as running:
            # Refuses one in use, which has not come to its end. Not before: all machines of a resumed run come here.
            running.acquire()
        raise UserError(
            f"{path} has done epoch {done} already: to continue it, give epochs= more than {done}, or other figures, "
            "another evaluation or checkpoint.models="
        )
    return config


def configuration_again(
    directory: StoredRun, asked: DictConfig, overrides: Sequence[str], changes: Sequence[Override]
) -> DictConfig:
    """Return the stored configuration of a run for one that repeats it, with other values of keys, `changes`.

    What may change when a run is resumed is taken from the composed configuration, `asked`, as there.

    Raises:
        UserError: it is no configuration of ours, or names code that is not trusted, or has no such key.
    """
    directory.check_config()
    config = stored_configuration(directory, asked.trust)
    _apply_all(config, asked, overrides)
    for change in changes:
        name = change.key_or_group
        parent, _, last = name.rpartition(".")
        keys = OmegaConf.select(config, parent) if parent else config
        if not isinstance(keys, DictConfig) or last not in keys:
            known = [str(key) for key in keys] if isinstance(keys, DictConfig) else []
            raise UserError(f"{directory.path}/config.yaml has no key '{name}'.{did_you_mean(last, known)}")
        if isinstance(keys._get_node(last), DictConfig) or isinstance(change.value(), dict):
            raise UserError(
                f"{change.input_line}: rerun= repeats a run with the parts that it has, and takes other values of "
                f"their keys, like {name}.KEY=VALUE; to choose another {name}, start a new run"
            )
        with _explained(name):
            OmegaConf.update(config, name, change.value(), merge=False)
    return config


def _apply_all(config: DictConfig, asked: DictConfig, overrides: Sequence[str]) -> None:
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        with _explained(override.key_or_group):
            _apply(config, asked, override)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Make what OmegaConf does not take as the value of a key a UserError."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{name}: {str(error).splitlines()[0]}") from error


def stored_configuration(
    directory: StoredRun, trust: Sequence[str], parts: Sequence[str] | None = None, advice: str = "trust=[{}]"
) -> DictConfig:
    """Return the configuration of a run as its schemas have it, with code that is trusted in these `parts`, or in all.

    `advice` is what to add to the command to trust a module.

    Raises:
        UserError: it is no configuration of ours, or names code that is not trusted.
    """
    path, stored = directory.path, directory.config
    _check_targets(stored, trust, parts, f"{path}/config.yaml", advice)
    try:
        config = DictConfig(OmegaConf.structured(registry.root()))
        config.merge_with(stored)
        _give_types(config, path)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}/config.yaml: {str(error).splitlines()[0]}: {DAMAGED}") from error
    if missing := OmegaConf.missing_keys(config):
        raise UserError(f"{path}/config.yaml has no {min(missing)}: {DAMAGED}")
    return config


def _give_types(config: DictConfig, path: Path) -> None:
    """Let the schemas say what the keys of our own parts may be, as they do where Hydra composes a configuration.

    A part with other keys than its schema is of a YAML of the user's own, which is taken as it is.
    """
    for part in registry.parts():
        node = config[part]
        if not isinstance(node, DictConfig) or not isinstance(node.get("_target_"), str):
            raise UserError(f"{path}/config.yaml: {part} has no _target_: {DAMAGED}")
        component = registry.by_target(node._target_)
        if component and node.keys() == vars(component.node).keys():
            config[part] = OmegaConf.merge(OmegaConf.structured(component.node), node)


def _apply(config: DictConfig, asked: DictConfig, override: Override) -> None:
    name = override.key_or_group
    if not may_change(name):
        return
    parent, _, last = name.rpartition(".")
    if override.is_delete():
        (OmegaConf.select(config, parent) if parent else config).pop(last, None)
        return
    if name == "data_dir" and OmegaConf.select(config, "dataset.data_dir") == config.data_dir:
        config.dataset.data_dir = asked.data_dir
    # As it was given: what is to be looked up is looked up in the run's own configuration.
    given = (OmegaConf.select(asked, parent) if parent else asked)._get_node(last)
    OmegaConf.update(config, name, given, merge=False, force_add=True)


def _check_targets(
    stored: DictConfig, trust: Sequence[str], parts: Sequence[str] | None, where: str, advice: str
) -> None:
    """Refuse a stored configuration that names code other than the modules in `trust` and this package's parts.

    Each of these in its place only: a prior is not to read images from a folder.
    """
    for key, value in leaves(OmegaConf.to_container(stored, resolve=False)):
        first = key.split(".")[0]
        if parts is not None and first not in parts:
            continue
        group = "optimizer" if key.startswith("loss.players.") else "figure" if first == "figures" else first
        component = registry.by_target(value)
        if key.split(".")[-1] != "_target_" or (component is not None and component.group == group):
            continue
        if not any(str(value).startswith(f"{module}.") for module in trust):
            module = str(value).rpartition(".")[0]
            raise UntrustedError(f"{where}: {key} is {value}, which is no part of vae-runner", module, advice)


def check_checkpoint_config(config: Content, checkpoint: Content, path: Path) -> None:
    """Refuse to continue from a checkpoint that was made with another value of a key that may not change."""
    now, then = (dict(leaves(part)) for part in (config, checkpoint))
    for key in sorted(now.keys() | then.keys()):
        if not may_change(key) and now.get(key) != then.get(key):
            raise UserError(
                f"{path}/config.yaml has {key}={now.get(key)}, but its checkpoint was made with {key}={then.get(key)}: "
                "put that back"
            )
