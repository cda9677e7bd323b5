"""What differs around two runs of the same configuration, in a few lines."""

from collections.abc import Iterator, Mapping

from vae_runner.datasets.dataset import data_changes
from vae_runner.files.untrusted import JsonObject
from vae_runner.runtime.surroundings import CHECKOUTS

MAX_LISTED = 6  # versions, or flags of a processor
MACHINE = ("host", "platform", "cpu", "cpu_flags", "cores", "gpus", "driver", "cuda", "cudnn")  # keys of `hardware`
PLACES = dict(zip(CHECKOUTS, ("this folder", "vae-runner"), strict=True))


def repetition(name: str, then: JsonObject, now: JsonObject) -> list[str]:
    """Return what to say of a run that repeats the run `name`, of what their run.json say: what differs around it."""
    lines = [*_versions(then, now), *_commits(then, now), *_machine(then, now)]
    if changes := data_changes(then.get("data", {}), now.get("data", {})):
        lines.append(f"data: {changes}")
    if "packages" not in then:
        lines.append("it is of a version of vae-runner that did not record its packages and commit")
    if not lines:
        known = [key for key in CHECKOUTS if then.get(key) is not None]
        commit = " commit," if known and all(now.get(key) is not None for key in known) else ""
        return [f"Repeats {name}, with the same versions,{commit} machine and data"]
    return [f"Repeats {name}; differences:", *(f"  {line}" for line in lines)]


def _versions(then: JsonObject, now: JsonObject) -> Iterator[str]:
    key = "packages" if "packages" in then and "packages" in now else "versions"
    before, after = _named(then, key), _named(now, key)
    changed = [
        f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if changed:
        more = f", and {len(changed) - MAX_LISTED} more" if len(changed) > MAX_LISTED else ""
        yield f"versions: {', '.join(changed[:MAX_LISTED])}{more}"


def _named(info: JsonObject, key: str) -> dict[str, object]:
    """Return the versions in a run.json by name, and Python's: of all packages, or of the most important ones."""
    versions = info.get("versions")
    named = {str(name): version for name, version in versions.items()} if isinstance(versions, dict) else {}
    if key == "versions":
        return named
    packages = (package.partition("==") for package in info[key].split())
    return {"python": named.get("python"), **{name: version for name, _, version in packages}}


def _commits(then: JsonObject, now: JsonObject) -> Iterator[str]:
    for key, place in PLACES.items():
        before, after = then.get(key), now.get(key)
        if before is not None and after is not None and before != after:  # git may not have answered yet.
            if before.get("commit") == after.get("commit"):
                yield f"code of {place}: commit {_commit(after)}, then {_commit(before)}: compare their {key}.diff"
            else:
                yield f"code of {place}: commit {_commit(before)} → {_commit(after)}"


def _commit(checkout: Mapping[str, object]) -> str:
    return f"{checkout.get('commit')!s:.10}" + (" with changes" if checkout.get("dirty") else "")


def _machine(then: JsonObject, now: JsonObject) -> Iterator[str]:
    before, after = then.get("hardware", {}), now.get("hardware", {})
    changed = [key for key in MACHINE if key in before and key in after and before[key] != after[key]]
    shown = [f"{key} {before[key]} → {after[key]}" for key in changed if key != "cpu_flags"]
    if "cpu_flags" in changed and "cpu" not in changed:
        flags = [set(str(of["cpu_flags"]).split()) for of in (before, after)]
        shown.append(f"flags of the cpu: without {_some(flags[0] - flags[1])}, with {_some(flags[1] - flags[0])}")
    if shown:
        yield f"machine: {'; '.join(shown)}"


def _some(flags: set[str]) -> str:
    return " ".join(sorted(flags)[:MAX_LISTED]) or "none"
