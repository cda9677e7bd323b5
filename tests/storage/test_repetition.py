"""What is said of a run that repeats another: what differs around it."""

from typing import Any

import pytest

from vae_runner.storage.repetition import repetition

CLEAN = {"commit": "a" * 40, "dirty": False, "diff": None, "diff_sha256": None}
RUN: dict[str, Any] = {
    "versions": {"python": "3.11.1", "numpy": "2.4.0"},
    "packages": "keras==3.15.0 numpy==2.4.0 rich==15.0",
    "git": CLEAN,
    "vae_runner_git": None,
    "hardware": {"host": "here", "cpu": "fast", "cpu_flags": "avx fma", "gpus": [], "driver": None},
    "data": {"train": {"images": 8, "content": "x"}},
}


def test_where_nothing_is_other_one_line_says_so() -> None:
    assert repetition("run", RUN, RUN) == ["Repeats run, with the same versions, commit, machine and data"]


def test_a_commit_that_git_has_not_told_yet_is_no_difference_and_not_called_the_same() -> None:
    assert repetition("run", RUN, {**RUN, "git": None}) == ["Repeats run, with the same versions, machine and data"]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"packages": "keras==3.15.1 numpy==2.4.0"}, "versions: keras 3.15.0 → 3.15.1, rich 15.0 → none"),
        ({"versions": {"python": "3.11.2"}}, "versions: python 3.11.1 → 3.11.2"),
        ({"git": {**CLEAN, "commit": "b" * 40}}, "code of this folder: commit aaaaaaaaaa → bbbbbbbbbb"),
        (
            {"git": {**CLEAN, "dirty": True, "diff_sha256": "c"}},
            "code of this folder: commit aaaaaaaaaa with changes, then aaaaaaaaaa: compare their git.diff",
        ),
        (
            {"hardware": {**RUN["hardware"], "host": "there", "cpu": "slow"}},
            "machine: host here → there; cpu fast → slow",
        ),
        (
            {"hardware": {**RUN["hardware"], "cpu_flags": "avx avx2"}},
            "machine: flags of the cpu: without fma, with avx2",
        ),
        ({"data": {"train": {"images": 7, "content": "y"}}}, "data: train: 8 images then, 7 now"),
    ],
)  # fmt: skip
def test_what_is_other_has_a_line_and_nothing_else_has(now: dict[str, Any], said: str) -> None:
    assert repetition("run", RUN, {**RUN, **now}) == ["Repeats run; differences:", f"  {said}"]


def test_many_versions_are_cut_short_and_of_an_older_run_what_it_has_is_compared() -> None:
    other = " ".join(f"package_{number}==1" for number in range(10))
    (_, versions) = repetition("run", {**RUN, "packages": ""}, {**RUN, "packages": other})
    assert versions.endswith(", package_5 none → 1, and 4 more")
    older = {"versions": {"python": "3.11.1", "numpy": "2.3.0"}, "hardware": {"host": "here"}}
    assert repetition("run", older, RUN)[1:] == [
        "  versions: numpy 2.3.0 → 2.4.0",
        "  it is of a version of vae-runner that did not record its packages and commit",
    ]
