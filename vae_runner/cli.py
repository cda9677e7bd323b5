"""The commands `vae-run`, `vae-sample` and `vae-compare`: from the command line to the code that does the work.

Nothing here imports TensorFlow, so that `--help`, `--cfg job` and refusals answer at once. What the user can mend
becomes one line on standard error and exit status 2; what is our fault keeps its traceback.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_runner import config
from vae_runner.errors import UserError, did_you_mean

INTERRUPTED = 130  # the shell's status for a process ended by Ctrl-C


def run() -> None:
    """`vae-run`: one run, or with `-m` a sweep of them, configured by Hydra."""
    _command("vae-run", _run)


def sample() -> None:
    """`vae-sample`: new images from a finished run."""
    parser = _Parser("vae-sample", "Draw new images from a finished run: decode latents drawn from the prior.")
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory: outputs/<date>/<time>")
    parser.add_argument("-n", "--number", metavar="N", type=_positive, default=64, help="how many images (64)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("samples.png"),
        help="where to: a .png of all of them, or a .npy with a uint8 array [n, height, width, channels] (samples.png)",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=_natural, default=0, help="another seed, other images (0)")

    def work() -> None:
        arguments = parser.parse_args()
        _import("sample").sample(arguments.run, arguments.number, arguments.out, arguments.seed)

    _command("vae-sample", work)


def compare() -> None:
    """`vae-compare`: finished runs side by side."""
    parser = _Parser(
        "vae-compare",
        "Draw finished runs side by side: latent spaces on the same axes, samples, reconstructions of the same test "
        "images, and a table of metrics, which is also written as CSV next to the picture.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run directories: outputs/<date>/<time>")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        default=Path("compare.png"),
        help="the picture, a .png (compare.png)",
    )

    def work() -> None:
        arguments = parser.parse_args()
        _import("compare").compare(arguments.runs, arguments.out)

    _command("vae-compare", work)


# --- from exceptions to one line and an exit status -----------------------------------------------------------


def _command(name: str, work: Callable[[], None]) -> None:
    try:
        work()
    except UserError as error:
        _refuse(name, str(error))
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _import(name: str) -> ModuleType:
    """A module of ours that needs TensorFlow, without TensorFlow's notes on how it was built and what it lacks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from vae_runner.console import native_messages_to_log

    with native_messages_to_log():
        module = importlib.import_module(f"vae_runner.{name}")
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs now, and not in the middle of a progress bar
    return module


def _refuse(name: str, message: str) -> NoReturn:
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake instead of the usage and a line."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=name, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(_explain_option(self, message))


def _explain_option(parser: argparse.ArgumentParser, message: str) -> str:
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    if unknown is None:
        return message
    options = [option for action in parser._actions for option in action.option_strings]
    return f"there is no option '{unknown[1]}'{did_you_mean(unknown[1], options)} --help lists them"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


# --- vae-run: Hydra -------------------------------------------------------------------------------------------


def _run() -> None:
    """Compose the configuration with Hydra and run; Hydra's own refusals become ours, with the closest real name."""
    sys.argv[1:] = [_expand_home(argument) for argument in sys.argv[1:]]
    _check_options(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises, and leaves the telling to us
    config.register_schemas()
    in_task = False

    @hydra.main(config_path="pkg://vae_runner.conf", config_name="config", version_base="1.3")
    def main(cfg: DictConfig) -> float | None:
        nonlocal in_task
        in_task = True
        config.check(cfg)
        return _import("run").run(cfg, Path(HydraConfig.get().runtime.output_dir))

    try:
        main()
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        if in_task:  # the configuration had been composed: what went wrong then is not Hydra's to explain
            raise
        raise UserError(_explain(error)) from error


def _expand_home(argument: str) -> str:
    """`key=~/photos` with the user's home in place of `~`: the shell leaves it there, and Hydra cannot read it."""
    name, equals, value = argument.partition("=")
    if equals and not name.startswith("-") and re.match(r"~\w*(/|$)", value):
        return f"{name}={os.path.expanduser(value)}"  # noqa: PTH111 (Path would drop a trailing slash or a `.`)
    return argument


def _check_options(arguments: list[str]) -> None:
    parser = get_args_parser()

    def error(message: str) -> NoReturn:
        raise UserError(_explain_option(parser, message))

    parser.error = error  # type: ignore[method-assign]
    options = [a for a in arguments if a not in ("--version", "--shell-completion", "-sc")]
    parser.parse_args(options)


def _explain(error: Exception) -> str:
    """Hydra's or OmegaConf's complaint about the command line, in one line."""
    cause = error.__cause__ or error
    text = str(error) or str(cause)
    if isinstance(error, MissingConfigException) and (found := re.search(r"Could not find '(.+)/(.+)'", text)):
        group, name = found.groups()
        options = error.options or []
        return (
            f"{group}={name}: there is no such {group}{did_you_mean(name, options)} Choose from {', '.join(options)}."
        )
    if isinstance(error, OverrideParseException) or "Exception: " in text.splitlines()[0]:
        override = getattr(error, "override", None) or text.splitlines()[0].partition(": ")[2]
        return (
            f"cannot read '{override}': write key=value; a value with spaces, brackets, commas or quotes needs quotes "
            "of its own: 'key=\"a value\"'"
        )
    if isinstance(cause, OmegaConfBaseException) and cause.full_key and " not in '" in str(cause):
        known = list(_key_paths(cause.parent_node._get_root())) if cause.parent_node is not None else []
        return f"there is no key '{cause.full_key}'{_closest_key(cause.full_key, known)} (vae-run --cfg job lists all)"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    return (
        text.splitlines()[0] if len(text.splitlines()) == 1 else "; ".join(line.strip() for line in text.splitlines())
    )


def _key_paths(node: Any, prefix: str = "") -> Iterator[str]:
    for name in node:
        if not prefix and name == "hydra":
            continue
        yield f"{prefix}{name}"
        child = node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not OmegaConf.is_missing(node, name):
            yield from _key_paths(child, f"{prefix}{name}.")


def _closest_key(wanted: str, known: list[str]) -> str:
    """The key that was meant: the same last word elsewhere (`depth`, `model.depth`), else the closest spelling."""
    last = wanted.rpartition(".")[2]
    same = [path for path in known if path.rpartition(".")[2] == last]
    if same:
        return f"; did you mean '{same[0]}'?"
    return did_you_mean(wanted, known) or did_you_mean(last, known)
