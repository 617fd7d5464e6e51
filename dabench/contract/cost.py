"""What a method's networks have done, counted outside the method."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Cost:
    """Images that went through networks, and questions to an oracle; copies share one counter."""

    forward: int = 0
    backward: int = 0
    queries: int = 0
    scoring_queries: int = 0
    paused: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Cost:
        return self

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count inside (scoring for curves is not the method's cost)."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before
