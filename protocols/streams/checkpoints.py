"""When a stream's state is written: every few steps, and where somebody interrupts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import Resume
from dabench.engine.stream import Progress, save_checkpoint


class Checkpoints:
    """The checkpoints of one run.

    Args:
        resume: where and how often; None, or every 0 steps, for none.
        steps: of the whole stream.
    """

    def __init__(self, resume: Resume | None, steps: int) -> None:
        self._resume = resume if resume is not None and resume.every else None
        self._steps = steps

    def after_step(self, method: OnlineMethod, progress: Progress) -> None:
        """Write the state if this step is one of every few."""
        if self._resume is not None and progress.steps % self._resume.every == 0:
            save_checkpoint(self._resume, method, progress)

    @contextlib.contextmanager
    def last(self, method: OnlineMethod, progress: Progress) -> Iterator[None]:
        """Between two steps: write the state if Ctrl-C or SIGTERM comes inside, and say so."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if self._resume is not None:
                save_checkpoint(self._resume, method, progress)
                stop.add_note(
                    f"step {progress.steps} of {self._steps} is kept: the same command with "
                    "--resume goes on from there"
                )
            raise
