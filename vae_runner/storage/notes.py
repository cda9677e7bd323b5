"""Tags and a note that the user gives a run: a file of their own, which the run itself never writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_runner.errors import UserError
from vae_runner.files.atomic import writing
from vae_runner.files.sealed import read_sealed, write_sealed
from vae_runner.files.untrusted import DamagedError, are_texts, is_file


@dataclass(frozen=True)
class Notes:
    """What the user says of a run."""

    tags: Sequence[str] = ()
    note: str = ""


def read_notes(file: Path) -> Notes:
    """Return what is in a file of notes, nothing where there is none; refuse a damaged one."""
    if not is_file(file):
        return Notes()
    try:
        found = read_sealed(file)
        tags, note = found.get("tags", []), found.get("note", "")
        if not are_texts(tags) or not isinstance(note, str):
            raise DamagedError("it has no tags and note")
    except DamagedError as error:
        raise UserError(f"{file} cannot be used ({error}): delete it, and tag the run again") from error
    return Notes(tags, note)


def write_notes(file: Path, notes: Notes) -> None:
    """Replace a file of notes, atomically; remove it where they say nothing."""
    if not notes.tags and not notes.note:
        with writing(file):
            file.unlink(missing_ok=True)
    else:
        write_sealed(file, {"tags": list(notes.tags), "note": notes.note})
