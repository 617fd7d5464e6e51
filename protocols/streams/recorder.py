"""Where what a method records on a stream is put: at the stream's step."""

from __future__ import annotations

from torch import Tensor

from dabench.contract.access import Recorder
from dabench.contract.types import Separation


class StreamRecorder(Recorder):
    """Pass everything on to another recorder, at the stream's step in place of the method's own.

    A method counts its updates: a fresh one starts at 0 again, some take several a batch, others
    leave batches out. At the stream's steps the curves of all methods lie under each other, those
    of several segments follow each other, and what lies beyond a checkpoint can be told.
    """

    def __init__(self, inner: Recorder) -> None:
        self._inner = inner
        #: batches that were pushed so far; the protocol moves it. None = not begun: what a method
        #: records while a run that goes on is set up, the killed run has recorded already
        self.step: int | None = None

    def begin(self, step: int) -> None:
        """Begin at a step of the stream."""
        self.step = step
        self._inner.start(step)

    def put(self, name: str, step: int, value: float | Separation | Tensor) -> None:
        """Record at the stream's step."""
        if self.step is not None:
            self._inner.put(name, self.step, value)
