"""Recording on a real Ray cluster of several nodes: the bytes of a single process, whatever happens on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
import s3fs
import torch

from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.cluster.driver import Cluster
from loradash_assets.compute.cluster.pool import _size
from loradash_assets.compute.errors import ClusterError, ModelError
from loradash_assets.compute.job import Recording
from loradash_assets.compute.recording import chunk_file
from loradash_assets.settings import ClusterSettings
from tests.assets.graph import Graph
from tests.compute.cluster import builds
from tests.compute.cluster.conftest import NODES
from tests.compute.cluster.recordings import VOCABULARY, files, make, with_prompts

THREADS = 2
UP_TO_THERE = ("dataset_rows", "prompts", "base_model", "features", "activations")
READY = re.compile(r"worker (\d+) \(process (\d+) on .*\) is ready")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return make(tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="module")
def alone(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a single process, and what it says of them."""
    target = tmp_path_factory.mktemp("alone")
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    facts = record_activations(recording, target, lambda _: None)
    torch.set_num_threads(before)
    return files(target), _content(facts)


def _content(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if name[0] != "_"}


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[Cluster]:
    settings = ClusterSettings(engine="ray", address=address, threads=THREADS, attempts=2)
    with Cluster(settings, several=True) as cluster:
        yield cluster


Alone = tuple[dict[str, bytes], dict[str, Any]]


def test_a_build_that_is_stopped_and_resumed_elsewhere_is_the_local_one_which_finds_it_in_the_store(
    address: str, tmp_path: Path
) -> None:
    """The first test here: later the nodes' CPUs are this module's workers'."""
    project, local = builds.project(tmp_path / "project"), builds.project(tmp_path / "local")
    builds.build_and_stop(project)
    before = builds.chunks(project)
    with dg.DagsterInstance.ephemeral() as instance:
        graph, other = Graph(project, instance), Graph(local, instance)
        graph.change(cluster={"address": address, "workers": None})
        assert graph.run("activations") == {"activations": "miss"}
        after = builds.chunks(project)
        assert 5 <= len(before) < len(after)
        assert {name: after[name] for name in before} == before
        other.change(cluster={"engine": "local"})
        other.run(*UP_TO_THERE)
        assert other.digest("activations") == graph.digest("activations")
        graph.change(cluster={"engine": "local"})
        assert graph.run("activations") == {"activations": "hit"}


def test_several_nodes_record_the_bytes_of_one_process(
    cluster: Cluster, recording: Recording, alone: Alone, tmp_path: Path
) -> None:
    target, place, log = tmp_path / "target", tmp_path / "shared", list[str]()
    target.mkdir()
    facts = cluster.record(recording, target, log.append, place=str(place))
    assert (files(target), _content(facts)) == alone
    assert len(alone[0]) > 30
    assert facts["_workers"] <= NODES
    assert (facts["_rechecked"]["tokens"], facts["_rechecked"]["share_off"]) == (48, 0)
    assert not place.exists()
    assert any(line.startswith("the recording takes") for line in log)
    assert "prefixes that examples share run once for all" in log


def test_a_worker_that_is_killed_costs_its_chunks_and_changes_nothing(
    cluster: Cluster, recording: Recording, alone: Alone, tmp_path: Path
) -> None:
    log: list[str] = []
    killed = threading.Thread(target=_kill_once, args=(tmp_path, log))
    killed.start()
    facts = cluster.record(recording, tmp_path, log.append, place=f"{tmp_path}-shared")
    killed.join()
    assert (files(tmp_path), _content(facts)) == alone
    assert sum("died, and others go on" in line for line in log) == 1
    (line,) = [line for line in log if line.endswith("go to other workers")]
    assert set(map(int, re.findall(r"\d+", line)[:-1])) <= {*facts["_run_again"]} != set()


def _kill_once(directory: Path, log: list[str]) -> None:
    """End the first worker that is ready in the middle, when a few chunks have arrived."""
    while len(list(directory.glob("chunk-*"))) < 5:
        time.sleep(0.002)
    process = next(found[2] for line in log if (found := READY.fullmatch(line)))
    os.kill(int(process), signal.SIGKILL)


