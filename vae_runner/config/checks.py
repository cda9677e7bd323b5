"""The checks that need nothing but the configuration."""

import dataclasses
import re

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_runner.config import registry
from vae_runner.config.composition import FILE_KEYS, FOLDER_KEYS
from vae_runner.config.fit import check_fit
from vae_runner.config.keys import check_value, leaves, typed_keys
from vae_runner.errors import UnfitError, UserError, check_name, did_you_mean, first_line
from vae_runner.files.folders import with_home


def check(config: DictConfig) -> None:
    """Refuse what can be seen to be wrong from the configuration alone; resolves its interpolations in place.

    An interpolation leads nowhere, a key is unknown or without a value, a number is out of its range, a word is none of
    those allowed, or values do not go together: where these are components, or keys of one, it is an UnfitError.
    """
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise UserError(f"{_unresolved(config)}{first_line(error)}: write a value") from error
    _check_each(config)
    for name in registry.parts():
        if not isinstance(config[name], DictConfig) or "_target_" not in config[name]:
            raise UserError(f"{name} names nothing to build: its YAML needs keys, and among them a _target_")
    root = OmegaConf.to_object(config)
    check_fit({name: getattr(root, name) for name in registry.parts()})
    _check_folders(config)
    _check_files(config)
    _check_together(root)


def check_values(config: DictConfig) -> None:
    """Refuse values that are not allowed in a stored configuration, also in parts with other keys than our YAML."""
    _check_each(config)
    for name in registry.parts():
        component = registry.by_target(config[name]._target_)
        for field in dataclasses.fields(component.schema) if component else ():
            if field.name in config[name]:
                check_value(f"{name}.{field.name}", config[name][field.name], field)
    _check_together(OmegaConf.to_object(config))


def _check_each(config: DictConfig) -> None:
    for path, value, field in typed_keys(config, ""):
        check_value(path, value, field)


def _check_together(root: object) -> None:
    for keys in (*vars(root).values(), root):
        if isinstance(keys, registry.Keys):
            try:
                keys.check()
            except UserError as error:
                raise (UnfitError(str(error)) if isinstance(keys, registry.Built) else error) from error


def _check_folders(config: DictConfig) -> None:
    """Refuse what names no folder; the one that data is kept in only where the dataset has any to keep."""
    for path in FOLDER_KEYS:
        folder = OmegaConf.select(config, path)
        check_folder(path, folder)
        if path == "data_dir" or not isinstance(folder, str):
            continue
        name = "data_dir" if folder == config.data_dir else path
        check_name(f"{name}={with_home(name, folder)}")


def _check_files(config: DictConfig) -> None:
    """Refuse files that are not there, among them words that are misspelt."""
    for path, words in FILE_KEYS.items():
        file = OmegaConf.select(config, path)
        if path.startswith("evaluation.samples.") and "samples" not in OmegaConf.select(config, "evaluation.metrics"):
            continue  # A run can be resumed without a file that nothing is measured with.
        if isinstance(file, str) and file not in words and not with_home(path, file).is_file():
            advice = ", or ".join(("give another one", *words, "leave it out"))
            hint = did_you_mean(file, words)
            raise UserError(f"{path}={file}: there is no such file: {advice}{hint and f'.{hint}'}")


def check_folder(path: str, value: object) -> None:
    """Refuse what the key `path` gives, if it can be no folder."""
    if value == "":
        raise UserError(f"{path}= is empty: give a folder, or leave it out")
    if re.match(r"[a-z][a-z0-9+.-]+://", str(value), re.IGNORECASE):
        raise UserError(f"{path}={value} is an address: give a folder of this machine, and put the files there before")


def _unresolved(config: DictConfig) -> str:
    """Return the first key whose value, like `${epochs}`, leads nowhere, as the beginning of a message; or nothing."""
    for path, value in leaves(OmegaConf.to_container(config, resolve=False)):
        try:
            if "${" in str(value):
                OmegaConf.select(config, path)
        except OmegaConfBaseException:
            return f"{path}={value}: "
    return ""
