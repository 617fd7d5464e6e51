"""Ctrl-C, SIGTERM and a lost parent: one way to end, which can wait for the end of a step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers send it: what is under way ends as after Ctrl-C."""


def end_of(stop: KeyboardInterrupt) -> tuple[str, int]:
    """Return what an interruption is called, and the exit code that shells give it."""
    if isinstance(stop, Terminated):
        return "terminated", 128 + signal.SIGTERM
    return "interrupted", 128 + signal.SIGINT


def end_with_parent() -> None:
    """End this process of ``multiprocessing`` as soon as the one that started it has ended.

    In the middle of anything: files are published whole or not at all.
    """
    import multiprocessing  # here: the command line starts much sooner without
    from multiprocessing.connection import wait

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside, in the main thread, SIGTERM raises :class:`Terminated`: once.

    A scheduler may send it to all processes of a group, whose parent passes it on: the second
    one must not cut off what the first one made a process keep.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def postponed() -> Iterator[Callable[[], None]]:
    """Inside, Ctrl-C and SIGTERM wait until the yielded function is called, or the block ends.

    A second Ctrl-C does not wait. A signal that would end the process at once, or is ignored,
    stays as it is.
    """
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    waiting: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in waiting:
            handlers[number](number, frame)
        waiting.append(number)

    def deliver() -> None:
        if waiting:
            number = waiting[0]
            waiting.clear()
            handlers[number](number, None)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, hold)
    try:
        yield deliver
    finally:
        for held, handler in handlers.items():
            signal.signal(held, handler)
        deliver()
