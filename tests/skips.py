"""Which tests may be skipped where all are run: with `--known-skips-only`, as in CI, any other skip is a failure."""

import re
from collections.abc import Generator

import pytest

# A pattern that the reason begins with, and why tests that are skipped for it need not be run everywhere.
ALLOWED = {
    r"no real images in ": "Fashion-MNIST and the cartoons are not part of the repository",
    r"this machine has a GPU": "shows what is said on machines without one",
    r"PyTorch is not installed": "the extra 'bench' takes gigabytes, and only benchmarks need it",
    r"no browser is installed": "one takes a third of a gigabyte, and .ci/run installs one where apt can",
    r"only root can become another user": "not every machine lets tests run as root",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--known-skips-only", action="store_true", help="fail where a test is skipped for another reason")


def check(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    """Make a report of a skip that is not allowed one of a failure."""
    if not report.skipped or hasattr(report, "wasxfail") or not config.getoption("--known-skips-only"):
        return
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not any(re.match(pattern, reason) for pattern in ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"skipped for a reason that is not in tests/skips.py: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    check(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    check(report, collector.config)
    return report
