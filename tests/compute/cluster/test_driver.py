"""What is refused before there is a cluster, what a worker refuses, and files that do not arrive whole."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loradash_assets.compute.cluster import installed
from loradash_assets.compute.cluster.driver import Cluster, take_chunk
from loradash_assets.compute.cluster.shared import Shared
from loradash_assets.compute.cluster.worker import Task, Worker, versions_here, weights_here
from loradash_assets.compute.errors import ClusterError, ModelError
from loradash_assets.compute.job import Recording
from loradash_assets.compute.recording import chunk_file
from loradash_assets.run import run
from loradash_assets.settings import ClusterSettings, load_settings
from tests.compute.cluster.recordings import make
from tests.projects import save_project

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return make(tmp_path_factory.mktemp("recording"))


@pytest.fixture
def task(recording: Recording, tmp_path: Path) -> Task:
    return Task(
        place=str(tmp_path / "shared"),
        recording=recording,
        prompts="inputs/prompts",
        catalogue="inputs/catalogue",
        adapter="inputs/adapter",
        hub=None,
        versions=versions_here(),
        weights=weights_here(recording.model),
        threads=1,
        several=False,
    )


def test_a_cluster_that_is_not_there_is_refused_at_once(recording: Recording, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = ClusterSettings(engine="ray", address=address)
    with (
        pytest.raises(ClusterError, match=rf"cluster\.address: nothing answers at {address} .*ray start --head"),
        Cluster(settings) as cluster,
    ):
        cluster.record(recording, tmp_path, lambda _: None, place=str(tmp_path / "shared"))


def test_a_bucket_that_is_not_there_is_refused_before_the_cluster_starts(
    bucket: str, recording: Recording, tmp_path: Path
) -> None:
    place = f"{bucket}-elsewhere/here"
    with (
        pytest.raises(ClusterError, match=rf"cluster\.shared_store: cannot use {place}: .*bucket"),
        Cluster(ClusterSettings(engine="ray")) as cluster,
    ):
        cluster.record(recording, tmp_path, lambda _: None, place=place)


def test_a_place_of_an_unknown_kind_is_refused(tmp_path: Path, recording: Recording) -> None:
    with (
        pytest.raises(ClusterError, match=r"cluster\.shared_store: no://where: Protocol not known"),
        Cluster(ClusterSettings(engine="ray")) as cluster,
    ):
        cluster.record(recording, tmp_path, lambda _: None, place="no://where")


WITHOUT = """
from types import SimpleNamespace
from loradash_assets.compute.cluster.installed import check_installed
check_installed(SimpleNamespace(engine="local", shared_store="s3://a/b"))
check_installed(SimpleNamespace(engine="ray", shared_store=None))
"""


def test_without_ray_it_is_said_how_to_install_it() -> None:
    """Python's -S leaves out every package that is installed."""
    done = subprocess.run([sys.executable, "-S", "-c", WITHOUT], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "loradash_assets.compute.errors.ClusterError: cluster.engine: ray needs the package ray, which is not "
        "installed: pip install 'loradash[ray]'"
    )


def test_a_build_without_ray_ends_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = save_project(tmp_path / "project", cluster={"engine": "ray"})
    monkeypatch.setattr(installed, "find_spec", lambda _: None)
    with pytest.raises(ClusterError, match=r"pip install 'loradash\[ray\]'"):
        run(load_settings(project), None, upstream=False)
    assert not (project / ".loradash").exists()


def test_a_worker_with_other_libraries_refuses(task: Task) -> None:
    other = replace(task, versions={**task.versions, "torch": "1.0"})
    with pytest.raises(ClusterError, match=r"on .* torch is .*, where the run was started it is 1\.0: install"):
        Worker().start(other)


def test_a_worker_without_the_base_model_or_with_another_refuses(task: Task, tmp_path: Path) -> None:
    there = tmp_path / "base"
    elsewhere = replace(task, recording=replace(task.recording, model=there))
    with pytest.raises(ModelError, match=rf"model\.base_model: {there} is not there on .*: put the same files"):
        Worker().start(elsewhere)
    shutil.copytree(task.recording.model, there)
    weights = there / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match=rf"model\.base_model: {there} on .* is another model than where the run"):
        Worker().start(elsewhere)


def test_a_worker_that_does_not_see_the_shared_directory_says_so(task: Task) -> None:
    with pytest.raises(ClusterError, match=r"cluster\.shared_store: .* does not hold what was put there: name a dir"):
        Worker().start(task)


def test_a_chunk_that_is_not_what_its_worker_named_is_not_taken(tmp_path: Path) -> None:
    shared, target = Shared(str(tmp_path / "shared")), tmp_path / "target"
    target.mkdir()
    with shared.scratch() as scratch:
        file = chunk_file(Path(scratch), 3)
        file.write_bytes(b"half of i")
        shared.put(file, file.name)
    with pytest.raises(OSError, match="another SHA-256"):
        take_chunk(shared, target, 3, "0" * 64)
    assert not chunk_file(target, 3).exists()
