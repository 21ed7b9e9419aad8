"""A clock that stands still, so that what is recorded a second time has the time of the first."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from unittest.mock import patch

from loradash_assets.compute import job


class _OneDay(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _OneDay:
        return cls(2024, 1, 20, tzinfo=tz or UTC)


@contextmanager
def still_clock() -> Generator[None]:
    """Inside, everything is recorded on the same day."""
    with patch.object(job, "datetime", _OneDay):
        yield
