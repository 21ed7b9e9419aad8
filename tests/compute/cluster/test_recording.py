"""Recording on a real Ray cluster of several nodes: the bytes of a single process, whatever happens on the way."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
import torch

from loradash_assets.compute.activations import record_activations
from loradash_assets.compute.cluster.driver import Cluster
from loradash_assets.compute.job import Recording
from loradash_assets.settings import ClusterSettings
from tests.compute.cluster.conftest import NODES
from tests.compute.cluster.recordings import files, make

THREADS = 2
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


def test_several_nodes_record_the_bytes_of_one_process(
    cluster: Cluster, recording: Recording, alone: Alone, tmp_path: Path
) -> None:
    target, place, log = tmp_path / "target", tmp_path / "shared", list[str]()
    target.mkdir()
    facts = cluster.record(recording, target, log.append, place=str(place))
    assert (files(target), _content(facts)) == alone
    assert len(alone[0]) > 30
    assert facts["_workers"] <= NODES
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
