"""The race's bookkeeping: when a run is at the target, and the table."""

import sys
import time
from pathlib import Path

import pytest

from benchmarks.race import arrival, rows, rows_of


def runner(folder: Path, code: str) -> tuple[list[str], Path]:
    """A command that writes the test losses of three epochs, half a second apart, with `code` after them."""
    metrics = folder / "metrics.csv"
    program = f"""
import sys, time
with open({str(metrics)!r}, "w") as file:
    print("epoch,step,test/loss", file=file, flush=True)
    for epoch, loss in enumerate([40.0, 35.0, 34.0], start=1):
        time.sleep(0.5)
        print(f"{{epoch}},{{100 * epoch}},{{loss}}", file=file, flush=True)
{code}
"""
    return [sys.executable, "-c", program], metrics


def test_a_run_is_there_with_the_first_evaluation_at_the_target(tmp_path: Path) -> None:
    command, metrics = runner(tmp_path, "time.sleep(1)")
    start = time.perf_counter()
    found = arrival(command, metrics, target=35.0)
    whole = time.perf_counter() - start
    assert (found.epochs, found.loss) == (2, 35.0)
    assert 1.0 <= found.seconds < whole - 1.0  # two epochs and the start of Python, but not what follows
    assert len(rows_of(metrics)) == 3  # it was left to its end


def test_a_run_that_ends_without_the_target_ends_the_race(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has not come to 30: test losses \[40.0, 35.0, 34.0\]"):
        arrival(*runner(tmp_path, ""), target=30)


def test_a_run_that_fails_ends_the_race_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"(?s)failed:.*no such thing"):
        arrival(*runner(tmp_path, "sys.exit('no such thing')"), target=35)


def test_a_row_that_is_being_written_is_none_yet(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    assert rows_of(metrics) == []
    metrics.write_text("epoch,test/loss\n1,40.5\n2,3")
    assert rows_of(metrics) == [(1, 40.5)]


def test_the_table_has_the_ratio_of_each_seed() -> None:
    ours = [{"epochs": 2.0, "seconds": seconds, "loss": 35.1} for seconds in (60.0, 70.0)]
    tutorial = [{"epochs": epochs, "seconds": 630.0, "loss": 35.0} for epochs in (10.0, 9.0)]
    assert rows({"ours": ours, "tutorial": tutorial}) == [
        ["`vae-run experiment=race_fashion`", "2, 2", "35.10, 35.10", "65 (60–70)", "9.75 (9.00–10.50) ×"],
        ["the tutorial's loop", "10, 9", "35.00, 35.00", "630 (630–630)", ""],
    ]
