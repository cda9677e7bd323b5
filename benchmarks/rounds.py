"""Runs contestants, each in a process of its own, in interleaved rounds, and prints the table of their results.

Machines are noisy: what one contestant reaches is compared with what another reaches in the same round, and the tables
give the median of those ratios, the lowest and the highest.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Figures = dict[str, float]
Results = dict[str, list[Figures]]  # one entry a round, by the contestant's name


@dataclass(frozen=True)
class Contestant:
    """A command whose last line of output is a JSON object of figures."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> Figures:
        """Run the command, and return its figures.

        Raises:
            SystemExit: the command failed; the end of its output is shown.
        """
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **self.environment}
        result = subprocess.run(self.command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(f"{self.name} failed: {' '.join(self.command)}\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
        figures: Figures = json.loads(result.stdout.splitlines()[-1])
        return figures


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module in a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def interleave(contestants: Sequence[Contestant], rounds: int) -> Results:
    """Run every contestant once a round; each round begins with another one."""
    results: Results = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        turn = number % len(contestants)
        for contestant in [*contestants[turn:], *contestants[:turn]]:
            figures = contestant.run()
            results[contestant.name].append(figures)
            shown = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
            print(f"round {number + 1}/{rounds}: {contestant.name}: {shown}", file=sys.stderr, flush=True)
    return results


def values(results: Results, name: str, figure: str) -> list[float]:
    """Return one figure of one contestant, round by round."""
    return [figures[figure] for figures in results[name]]


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Format the median, the lowest and the highest: `1.85 (1.80–1.91)`."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, ready for a document."""
    cells = [columns, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    rule = ["-" * width for width in widths]
    print(f"\n{title}\n")
    for row in (columns, rule, *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
