"""What a dashboard's file holds."""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path


def shown(page: Path) -> str:
    """Return the data that a dashboard shows, as JSON."""
    payload = re.search(r'id="payload">([^<]+)<', page.read_text())
    assert payload is not None
    return gzip.decompress(base64.b64decode(payload[1])).decode()
