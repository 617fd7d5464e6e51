"""Keep freed memory: on glibc a large tensor is otherwise a fresh mapping, paged in again."""

from __future__ import annotations

import ctypes
import os
import platform

# mallopt's parameters (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let the allocator reuse what it freed; return whether it was told to.

    Every step of a large network on the CPU allocates the same gigabyte, and glibc gives it back
    to the system each time: a third of the processor's time went into page faults
    (benchmarks/allocation.py). Numbers do not change. Nothing is done on other C libraries, or
    where the environment has settings of its own.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN):
        return False
    set_thresholds(2**30, 2**31 - 1, 2**26)
    return True


def set_thresholds(mmap: int, trim: int, pad: int) -> None:
    """Call ``mallopt``: bytes from which a block is mapped, that stay at the top, asked at once."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, mmap)
    libc.mallopt(_TRIM_THRESHOLD, trim)
    libc.mallopt(_TOP_PAD, pad)
