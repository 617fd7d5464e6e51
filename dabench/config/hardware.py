"""The processor cores and the device that a run may use."""

from __future__ import annotations

import os
import re

from dabench.errors import ConfigError

_PRECISIONS = ("32", "bf16", "fp16")


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_gpus() -> int:
    """Return how many CUDA devices this process may use."""
    import torch

    return torch.cuda.device_count()


def total_memory() -> int:
    """Return the bytes of this machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resolve_device(name: str) -> str:
    """Turn ``auto`` into a device and check that a named one is there.

    ``auto`` never chooses ``mps``: runs on it need not repeat bit for bit, and it has no float64.
    """
    if name == "cpu":
        return name
    if not re.fullmatch(r"auto|mps|cuda(:\d+)?", name):
        raise ConfigError(f"--device '{name}': expected auto, cpu, cuda, cuda:N or mps")
    import torch

    if name == "mps":
        if not torch.backends.mps.is_available():
            raise ConfigError(f"--device {name}: torch sees no Apple GPU here; use --device cpu")
        return name
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    index = int(name.partition(":")[2] or 0)
    if not there or index >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: no such GPU is visible to torch; use --device cpu")
    return name


def resolve_precision(given: str | None) -> str | None:
    """Return a precision below 32, or None: what is not given, and stands in no record.

    Raises:
        ConfigError: another word.
    """
    if given not in (None, *_PRECISIONS):
        raise ConfigError(f"--precision {given}: expected {', '.join(_PRECISIONS)}")
    return None if given == _PRECISIONS[0] else given
