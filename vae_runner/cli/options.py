"""Options of the commands, read without Hydra, which takes a moment to import."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from vae_runner.errors import UserError, did_you_mean

DRY_RUN = "--dry-run"  # of vae-run


class Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake instead of the usage and a line."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=name, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise a UserError."""
        raise UserError(explain_option(self, message))


def arguments() -> list[str]:
    """Return the command line, without the carriage returns that a script with another system's ends of lines gives."""
    return [argument.rstrip("\r") for argument in sys.argv[1:]]


def whole_number(text: str, least: int) -> int:
    """Return the number that an option gives."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
    return int(text)


def check_hyphens(arguments: Sequence[str]) -> None:
    """Refuse an option that begins with a dash of a text program's, which makes one of a hyphen or two."""
    for argument in arguments:
        if pasted := re.match(r"[\u2010-\u2015\u2212]+-?([A-Za-z][\w-]*)", argument):
            option = f"{'-' if len(pasted[1]) == 1 else '--'}{pasted[1]}"
            raise UserError(f"{argument} begins with a dash that is no hyphen, as text programs put it: type {option}")


def explain_option(parser: argparse.ArgumentParser, message: str) -> str:
    """Return the parser's complaint about an option, with the closest real one."""
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    if unknown is None:
        return message
    options = [option for action in parser._actions for option in action.option_strings]
    return f"there is no option '{unknown[1]}'.{did_you_mean(unknown[1], options)} --help lists them."
