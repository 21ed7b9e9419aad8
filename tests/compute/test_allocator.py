"""While a model runs on the CPU, memory that was freed is used again without asking the system for it."""

from __future__ import annotations

import platform
import subprocess
import sys

FAULTS = """
import resource, sys
from contextlib import nullcontext

import numpy as np

from loradash_assets.compute.allocator import freed_memory_kept


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        buffers = [np.ones(3 << 20, np.float32) for _ in range(8)]
        del buffers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    faults()
    print(faults())
print(faults())
"""


def _faults(how: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_buffers_are_not_paged_in_again_and_memory_goes_back_afterwards() -> None:
    inside, after = _faults("kept")
    plain, _ = _faults("plain")
    if platform.libc_ver()[0] == "glibc":
        assert inside < plain / 20
        assert after > inside
    else:
        assert inside > plain / 2
