"""An asset's code version: a hash of the code it runs, so that changing it is never left to memory.

It covers a module and every module of this package that it imports, directly or not; comments, docstrings and
layout do not count. Sources are parsed, not imported, so asking costs no torch.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("loradash_assets", "annotation_server")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_version(module: str) -> str:
    """Return the version of `module`'s code, 16 hex digits. Raises ModuleNotFoundError if there is no such module."""
    if _source(module) is None:
        raise ModuleNotFoundError(f"no module {module} to take the version of")
    codes = {name: _read(name)[1] for name in sorted(_reachable(module))}
    return hashlib.sha256("\n".join(f"{name} {code}" for name, code in codes.items()).encode()).hexdigest()[:16]


@cache
def resources_version(package: str) -> str:
    """Return the version of the files that lie in `package`: templates, styles and scripts, 16 hex digits."""
    with as_file(files(package)) as root:
        kept = [file for file in sorted(root.rglob("*.*")) if file.is_file() and file.suffix != ".pyc"]
        contents = [(str(file.relative_to(root)), file.read_bytes()) for file in kept]
    return hashlib.sha256(repr(contents).encode()).hexdigest()[:16]


def _reachable(module: str) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and _source(name) is not None:
            seen.add(name)
            waiting += [*_read(name)[0], name.rpartition(".")[0] or name]  # importing a module runs its package first
    return seen


def _package(name: str) -> str:
    source = _source(name)
    return name if source is not None and source.name == "__init__.py" else name.rpartition(".")[0]


@cache
def _read(name: str) -> tuple[Sequence[str], str]:
    """What a module imports of these packages, and its code as text; assets share most modules, which take ms each."""
    source = _source(name)
    tree = ast.parse(source.read_text(encoding="utf-8") if source else "")
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), _package(name))
            found += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return [module for module in found if module.split(".")[0] in PACKAGES], ast.dump(tree)


@cache
def _source(name: str) -> Path | None:
    """Return the module's file; asking importlib instead would import its parents."""
    place = ROOT.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)
