"""Fixtures of the annotation service's tests."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.annotation_server.service import Service, running


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service for the tests of one module, which keep to their own keys."""
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    """A service of its own for one test."""
    with running(tmp_path) as service:
        yield service
