"""A real Ray cluster of several nodes on this machine, and a bucket on a real server, for all tests here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NODES = 3
BUCKET = "s3://recordings"
S3 = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on an S3-compatible server, a process of its own that is spoken to over HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**S3, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            patch.setenv(name, value)
        _make_bucket(server, port)
        yield BUCKET
    server.terminate()
    server.wait()
    log.close()


def _make_bucket(server: subprocess.Popen[bytes], port: int) -> None:
    import s3fs

    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                s3fs.S3FileSystem().mkdir(BUCKET)
                return
        time.sleep(0.05)
    pytest.fail("the S3 server did not start")


@pytest.fixture(scope="session")
def address(bucket: str) -> Iterator[str]:
    """Where a Ray cluster of several nodes is, each with processes and one CPU of its own.

    It is started after the bucket's server, whose address its processes have in their environment.
    """
    assert bucket
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))
        from ray.cluster_utils import Cluster

        node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        yield str(cluster.address)
        cluster.shutdown()
