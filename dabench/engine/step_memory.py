"""Peak memory from a moment on: that of a stream's steps, without what came before them."""

from __future__ import annotations

import ctypes
import platform
import resource
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: bytes by which the kernel's own counts may differ right after a reset
_SLACK = 16 * 2**20
#: highest peaks that resets have wiped out; a run's whole peak counts them
_wiped: dict[str, float] = {}


def process_peak() -> float:
    """Return the most bytes of main memory that this process ever held, resets or not."""
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return max(now, _wiped.get("process", 0.0))


def card_peak(device: str) -> float:
    """Return the most bytes that torch ever had allocated on a CUDA device, resets or not."""
    return max(float(torch.cuda.max_memory_allocated(device)), _wiped.get(device, 0.0))


class StepMemory:
    """The peak of memory from :meth:`start` on, where the system can tell it.

    On a CPU: main memory of the process (Linux: what ``/proc/self/clear_refs`` resets), with its
    libraries, the networks and the batches that are made ahead. On CUDA: what torch had allocated
    on the card. Elsewhere nothing is known, and nothing is said.

    Args:
        device: of the run.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.known = False

    def start(self) -> None:
        """Forget the peak so far; what a whole run reports still counts it."""
        if self.device.startswith("cuda"):
            _wiped[self.device] = card_peak(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.known = True
        elif self.device == "cpu":
            _wiped["process"] = process_peak()
            self.known = _reset_process()

    def cost(self) -> dict[str, float]:
        """Return ``step_memory_bytes``, or nothing where it is not known."""
        if not self.known:
            return {}
        if self.device.startswith("cuda"):
            return {"step_memory_bytes": float(torch.cuda.max_memory_allocated(self.device))}
        peak = _status("VmHWM")
        return {} if peak is None else {"step_memory_bytes": peak}


def _reset_process() -> bool:
    """Bring the process's peak down to what it holds; return whether that worked."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept belongs to nobody's step
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    held, peak = _status("VmRSS"), _status("VmHWM")
    return held is not None and peak is not None and peak <= held + _SLACK


def _status(name: str) -> float | None:
    """Return bytes from the kernel's account of this process, or None where it has none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return float(found[0]) * 1024 if found else None
