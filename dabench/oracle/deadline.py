"""A block that may take only so long, whatever it waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Deadline:
    """Do something to end the wait of a block that takes too long.

    Args:
        seconds: what the block may take; None = as long as it likes.
        expire: what is done then, in another thread.
    """

    def __init__(self, seconds: float | None, expire: Callable[[], object]) -> None:
        self.passed = False
        self._act = expire
        self._timer = None if seconds is None else threading.Timer(seconds, self._expire)

    def __enter__(self) -> Deadline:
        if self._timer:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def _expire(self) -> None:
        self.passed = True
        self._act()
