"""The process that a run has: what a record says of it, what it used, its memory's settings."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy
import torch
import torchvision

import dabench
from dabench.engine.stream import card_peak, process_peak

# mallopt's parameters (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_USER_SETTINGS = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_THRESHOLD_",
    "GLIBC_TUNABLES",
)


def package_versions() -> dict[str, str]:
    """Return the versions of what a run's numbers may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "opencv": cv2.__version__,
        "numpy": numpy.__version__,  # draws the order of every stream
        "timm": version("timm"),  # networks by name, whose answers have changed between versions
    }


def process_environment(device: str, threads: int) -> dict[str, Any]:
    """Return device, threads, the CPU's vector instructions, platform and the code's commit."""
    return {
        "device": _device_name(device),
        "threads": threads,
        "workers": 0,
        "instructions": torch.backends.cpu.get_cpu_capability(),  # sums are rounded by their width
        "platform": platform.platform(terse=True),
        "git_commit": _git_commit(),
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def resource_usage(seconds: float, device: str) -> dict[str, float]:
    """Return what a record says of cost: ``seconds`` as given, and this process's peak memory."""
    used = {"seconds": seconds, "peak_memory_bytes": process_peak()}
    if device.startswith("cuda"):
        used["peak_gpu_memory_bytes"] = card_peak(device)
    return used


def _git_commit() -> str | None:
    """The commit of the code, with ``+`` when the tree has changes; None outside a checkout."""
    folder = Path(dabench.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
        except OSError:  # a checkout on a machine without git
            return ""
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return f"{commit}{'+' if dirty else ''}" if commit else None


def keep_freed_memory() -> bool:
    """Let the allocator reuse what it freed; return whether it was told to.

    Every step of a large network on the CPU allocates the same gigabyte, and glibc gives it back
    to the system each time: a third of the processor's time went into page faults
    (benchmarks/allocation.py). Numbers do not change. Nothing is done on other C libraries, or
    where the environment has settings of its own.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USER_SETTINGS):
        return False
    set_thresholds(2**30, 2**31 - 1, 2**26)
    return True


def set_thresholds(mmap: int, trim: int, pad: int) -> None:
    """Call ``mallopt``: bytes from which a block is mapped, that stay at the top, asked at once."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, mmap)
    libc.mallopt(_TRIM_THRESHOLD, trim)
    libc.mallopt(_TOP_PAD, pad)
