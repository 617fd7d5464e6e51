"""Processes of a test's own, and one that dies at a chosen call to the system."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="other processes are forks")
#: what writes to a disk
_CALLS = ("replace", "link", "unlink", "fsync", "mkdir", "rmdir", "open", "chmod")


def fork(work: Callable[[], Any]) -> int:
    """Do something in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do something in a process that dies at that call to the system; return whether it died."""
    left = step

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return real(*args, **kwargs)

        return call

    def counting() -> None:
        for name in _CALLS:
            setattr(os, name, counted(getattr(os, name)))
        work()

    return os.waitstatus_to_exitcode(os.waitpid(fork(counting), 0)[1]) == 9
