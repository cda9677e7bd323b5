"""`vae-runs`: the runs below a folder, as a table; what is known of one; their tags and notes; removing them.

All of it is read from the run directories. Nothing here imports TensorFlow, or Hydra before a run is removed.
"""

import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from vae_runner.cli import where
from vae_runner.cli.options import Parser, arguments, whole_number
from vae_runner.errors import UserError, counted, did_you_mean, printable
from vae_runner.files.folders import OUTPUTS, RUN_FILE
from vae_runner.runtime import environment
from vae_runner.runtime.surroundings import CHECKOUTS
from vae_runner.storage import catalog
from vae_runner.storage.catalog import RunRecord
from vae_runner.storage.notes import Notes, change_notes
from vae_runner.storage.run_info import MAIN_METRIC, RERUN_OF
from vae_runner.storage.stored_run import StoredRun

environment.prepare()

EVALUATED = "evaluation/"  # begins the names of what vae-evaluate has measured
DESCRIPTION = """List the runs below a folder: outputs, unless another is given, sweeps among them.
Other uses: vae-runs best, vae-runs show RUN, vae-runs rm RUN, vae-runs tag RUN WORD, vae-runs note RUN TEXT;
each has a --help of its own. For a folder of such a name write ./best."""
UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "d"))  # of ages, in seconds
BEST = 10  # runs


def runs() -> None:
    """`vae-runs`: do what the first word asks for; without one, list."""
    given = arguments()
    verbs = {"best": _best, "show": _show, "rm": _remove, "tag": _tag, "note": _note}
    if given and given[0] in verbs:
        verbs[given[0]](given[1:])
        return
    if given and not given[0].startswith("-") and not Path(given[0]).exists():
        hint = did_you_mean(given[0], verbs)
        raise UserError(f"{given[0]} does not exist: give a folder with runs below it, or {', '.join(verbs)}.{hint}")
    parser = _listing_parser("vae-runs", DESCRIPTION)
    parser.add_argument(
        "--metric", metavar="NAME", action="append", default=[],
        help=f"show this metric in place of {MAIN_METRIC}; again for another one",
    )  # fmt: skip
    options = parser.parse_intermixed_args(given)
    metrics = options.metric or [MAIN_METRIC]
    records = _found(options.folder, options.where, options.metric)
    _list(records, metrics, as_json=options.json)


def _best(given: Sequence[str]) -> None:
    description = "List the runs below a folder by a metric, the lowest first; runs without it are left out."
    parser = _listing_parser("vae-runs best", description)
    parser.add_argument(
        "--metric", metavar="NAME", default=MAIN_METRIC,
        help=f"by which: test/loss, …, or evaluation/NAME of what vae-evaluate has measured ({MAIN_METRIC})",
    )  # fmt: skip
    parser.add_argument("--highest", action="store_true", help="the highest first")
    number = partial(whole_number, least=1)
    parser.add_argument("-n", "--number", metavar="N", type=number, default=BEST, help=f"how many ({BEST})")
    options = parser.parse_intermixed_args(given)
    records = _found(options.folder, options.where, [options.metric])
    ranked = sorted(
        (record for record in records if options.metric in record.metrics),
        key=lambda record: record.metrics[options.metric],
        reverse=options.highest,
    )
    _list(ranked[: options.number], [options.metric], as_json=options.json)


