"""Code versions: they follow the code that runs, however far it is imported from, and nothing else."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from loradash_assets.code_version import code_version

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("loradash_assets", "annotation_server", "site_templates")
HEAVY = {"torch", "transformers", "peft", "numpy", "pyarrow", "dagster", "pydantic", "jinja2", "starlette"}
COMPUTE = ("rows", "gguf", "encode", "catalogue", "activations", "layers", "geometry", "interpretations")
MODULES = [
    *(f"loradash_assets.compute.{name}" for name in COMPUTE),
    "loradash_assets.site.outputs",
    "annotation_server.app",
]
ANNOTATIONS = "from __future__ import annotations\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages, to change."""
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(root: Path, code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout


def versions(root: Path, modules: Sequence[str] = MODULES) -> dict[str, str]:
    """Return the modules' versions, and the templates', as a fresh process sees them in `root`."""
    code = (
        "import json; from loradash_assets.code_version import code_version, resources_version\n"
        f"found = {{module: code_version(module) for module in {modules}}}\n"
        "print(json.dumps({**found, 'site_templates': resources_version('site_templates')}))"
    )
    return json.loads(python(root, code))


def changed(root: Path, file: str, old: str, new: str) -> set[str]:
    """Replace `old` in `file`, and return whose version changed; then put the file back."""
    place = root / file
    before, text = versions(root), place.read_text(encoding="utf-8")
    assert old in text
    place.write_text(text.replace(old, new, 1), encoding="utf-8")
    after = versions(root)
    place.write_text(text, encoding="utf-8")
    return {name for name in before if before[name] != after[name]}


def test_versions_are_the_same_wherever_the_code_lies(copy: Path) -> None:
    assert versions(copy) == versions(REPOSITORY)
    assert len(set(versions(copy).values())) == len(MODULES) + 1


UNNOTICED = """
import json, sys
from pathlib import Path
import loradash_assets.code_version
from loradash_assets.code_version import code_version

cached = [each for each in vars(loradash_assets.code_version).values() if hasattr(each, "cache_clear")]
before = code_version(sys.argv[1])
for file in map(Path, sys.argv[2:]):
    text = file.read_text()
    file.write_text(text + "\\nADDED = 1\\n")
    for each in cached:
        each.cache_clear()
    if code_version(sys.argv[1]) == before:
        print(file)
    file.write_text(text)
"""


@pytest.mark.parametrize("module", ["loradash_assets.compute.layers", "loradash_assets.site.outputs"])
def test_every_module_that_is_really_imported_counts(copy: Path, module: str) -> None:
    files = "(found.__file__ for name, found in sys.modules.items() if name.split('.')[0] in sys.argv[1:])"
    imported = python(copy, f"import sys, {module}; print(*{files}, sep='\\n')", *PACKAGES[:2]).splitlines()
    assert len(imported) > 5
    assert python(copy, UNNOTICED, module, *imported) == ""


def test_code_counts_for_what_runs_it_and_for_nothing_else(copy: Path) -> None:
    added = f"{ANNOTATIONS}ADDED = 1\n"
    assert changed(copy, "loradash_assets/compute/statistics.py", ANNOTATIONS, added) == {
        "loradash_assets.compute.layers"
    }
    imported_in_a_function = changed(copy, "loradash_assets/compute/features.py", ANNOTATIONS, added)
    assert {f"loradash_assets.compute.{name}" for name in ("catalogue", "activations")} <= imported_in_a_function
    assert "loradash_assets.compute.rows" not in imported_in_a_function
    assert changed(copy, "site_templates/dashboard.html", "<body", "<body id=x") == {"site_templates"}
    assert changed(copy, "loradash_assets/assets/project.py", "import json", "import json, os") == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import loradash_assets.compute.added",
        "import os, loradash_assets.compute.added as short",
        "from loradash_assets.compute import added",
        "from loradash_assets.compute.added import X",
        "from . import added",
        "from .added import X",
        "from ..compute.added import X",
        "def late():\n    from loradash_assets.compute import added",
    ],
)
def test_every_spelling_of_an_import_is_followed(copy: Path, statement: str) -> None:
    added, rows = copy / "loradash_assets/compute/added.py", copy / "loradash_assets/compute/rows.py"
    rows.write_text(f"{rows.read_text(encoding='utf-8')}\n{statement}\n", encoding="utf-8")
    added.write_text("X = 1\n", encoding="utf-8")
    before = versions(copy, ["loradash_assets.compute.rows"])
    added.write_text("X = 2\n", encoding="utf-8")
    after = versions(copy, ["loradash_assets.compute.rows"])
    assert before["loradash_assets.compute.rows"] != after["loradash_assets.compute.rows"]


def redocumented(text: str) -> str:
    """Return the code with other docstrings and more comments."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds) and ast.get_docstring(node)]
    lines = text.splitlines()
    for docstring in sorted((node.body[0] for node in documented), key=lambda node: -node.lineno):
        indent = " " * docstring.col_offset
        lines[docstring.lineno - 1 : docstring.end_lineno] = [f'{indent}"""Something else."""', "", f"{indent}# why"]
    return "\n".join(["# first", *lines, "", "# last", ""])


def test_comments_docstrings_and_layout_do_not_count(copy: Path) -> None:
    before = versions(copy)
    del before["site_templates"]
    for file in [*copy.glob("loradash_assets/**/*.py"), *copy.glob("annotation_server/*.py")]:
        text = file.read_text(encoding="utf-8")
        file.write_text(redocumented(text), encoding="utf-8")
    assert "# why" in (copy / "annotation_server/app.py").read_text(encoding="utf-8")
    assert before.items() <= versions(copy).items()


def test_compiled_files_are_no_resources(copy: Path) -> None:
    before = versions(copy)["site_templates"]
    (copy / "site_templates/__pycache__").mkdir(exist_ok=True)
    (copy / "site_templates/__pycache__/x.cpython-311.pyc").write_bytes(b"x")
    assert versions(copy)["site_templates"] == before
    (copy / "site_templates/new.css").write_text("", encoding="utf-8")
    assert versions(copy)["site_templates"] != before


def test_asking_imports_nothing_heavy() -> None:
    code = "import sys; from loradash_assets.code_version import code_version\n"
    code += f"for module in {MODULES}: code_version(module)\nprint(*{HEAVY} & {{*sys.modules}})"
    assert python(REPOSITORY, code) == "\n"


def test_a_module_that_is_not_there_has_no_version() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"loradash_assets\.compute\.nope"):
        code_version("loradash_assets.compute.nope")
