"""The rule that a skipped test fails, shown on a test suite of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no time')\ndef test_it(): pass\n",
    "call": "import pytest\ndef test_it(): pytest.skip('no time')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef it(): pytest.skip('no time')\ndef test_it(it): pass\n",
    "module": "import pytest\npytest.skip('no time', allow_module_level=True)\n",
    "import": "import pytest\npytest.importorskip('no_time')\ndef test_it(): pass\n",
}


def _suite(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).with_name("no_skips.py"), folder / "conftest.py")
    (folder / "test_suite.py").write_text(test, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--rootdir=.", "-p", "no:cacheprovider", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("way", SKIPS)
def test_a_skip_fails(tmp_path: Path, way: str) -> None:
    result = _suite(tmp_path, SKIPS[way])
    assert result.returncode != 0
    assert "which counts as failed here" in result.stdout
    assert "no time" in result.stdout.replace("no_time", "no time")


def test_a_pass_and_an_expected_failure_stand(tmp_path: Path) -> None:
    passing = "import pytest\ndef test_it(): pass\n@pytest.mark.xfail\ndef test_no(): assert False\n"
    result = _suite(tmp_path, passing)
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 xfailed" in result.stdout
