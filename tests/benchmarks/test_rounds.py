"""The benchmarks' own bookkeeping: who runs when, and what is made of it."""

import sys

import pytest

from benchmarks.rounds import Contestant, interleave, ratios, show, spread, values


def contestant(name: str, code: str) -> Contestant:
    return Contestant(name, [sys.executable, "-c", code])


def test_each_round_runs_everyone_once_and_begins_with_another(capsys: pytest.CaptureFixture[str]) -> None:
    figures = 'print("noise"); print(\'{"images_per_second": %d}\')'
    results = interleave([contestant("a", figures % 6), contestant("b", figures % 2)], rounds=3)

    order = [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()]
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert values(results, "a", "images_per_second") == [6, 6, 6]


def test_a_contestant_that_fails_ends_the_measurement_with_its_output() -> None:
    with pytest.raises(SystemExit, match=r"(?s)broken failed: .*no such thing"):
        interleave([contestant("broken", "raise OSError('no such thing')")], rounds=2)


def test_ratios_are_taken_round_by_round() -> None:
    found = ratios([10.0, 30.0, 4.0], [5.0, 10.0, 4.0])
    assert found == [2, 3, 1]
    assert spread(found) == "2.00 (1.00–3.00)"
    assert spread([1234.0, 2000.0], ",.0f") == "1,617 (1,234–2,000)"


def test_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    show("Title", ["what", "s"], [["one", "1"], ["a longer one", "22"]])
    assert capsys.readouterr().out == (
        "\nTitle\n\n| what         | s  |\n| ------------ | -- |\n| one          | 1  |\n| a longer one | 22 |\n"
    )
