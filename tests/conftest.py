"""What holds for every test: nothing is skipped, no outside hub is asked, nothing is sent about us."""

from __future__ import annotations

import os

pytest_plugins = ["tests.no_skips", "tests.hub.fixtures"]

# Before any library is imported: they read these once. Tests that need a hub start their own (tests/hub/).
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
