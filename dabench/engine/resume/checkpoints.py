"""When a stream's state is written: every few steps, and where somebody interrupts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dabench.contract.cost import Cost
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import Resume
from dabench.engine.resume.checkpoint import Checkpoint
from dabench.engine.stream import Progress


class Checkpoints:
    """The checkpoints of one run.

    Args:
        resume: where and how often; None, or every 0 steps, for none, not even a last one.
        cost: of the run.
        steps: of the whole stream.
    """

    def __init__(self, resume: Resume | None, cost: Cost, steps: int) -> None:
        self._checkpoint = Checkpoint(resume, cost) if resume is not None else None
        self._every = resume.every if resume is not None else 0
        self._steps = steps
        #: whether the run is to go on from one
        self.wanted = resume is not None and resume.wanted

    def restore(self, method: OnlineMethod, progress: Progress) -> bool:
        """Go on from the checkpoint; False where there is none.

        Raises:
            CacheError: a damaged file, or one that another run wrote.
        """
        found = self._checkpoint
        return found is not None and found.restore(method, progress, self._steps)

    def after_step(self, method: OnlineMethod, progress: Progress) -> None:
        """Write the state if this step is one of every few."""
        if self._checkpoint is not None and self._every and progress.steps % self._every == 0:
            self._checkpoint.save(method, progress)

    @contextlib.contextmanager
    def last(self, method: OnlineMethod, progress: Progress) -> Iterator[None]:
        """Between two steps: write the state if Ctrl-C or SIGTERM comes inside, and say so."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if self._checkpoint is not None and self._every:
                self._checkpoint.save(method, progress)
                stop.add_note(
                    f"step {progress.steps} of {self._steps} is kept: the same command with "
                    "--resume goes on from there"
                )
            raise
