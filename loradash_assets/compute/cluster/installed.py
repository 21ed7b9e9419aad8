"""Whether the optional packages that the settings of the cluster need are there: asked before any slow work."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from loradash_assets.compute.errors import ClusterError

if TYPE_CHECKING:
    from loradash_assets.settings import ClusterSettings


def check_installed(settings: ClusterSettings) -> None:
    """Raise ClusterError naming a package that is missing and how to install it."""
    if settings.engine == "local":
        return
    needed = {"cluster.engine: ray": "ray"}
    if (settings.shared_store or "").startswith("s3://"):
        needed["cluster.shared_store: s3://"] = "s3fs"
    for setting, package in needed.items():
        if find_spec(package) is None:
            extra = package.removesuffix("fs")
            raise ClusterError(
                f"{setting} needs the package {package}, which is not installed: pip install 'loradash[{extra}]'"
            )
