"""The C library's memory while a model runs on the CPU: freed blocks are kept for the next layer, not given back.

glibc's malloc maps each large block anew and gives freed memory at the heap's end back to the system. A forward pass
makes and frees the same blocks in every layer, and the system hands each one out page by page, filled with zeros: some
percent of the time, and more or less by what the process happened to free before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_IN_HEAP = 32 << 20  # bytes; glibc accepts no more
KEPT = 1 << 30  # bytes free at the heap's end
AFTERWARDS = 2 * LARGEST_IN_HEAP  # as glibc chooses for itself once a block of the largest size was freed


@contextmanager
def freed_memory_kept() -> Generator[None]:
    """While this lasts, keep freed memory for what comes next; nothing happens where malloc is not glibc's."""
    libc: Any = ctypes.CDLL(None)
    if not (hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt")):
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, AFTERWARDS)
        libc.malloc_trim(0)
