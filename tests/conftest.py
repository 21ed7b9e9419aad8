"""What holds for every test: nothing is skipped, no outside hub is asked, nothing is sent about us."""

from __future__ import annotations

import os
from collections import Counter

import pytest

pytest_plugins = ["tests.no_skips", "tests.hub.fixtures"]

# Before any library is imported: they read these once. Tests that need a hub start their own (tests/hub/).
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # There are several processes (make test), and threads of theirs that wait for each other take half of the time.
    "OMP_NUM_THREADS": "1",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of few tests: those take longest, and what begins last is waited for."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: tests[item.path])
