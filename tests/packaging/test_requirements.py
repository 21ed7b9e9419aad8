"""What is declared, pinned, and imported is the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.packaging.conftest import ROOT

PACKAGES = ("loradash_assets", "annotation_server", "site_templates")
# Needed at run time by something that we call, and imported by it.
INDIRECT = {"accelerate", "dagster-webserver", "gguf", "httptools", "s3fs", "uvloop"}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")


def _pins() -> dict[str, Version]:
    found = [PIN.fullmatch(line) for line in CONSTRAINTS if not line.startswith("#")]
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in found if pin}


def _declared() -> list[Requirement]:
    extras = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    return [Requirement(each) for each in [*PROJECT["dependencies"], *extras]]


def _imports(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_bytes())))
    whole = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    parts = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {module.partition(".")[0] for module in whole | parts}


def _third_party() -> set[str]:
    modules = {module for package in PACKAGES for file in (ROOT / package).rglob("*.py") for module in _imports(file)}
    providers = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - set(PACKAGES)
    return {canonicalize_name(providers[module][0]) for module in foreign}


def test_every_line_of_the_constraints_is_a_plain_pin() -> None:
    assert [line for line in CONSTRAINTS if not line.startswith("#") and not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("requirement", _declared(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert _pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_what_is_imported_is_declared_and_nothing_more() -> None:
    extras = PROJECT["optional-dependencies"]
    at_run_time = [*PROJECT["dependencies"], *extras["ray"], *extras["s3"]]
    declared = {canonicalize_name(Requirement(each).name) for each in at_run_time}
    assert _third_party() == declared - INDIRECT
