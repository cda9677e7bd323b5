"""run.json: what it says, and the format of run directories, which it carries."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vae_runner import __version__
from vae_runner.datasets.dataset import is_fingerprint
from vae_runner.errors import DAMAGED, FormatError, UserError
from vae_runner.files import untrusted
from vae_runner.files.sealed import CHECKSUM, unseal, write_sealed
from vae_runner.files.untrusted import DamagedError, JsonObject, are_numbers, are_texts
from vae_runner.runtime.surroundings import CHECKOUTS

# Of run directories, 1 being that of run.json files without the key: raise it when a run that was written before could
# not be resumed, sampled from or compared any more. run.json stays a sealed object with its `versions` in any format.
FORMAT = 2

CONFIG_CHECKSUMS = "config_checksums"  # any of them will do
PRUNED = "pruned"  # the status of a run that a search has given up
OUTDATED = "outdated"  # in a finished run: how the images differ that its sweep was last continued with
CHOICES = "choices"  # by their groups: which model, which loss, … the command chose
SETTINGS = "settings"  # the configuration by dotted keys, but for what is null, or decides nothing that is computed
GIVEN = "given"  # the keys and groups that the command gave
RERUN_OF = "rerun_of"
MODELS = "models"  # of which epoch they are, and why
MAIN_METRIC = "test/loss"  # which every run has


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_hardware(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("gpus", []), list)


KINDS: dict[str, Callable[[object], bool]] = {  # of what run.json is read for
    "status": _is_text, "started": _is_text, "ended": _is_text, "error": _is_text,
    "epoch": _is_count, "step": _is_count, "process": lambda value: isinstance(value, dict), "metrics": are_numbers,
    "resumed": are_texts, CONFIG_CHECKSUMS: are_texts, "data": is_fingerprint, OUTDATED: _is_text,
    CHOICES: lambda value: isinstance(value, dict) and are_texts(list(value.values())),
    MODELS: lambda value: isinstance(value, dict) and _is_count(value.get("epoch")),
    "seconds": untrusted.is_number, SETTINGS: lambda value: isinstance(value, dict), GIVEN: are_texts,
    RERUN_OF: _is_text, "commands": are_texts, "packages": _is_text, "hardware": _is_hardware,
    "versions": lambda value: isinstance(value, dict),
    **dict.fromkeys(CHECKOUTS, lambda value: value is None or isinstance(value, dict)),
}  # fmt: skip


def read_info(file: Path) -> JsonObject:
    """Return what a run.json says.

    Raises:
        DamagedError: it is not as it was written.
        FormatError: its run directory is of another format.
        UserError: it says something else than a run does.
    """
    info = untrusted.json_object(untrusted.read(file, untrusted.MAX_TEXT))
    is_sealed = CHECKSUM in info
    if is_sealed:
        info = unseal(info)
    found = info.get("format", 1)
    if not _is_count(found) or found == 0:
        raise DamagedError(f"its format is {found!s:.60}")
    if found != FORMAT and (is_sealed or "versions" in info):
        raise _other_format(file.parent, found, info.get("versions"))
    if not is_sealed:
        raise DamagedError("it has no checksum")
    for name, is_one in KINDS.items():
        if name in info and not is_one(info[name]):
            raise UserError(f"{file}: {name} is {info[name]!s:.60}: {DAMAGED}")
    return info


def write_info(file: Path, info: Mapping[str, object]) -> None:
    """Replace a run.json; raise UnwritableError where that fails."""
    write_sealed(file, {"versions": {"vae_runner": __version__}, **info, "format": FORMAT})


def _other_format(directory: Path, found: int, versions: object) -> FormatError:
    version = versions.get("vae_runner") if isinstance(versions, dict) else None
    if found < FORMAT:
        writer, remedy = "an earlier version", "install that version to use it, or start a new run"
    else:
        writer, remedy = "a later version", "upgrade vae-runner to that version or a later one"
    if isinstance(version, str):
        writer = f"version {version:.40}"
    return FormatError(
        f"{directory} was written by {writer} of vae-runner, in format {found} of run directories; this is version "
        f"{__version__}, which reads format {FORMAT}: {remedy}"
    )


def run_metrics(info: JsonObject) -> dict[str, float]:
    """Return the metrics in a run.json; `seconds` is how long processes have worked on the run, and not the epoch."""
    metrics = dict(info.get("metrics", {}))
    metrics.pop("seconds", None)
    return metrics | ({"seconds": info["seconds"]} if "seconds" in info else {})


def timestamp(seconds: float) -> str:
    """Return a moment, given in seconds since 1970, as run.json has it: local time and its distance from UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
