"""Tags and a note that the user gives a run: a file of their own, which the run itself never writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_runner.errors import UserError
from vae_runner.files.atomic import writing
from vae_runner.files.locks import Lock
from vae_runner.files.sealed import read_sealed, write_sealed
from vae_runner.files.untrusted import DamagedError, are_texts, is_file
from vae_runner.storage.names import RunPaths


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


def change_notes(run: RunPaths, change: Callable[[Notes], Notes]) -> Notes:
    """Replace a run's notes by what `change` makes of them, and return that; remove the file where it says nothing.

    Other processes wait meanwhile: what they change is not lost.

    Raises:
        UserError: the notes are damaged, or cannot be written.
    """
    with writing(run.notes_lock_file):
        lock = Lock(run.notes_lock_file)
        lock.acquire()
    try:
        notes = change(read_notes(run.notes_file))
        if notes.tags or notes.note:
            write_sealed(run.notes_file, {"tags": list(notes.tags), "note": notes.note})
        else:
            with writing(run.notes_file):
                run.notes_file.unlink(missing_ok=True)
    finally:
        lock.release()
    return notes
