"""A skip for a reason that is not on the list is a failure where all tests are to run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

KNOWN, UNKNOWN = "this machine has a GPU", "it is Monday"
TESTS = {
    "a test": "import pytest\ndef test_it():\n    pytest.skip({reason!r})\n",
    "a mark": "import pytest\n@pytest.mark.skipif(True, reason={reason!r})\ndef test_it(): pass\n",
    "a fixture": "import pytest\n@pytest.fixture\ndef it(): pytest.skip({reason!r})\ndef test_it(it): pass\n",
    "a module": "import pytest\npytest.importorskip('no_such_module', reason={reason!r})\ndef test_it(): pass\n",
}


def outcome(folder: Path, content: str, *options: str) -> tuple[int, str]:
    """Exit status and output of pytest on one file, with the hooks alone."""
    shutil.copy(str(skips.__file__), folder / "conftest.py")
    (folder / "pytest.ini").touch()
    (folder / "test_it.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


@pytest.mark.parametrize("where", TESTS)
def test_an_unknown_skip_is_a_failure_that_names_its_reason(where: str, tmp_path: Path) -> None:
    status, said = outcome(tmp_path, TESTS[where].format(reason=UNKNOWN), "--known-skips-only")
    assert status == (2 if where == "a module" else 1)
    assert f"not in tests/skips.py: {UNKNOWN}" in said


@pytest.mark.parametrize("where", ["a test", "a module"])
def test_so_it_is_in_the_processes_of_xdist(where: str, tmp_path: Path) -> None:
    status, said = outcome(tmp_path, TESTS[where].format(reason=UNKNOWN), "--known-skips-only", "-n", "1")
    assert status != 0
    assert f"not in tests/skips.py: {UNKNOWN}" in said


def test_a_known_skip_a_test_that_is_to_fail_and_without_the_option_any_skip_stay_what_they_are(tmp_path: Path) -> None:
    known = TESTS["a test"].format(reason=KNOWN)
    fails = "\n@pytest.mark.xfail(reason='broken')\ndef test_that(): assert False\n"
    status, said = outcome(tmp_path, known + fails, "--known-skips-only")
    assert status == 0
    assert "1 skipped, 1 xfailed" in said
    status, _ = outcome(tmp_path, TESTS["a test"].format(reason=UNKNOWN))
    assert status == 0
