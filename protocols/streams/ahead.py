"""Work that is done ahead of its turn, in processes of its own.

Drawing weather holds Python's interpreter, so threads would only take turns with the step. These
processes import no script of the user (as those of ``multiprocessing`` do, which a script without
``if __name__ == "__main__"`` does not survive) and no torch, and end when nobody asks any more.
"""

from __future__ import annotations

import contextlib
import io
import logging
import mmap
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from dabench.errors import DataError, one_line

Made = TypeVar("Made")
_WORKER = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    f"from {__name__} import serve; serve()"
)
log = logging.getLogger("dabench")


class Ahead(Generic[Made]):
    """Returns ``make(step)`` for one step after the other, while those of further steps are made.

    Args:
        make: depends on its step alone; what cannot be handed to another process is called here.
        steps: how many there are.
        count: results that are made ahead at most, each in a process of its own; 0 = none.
    """

    def __init__(self, make: Callable[[int], Made], steps: int, count: int) -> None:
        self._make, self._steps = make, steps
        self._count = min(count, max(0, steps - 1))
        self._workers: list[subprocess.Popen[bytes]] = []
        self._asked = 0

    def get(self, step: int) -> Made:
        """Return the result of a step, each time the one after that of the last call.

        Raises:
            DataError: its process was killed.
        """
        if self._count and not self._workers:
            self._asked = step
            self._start()
        if not self._count:
            return self._make(step)
        try:
            for later in range(self._asked, min(step + self._count + 1, self._steps)):
                self._send(self._worker(later), pickle.dumps(later))
                self._asked = later + 1
            good, found = pickle.load(self._out(self._worker(step)))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise self._death(step) from error
        if not good:
            raise found
        result: Made = found
        return result

    def close(self) -> None:
        """End the processes; what they are at is lost."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use
                    if pipe is not None:
                        pipe.close()

    def _worker(self, step: int) -> subprocess.Popen[bytes]:
        return self._workers[step % self._count]

    def _start(self) -> None:
        try:
            task = _packed((self._make, cv2.getNumThreads()))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return self._give_up(error)
        hello = pickle.dumps(sys.path) + task
        for _ in range(self._count):
            self._workers.append(
                subprocess.Popen(
                    [sys.executable, "-c", _WORKER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,  # a terminal's Ctrl-C is the run's, which ends it
                )
            )
        for worker in self._workers:
            # a worker that died says so where its first result would be
            with contextlib.suppress(BrokenPipeError):
                self._send(worker, hello)
        for worker in self._workers:
            with contextlib.suppress(EOFError):
                if trouble := pickle.load(self._out(worker)):
                    return self._give_up(trouble)

    def _give_up(self, reason: object) -> None:
        self.close()
        self._count = 0
        log.warning(
            "pictures are made when their turn has come: they cannot be handed to another process "
            "(%s); --prefetch 0 says so from the start",
            one_line(reason, 200),
        )

    def _send(self, worker: subprocess.Popen[bytes], message: bytes) -> None:
        assert worker.stdin is not None
        worker.stdin.write(message)
        worker.stdin.flush()

    def _out(self, worker: subprocess.Popen[bytes]) -> Any:
        return worker.stdout

    def _death(self, step: int) -> DataError:
        code = self._worker(step).wait()
        killed = code == -signal.SIGKILL
        hint = " (killed, perhaps by the system when memory ran out)" if killed else ""
        return DataError(
            f"step {step}: the process that makes its pictures ahead ended with exit code "
            f"{code}{hint}; --resume goes on from the last checkpoint, --prefetch 0 makes them in "
            "the run's own process"
        )


class _Packer(pickle.Pickler):
    """Hands over where a memory map lies, and not its content."""

    def reducer_override(self, found: Any) -> Any:
        if type(found) is not np.memmap or not found.flags.c_contiguous or found.filename is None:
            return NotImplemented
        # of a part of a map, numpy keeps the offset of the whole
        begin = found.offset - found.offset % mmap.ALLOCATIONGRANULARITY
        mapped = np.frombuffer(found._mmap, np.uint8)  # type: ignore[attr-defined]
        offset = begin + found.ctypes.data - mapped.ctypes.data
        return np.memmap, (found.filename, found.dtype, "r", offset, found.shape)


def _packed(found: object) -> bytes:
    file = io.BytesIO()
    _Packer(file, pickle.HIGHEST_PROTOCOL).dump(found)
    return file.getvalue()


def serve() -> None:
    """Run a worker: make the results of the steps that stdin names until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are the run's, who ends this process
        signal.signal(number, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # for whatever prints
    # the run went away: nothing is left to do
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            make, threads = pickle.load(asked)
        except Exception as error:  # noqa: BLE001 - reported to the run, which does without
            pickle.dump(f"{type(error).__name__}: {error}", answers)
            answers.flush()
            return
        cv2.setNumThreads(threads)
        pickle.dump("", answers)
        answers.flush()
        while True:
            pickle.dump(_tried(make, pickle.load(asked)), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()


def _tried(make: Callable[[int], object], step: int) -> tuple[bool, object]:
    try:
        return True, make(step)
    except Exception as error:  # noqa: BLE001 - it is raised where its result would come
        error.add_note(f"in the process that makes pictures ahead:\n{traceback.format_exc()}")
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - an error that does not travel
            return False, RuntimeError(f"{type(error).__name__}: {error}")
        return False, error
