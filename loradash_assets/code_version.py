"""An asset's code version: a hash of the code it runs, so that changing it is never left to memory.

It covers a module and every module of this package that it imports, directly or not; comments, docstrings and
layout do not count. Sources are parsed, not imported, so asking costs no torch.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("loradash_assets", "annotation_server")


@cache
def code_version(module: str) -> str:
    """Return the version of `module`'s code, 16 hex digits."""
    trees = {name: _tree(name) for name in sorted(_reachable(module))}
    return hashlib.sha256("\n".join(f"{name} {tree}" for name, tree in trees.items()).encode()).hexdigest()[:16]


@cache
def resources_version(package: str) -> str:
    """Return the version of the files that lie in `package`: templates, styles and scripts, 16 hex digits."""
    with as_file(files(package)) as root:
        contents = [(str(file.relative_to(root)), file.read_bytes()) for file in sorted(root.rglob("*.*")) if file.is_file()]
    kept = [(name, content) for name, content in contents if not name.endswith(".pyc")]
    return hashlib.sha256(repr(kept).encode()).hexdigest()[:16]


def _reachable(module: str) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and _source(name) is not None:
            seen.add(name)
            waiting += _imports(name)
    return seen


def _imports(name: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(_parse(name)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _tree(name: str) -> str:
    tree = _parse(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _parse(name: str) -> ast.Module:
    source = _source(name)
    return ast.parse(source.read_text(encoding="utf-8") if source else "")


def _source(name: str) -> Path | None:
    """Return the module's file; asking importlib instead would import its parents."""
    place = ROOT.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)