def test_a_bucket_is_as_good_as_a_directory(
    cluster: Cluster, recording: Recording, alone: Alone, bucket: str, tmp_path: Path
) -> None:
    facts = cluster.record(recording, tmp_path, lambda _: None, place=f"{bucket}/here")
    assert (files(tmp_path), _content(facts)) == alone
    s3fs.S3FileSystem.clear_instance_cache()
    assert s3fs.S3FileSystem().find(bucket) == []


def test_chunks_that_are_there_or_were_put_by_a_run_that_was_stopped_are_not_run_again(
    cluster: Cluster, recording: Recording, alone: Alone, tmp_path: Path
) -> None:
    target, place = tmp_path / "target", tmp_path / "shared"
    for directory, chunks in ((target, (0, 1, 2)), (place, (3, 4))):
        directory.mkdir()
        for file in (chunk_file(directory, chunk) for chunk in chunks):
            file.write_bytes(alone[0][file.name])
    chunk_file(target, 2).write_bytes(alone[0][chunk_file(target, 2).name][:-1])
    before = {file.name: file.stat().st_ino for file in [*target.iterdir(), *place.iterdir()]}
    cluster.record(recording, target, lambda _: None, place=str(place))
    assert files(target) == alone[0]
    after = {name: (target / name).stat().st_ino for name in before}
    assert [after[name] == before[name] for name in sorted(before)] == [True, True, False, True, True]


def test_a_chunk_that_always_fails_ends_the_run_with_its_number_and_the_reason(
    cluster: Cluster, recording: Recording, tmp_path: Path
) -> None:
    """A token that the model does not know is an error of torch's, in every chunk that needs its batch."""
    examples = pq.read_table(recording.prompts)["token_ids"].to_pylist()
    examples[-1][-1] = VOCABULARY
    prompts = tmp_path / "prompts.parquet"
    with_prompts(prompts, examples)
    target, log = tmp_path / "target", list[str]()
    target.mkdir()
    with pytest.raises(ClusterError, match=r"cluster\.attempts: chunk \d+ failed 2 .*: index out of range") as found:
        cluster.record(replace(recording, prompts=prompts), target, log.append, place=str(tmp_path / "shared"))
    chunk = str(found.value).split()[2]
    failures = [line for line in log if line.startswith(f"chunk {chunk} failed on worker ")]
    assert len(failures) == 2  # on two workers, if both were ready by then
    assert list(target.glob("chunk-*"))  # what is done is kept
    assert not (tmp_path / "shared").exists()


def test_what_one_machine_lacks_ends_the_run_at_once(cluster: Cluster, recording: Recording, tmp_path: Path) -> None:
    """Nothing is tried again that would fail again: here the adapter's rank is not the catalogue's."""
    other = tmp_path / "adapter"
    shutil.copytree(recording.adapter, other)
    shutil.copy(recording.model / "config.json", other / "adapter_config.json")
    log: list[str] = []
    with pytest.raises(ValueError, match=r"^adapter\.path: "):
        cluster.record(replace(recording, adapter=other), tmp_path, log.append, place=str(tmp_path / "shared"))
    assert not [line for line in log if "died" in line]


def test_what_does_not_fit_into_the_cluster_is_refused(cluster: Cluster, recording: Recording, tmp_path: Path) -> None:
    assert cluster
    too_many = ClusterSettings(engine="ray", workers=5)
    with pytest.raises(
        ClusterError, match=rf"cluster\.workers: .* room for {NODES} workers with a CPU each, not for 5"
    ):
        _size(too_many, "cpu")
    with pytest.raises(ModelError, match=r"model\.device: no machine of the cluster has a GPU"):
        _size(too_many, "cuda")
    with pytest.raises(ModelError, match=r"model\.device: cuda:1 is one GPU of one machine"):
        cluster.record(replace(recording, device="cuda:1"), tmp_path, lambda _: None, place=str(tmp_path / "shared"))
