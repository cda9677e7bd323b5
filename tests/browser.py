"""A browser without a window, for pages that a command writes."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def driven(page: Path, script: str, width: int = 1280) -> Any:
    """Open a copy of a page in a window of this width, and return what a script, the body of a function, returns."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no browser is installed: apt-get install chromium-headless-shell")
    copy = page.with_name("driven.html")
    ending = f"<script>document.body.dataset.result = JSON.stringify((() => {{ {script} }})());</script></html>"
    copy.write_text(page.read_text().replace("</html>", ending))
    # A window cannot be narrower than a browser's frame: the page lies in a frame of its own.
    outer = page.with_name("outer.html")
    outer.write_text(
        f'<!doctype html><iframe src="{copy.name}" style="width: {width}px; height: 800px"></iframe><script>'
        "onload = () => { document.body.dataset.result = frames[0].document.body.dataset.result; }</script>"
    )
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [browser, *options, profile, "--virtual-time-budget=5000", "--window-size=1600,1000", outer.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-result="([^"]*)"', result.stdout)
    assert found, f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    return json.loads(unescape(found[1]))
