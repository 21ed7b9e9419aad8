"""Find a Chromium for the browser tests, and install one where there is none: `python tests/browser/chromium.py`.

Looked for on the PATH, at macOS's usual place, then among Playwright's own downloads. Installed by apt where that
needs nothing more (root on Debian), else by Playwright's own download.

Best is Chromium's headless shell: the same engine without the browser's own windows, which a whole Chromium makes for
every profile even where nobody sees them, and which take longer than most tests.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

SHELL = "chromium-headless-shell"
NAMES = (SHELL, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
INSTRUCTIONS = """\
The browser tests need Chromium or Google Chrome and found none that starts. Install one of them:
  Debian:       apt install chromium-headless-shell       (as root)
  elsewhere:    .venv/bin/playwright install --with-deps chromium
or put any recent chromium or google-chrome on the PATH, then run `make test` again."""


class NoBrowserError(RuntimeError):
    """There is no Chromium on this machine; the message says how to get one."""


def find_chromium() -> Path:
    """Return the first Chromium or Chrome that starts. Raises NoBrowserError where there is none."""
    found = next(filter(_starts, _candidates()), None)
    if found is None:
        raise NoBrowserError(INSTRUCTIONS)
    return found


def install_chromium() -> None:
    """Install Chromium with what this machine has. Raises CalledProcessError if that fails."""
    for command in _commands():
        print("+", *command, flush=True)
        subprocess.run(command, check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def _candidates() -> Iterator[Path]:
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield MACOS
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    yield own


def _starts(browser: Path) -> bool:
    # Ubuntu's chromium-browser is a script that only says where to get the browser.
    try:
        return subprocess.run([browser, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _commands() -> list[list[str]]:
    if _apt_has_the_shell():
        return [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", SHELL]]
    playwright = [sys.executable, "-m", "playwright", "install"]
    return [[*playwright, "--with-deps", "chromium"] if _is_root() else [*playwright, "chromium"]]


def _apt_has_the_shell() -> bool:
    """Whether apt is at hand to install it."""
    return _is_root() and _distribution() == "debian"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["ID"]
    except OSError:
        return ""


def main() -> int:
    """Make sure that there is a browser, the best that apt has where that is at hand; return the exit status."""
    try:
        if _apt_has_the_shell() and shutil.which(SHELL) is None:
            install_chromium()
    except subprocess.CalledProcessError as problem:
        print(f"{problem}\nWithout it the tests take longer.", file=sys.stderr)
    try:
        try:
            browser = find_chromium()
        except NoBrowserError:
            install_chromium()
            browser = find_chromium()
    except (NoBrowserError, subprocess.CalledProcessError) as problem:
        print(problem, INSTRUCTIONS, sep="\n", file=sys.stderr)
        return 1
    print(f"Browser for the tests: {browser}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