def _show(given: Sequence[str]) -> None:
    parser = Parser("vae-runs show", "Say what is known of a run: what it is, what ran, what came of it, its settings.")
    _add_run(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, with all that run.json has")
    options = parser.parse_args(given)
    run = StoredRun.open(options.run)
    (record,) = catalog.with_evaluation(catalog.runs(options.run))
    if options.json:
        print(json.dumps({**_content(record, {}), "run.json": run.info}, indent=2))
        return
    info, hardware = run.info, run.info.get("hardware", {})
    versions = info.get("versions", {})
    code = {name: info.get(name) for name in CHECKOUTS}
    rows = [
        ("run", str(run.path)),
        ("status", record.status + (f": {record.error}" if record.error else "")),
        ("method", record.method),
        ("dataset", record.dataset),
        ("given", _settings(record.given_settings)),
        ("progress", f"epoch {record.epoch}, step {record.step}" if record.epoch is not None else ""),
        ("began", f"{record.started}, {_age(record)} ago" if record.began else ""),
        ("repeats", str(info.get(RERUN_OF, ""))),
        *(("command", line) for line in info.get("commands", [])),
        *((name, _code(of)) for name, of in code.items() if of),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("machine", ", ".join(str(hardware[key]) for key in ("host", "cpu", "cores") if hardware.get(key))),
        ("GPUs", ", ".join(map(str, hardware.get("gpus", [])))),
        ("driver", str(hardware.get("driver") or "")),
        ("tags", " ".join(record.notes.tags)),
        ("note", record.notes.note),
        *((name, f"{value:.5g}") for name, value in record.metrics.items()),
        ("choices", _settings(record.choices)),
        *((name, _value(value)) for name, value in record.settings.items() if name not in record.choices),
    ]
    shown = [(name, value) for name, value in rows if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{_text(name):<{width}}  {_text(value)}")


def _remove(given: Sequence[str]) -> None:
    parser = Parser("vae-runs rm", "Delete runs, with all that is in their directories, after asking.")
    _add_run(parser, "+")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(given)
    from vae_runner.storage.run_directory import RunDirectory

    for path in options.run:  # all, before the first is gone
        _check_is_run(path)
    for path in options.run:
        described = _described(path)
        with RunDirectory(path) as run:
            run.hold_for_deletion()
            if options.yes or _confirmed(f"Delete {_text(path)} ({described})?", path):
                run.delete()
                print(f"deleted {_text(path)}", flush=True)


def _described(path: Path) -> str:
    (record,) = catalog.runs(path)
    return _text(record.status if record.epoch is None else f"{record.status}, epoch {record.epoch}")


def _confirmed(question: str, path: Path) -> bool:
    if not sys.stdin.isatty():
        raise UserError(f"rm {path}: there is no terminal to ask on whether it is to be deleted: add --yes")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # of Ctrl-D
        print()
        return False


def _tag(given: Sequence[str]) -> None:
    parser = Parser("vae-runs tag", "Give a run tags, which --where 'tag=WORD' finds.")
    _add_run(parser)
    parser.add_argument("words", metavar="WORD", nargs="+", help="a word, without spaces or commas")
    parser.add_argument("--remove", action="store_true", help="take these tags away")
    options = parser.parse_intermixed_args(given)
    for word in options.words:
        if not word or any(c.isspace() or c in ",'\"" or not c.isprintable() for c in word):
            raise UserError(f"tag '{word}': a tag is a word, without spaces, commas or quotes")
    added = [] if options.remove else dict.fromkeys(options.words)

    def tagged(notes: Notes) -> Notes:
        return replace(notes, tags=[*(tag for tag in notes.tags if tag not in options.words), *added])

    notes = change_notes(StoredRun.open(options.run), tagged)
    print(f"{_text(options.run)}: {' '.join(map(_text, notes.tags)) or 'no tags'}")


def _note(given: Sequence[str]) -> None:
    parser = Parser("vae-runs note", "Give a run a note, in place of the one before; an empty text removes it.")
    _add_run(parser)
    parser.add_argument("text", metavar="TEXT", help="what is to be remembered of the run, in quotes")
    options = parser.parse_args(given)
    change_notes(StoredRun.open(options.run), lambda notes: replace(notes, note=options.text))
    print(f"{_text(options.run)}: {_text(options.text) or 'no note'}")


# --- what they share -------------------------------------------------------------------------------------------


def _listing_parser(name: str, description: str) -> Parser:
    parser = Parser(name, description)
    help_ = "where runs are looked for, also in folders of folders (outputs)"
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path(OUTPUTS), help=help_)
    help_ = "only runs of which this holds: 'latent>8 and test/loss<40', 'status=failed', 'tag=good and method!=vae'"
    parser.add_argument("--where", metavar="CONDITION", default="", help=help_)
    parser.add_argument("--json", action="store_true", help="as JSON, with all settings and metrics")
    return parser


def _add_run(parser: Parser, number: str | None = None) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, nargs=number, help="a run directory, as vae-runs names it")


