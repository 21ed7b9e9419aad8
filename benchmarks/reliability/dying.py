"""The annotation service, killed in the middle of saving: what `kills` starts as

    python -m benchmarks.reliability.dying OPTIONS OF annotation_server --before-call N

with N a number of system calls of which all but looks count.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading

from annotation_server.__main__ import main
from tests.annotation_server.faults import watched

WRITER = "annotation-writer"  # the store's thread
LOOKS = ("stat", "fstat")  # which change nothing


def run(arguments: list[str], last: int) -> int:
    """Serve until saving comes to its system call of number `last` (from 0), looks not counted; name it, and die."""
    made = itertools.count()

    def before(_: int, name: str) -> None:
        if threading.current_thread().name == WRITER and name not in LOOKS and next(made) == last:
            print(name, file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(before):
        return main(arguments)


if __name__ == "__main__":
    *options, _, number = sys.argv[1:]
    sys.exit(run(options, int(number)))
