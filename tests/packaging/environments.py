"""Clean virtual environments to install the wheel in, made without a package index.

Third-party packages come from the environment that runs the tests: copied one by one, with what they require, or all
at once by its site-packages directory on the path. The repository itself, an editable install there, stays out:
Python reads `.pth` files in its own site-packages only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

PARENT_PACKAGES = Path(sysconfig.get_path("purelib"))


class Environment:
    """A virtual environment at `path`, without pip and empty at first."""

    def __init__(self, path: Path) -> None:
        venv.create(path, symlinks=True)
        self.path = path
        self.python = path / "bin" / "python"
        (self.packages,) = path.glob("lib/python*/site-packages")

    def install(self, wheel: Path) -> None:
        """Install a wheel without its dependencies."""
        options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, str(wheel)]
        subprocess.run(pip, check=True)

    def copy_from_parent(self, names: Iterable[str]) -> None:
        """Install these distributions and all they require, as the parent environment has them."""
        for found in _with_requirements(names):
            for file in found.files or []:
                if ".." not in file.parts:
                    target = self.packages / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(str(file.locate()), target)

    def use_parent_packages(self) -> None:
        """Put everything that the parent environment has on the path, behind what is installed here."""
        (self.packages / "parent.pth").write_text(f"{PARENT_PACKAGES}\n", encoding="utf-8")

    def variables(self) -> dict[str, str]:
        """Return the process environment for programs of this environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"PATH": f"{self.path / 'bin'}{os.pathsep}{kept.get('PATH', '')}"}

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment in `cwd` and return what it printed, both streams together."""
        program = [str(self.path / "bin" / command[0]), *command[1:]]
        environment, out, err = self.variables(), subprocess.PIPE, subprocess.STDOUT
        return subprocess.run(program, cwd=cwd, env=environment, stdout=out, stderr=err, text=True)


def _with_requirements(names: Iterable[str]) -> list[Distribution]:
    """Return the named distributions and, transitively, what they require on this machine without extras."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found[name] = distribution(name)
            requirements = map(Requirement, found[name].requires or [])
            waiting += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return list(found.values())