def _check_is_run(path: Path) -> None:
    """Refuse what is no run; a damaged one is one."""
    if not (path / RUN_FILE).is_file():
        if not path.is_dir():
            raise UserError(f"{path} {'is no directory' if path.exists() else 'does not exist'}: give a run directory")
        if not any(record.path == path for record in catalog.runs(path)):  # one that has lost its run.json
            raise UserError(f"{path} is no run directory: it has no run.json; vae-runs lists the runs")


def _found(folder: Path, condition: str, metrics: Sequence[str]) -> list[RunRecord]:
    """Return the runs below a folder of which a condition holds, with what these metrics and the condition need."""
    comparisons = where.parsed(condition) if condition else []
    records = catalog.runs(folder)
    gc.freeze()  # They stay until the end: no search needs to go through them.
    names = [*metrics, *(comparison.name for comparison in comparisons)]
    if any(name.startswith(EVALUATED) for name in names):
        records = catalog.with_evaluation(records)
    where.check_names(names, records)
    return [record for record in records if all(comparison.holds(record) for comparison in comparisons)]


def _list(records: Sequence[RunRecord], metrics: Sequence[str], *, as_json: bool) -> None:
    """Print runs as a table, or as a list in JSON."""
    varied = catalog.varied(records)
    if as_json:
        print(json.dumps([_content(record, of) for record, of in zip(records, varied, strict=True)], indent=2))
        return
    columns = ("run", "status", "method", "dataset", "epoch", *metrics, "age", "tags", "given")
    rows = [columns]
    for record, of in zip(records, varied, strict=True):
        values = [f"{record.metrics[name]:.5g}" if name in record.metrics else "" for name in metrics]
        epoch = "" if record.epoch is None else str(record.epoch)
        cells = (str(record.path), record.status, record.method, record.dataset, epoch, *values, _age(record))
        # Of a run of which nothing else can be shown, the last column says why.
        last = record.error if not record.choices and record.error else _settings(of)
        rows.append(tuple(map(_text, (*cells, " ".join(record.notes.tags), last))))
    kept = [number for number, column in enumerate(zip(*rows, strict=True)) if number == 0 or any(column[1:])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(row[number].ljust(widths[number]) for number in kept).rstrip())
    print(counted(len(records), "run"))


def _content(record: RunRecord, varied: dict[str, object]) -> dict[str, object]:
    return {
        "run": str(record.path), "status": record.status, "error": record.error, "method": record.method,
        "dataset": record.dataset, "varied": varied, "choices": dict(record.choices),
        "settings": dict(record.settings), "epoch": record.epoch, "step": record.step,
        "metrics": dict(record.metrics), "started": record.started,
        "tags": list(record.notes.tags), "note": record.notes.note,
    }  # fmt: skip


def _settings(settings: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in settings.items())


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _age(record: RunRecord) -> str:
    if not record.began:
        return ""
    seconds = max(time.time() - record.began, 0)
    size, unit = next((of for of in reversed(UNITS) if seconds >= 2 * of[0]), UNITS[0])
    return f"{seconds / size:.0f} {unit}"


def _code(checkout: dict[str, object]) -> str:
    changed = f" with changes ({checkout.get('diff') or 'not kept'})" if checkout.get("dirty") else ""
    return f"commit {checkout.get('commit')!s:.10}{changed}"


def _text(value: object) -> str:
    """Return a value from a file on one line, without what a terminal would obey."""
    text = str(value)
    return text if text.isprintable() else printable(" ".join(text.split()))
