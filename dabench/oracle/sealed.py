"""The source model sealed in a child process: this process never holds its weights.

The child trains or loads the source model and answers over a pipe. A method that searches its own
process finds none; files are another matter (the cache folder lies where the user put it).
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np

from dabench import errors
from dabench.errors import DabenchError, OracleError
from dabench.oracle.answer_forms import Float32, OracleInfo, Pictures, Unreachable
from dabench.oracle.deadline import Deadline
from dabench.oracle.sealed_child import SealedRequest, pack, run_child, unpack

#: seconds a question: large vision transformers take minutes for one on a single CPU thread
ANSWER_TIMEOUT = 600.0


class Sealed:
    """An answerer in a process of its own.

    Args:
        request: what the child is to do.
        start_timeout: seconds for loading the data and training the source model; None = as long
            as it takes (a child that dies is noticed at once).

    Raises:
        DabenchError: whatever the child raised, as the same class with the same message.
        Unreachable: the child died or did not get ready in time.
    """

    info: OracleInfo

    def __init__(
        self,
        request: SealedRequest,
        start_timeout: float | None = None,
    ) -> None:
        self._request = request
        self._start_timeout = start_timeout
        self._child: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None where there is none."""
        return self._child.pid if self._child else None

    def answer(self, images: Pictures) -> Float32:
        """Send up to ``BATCH_SIZE`` pictures to the child and wait for its answers."""
        header = {"kind": "answer", "shape": list(images.shape)}
        found, body = self._talk(header, images.tobytes(), ANSWER_TIMEOUT)
        shape = tuple(found["shape"])
        return np.frombuffer(body, dtype="<f4").reshape(shape).astype(np.float32)

    def restart(self) -> None:
        """End the child, whatever it does, and start another one."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the child and collect it; more than once is fine."""
        child, pipe = self._child, self._pipe
        self._child = self._pipe = None
        if pipe is not None:
            pipe.close()
        if child is not None:
            child.kill()  # it is deaf to SIGTERM; its files are published whole or not at all
            child.join()
            child.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # a daemon ends with this process, also after an error that nobody caught
        child = context.Process(target=run_child, args=(self._request, theirs), daemon=True)
        try:
            # the child's end may be open in the child only, or its death would go unnoticed
            with theirs:
                child.start()
            self._child = child
            found, _ = self._talk({"kind": "info"}, b"", self._start_timeout)
            self.info = OracleInfo.from_dict(found["info"])
        except BaseException as error:  # Ctrl-C too: leave no child behind
            self.close()
            if isinstance(error, RuntimeError) and "bootstrapping" in str(error):
                raise OracleError(
                    "the sealed source model runs in a process of its own, which imports your "
                    "script: put what the script does under \"if __name__ == '__main__':\""
                ) from error
            raise

    def _talk(
        self, header: dict[str, Any], body: bytes, timeout: float | None
    ) -> tuple[dict[str, Any], bytes]:
        """Send a message and wait for the child's; a child that is late is killed.

        Its answer would come one day, and pass for that of another question.
        """
        pipe, child = self._pipe, self._child
        if pipe is None or child is None:
            raise Unreachable("the process of the source model is not running")
        # a timer, and not a poll: to send can block as well
        timer = Deadline(timeout, child.kill)
        try:
            with timer:
                pipe.send_bytes(pack(header, body))
                found, answer = unpack(pipe.recv_bytes())
        except (EOFError, OSError) as error:
            child.join(5)
            reason = f"ended with exit code {child.exitcode} (what it printed stands above)"
            if timer.passed:
                reason = f"did not answer within {timeout:g} s"
            self.close()
            raise Unreachable(f"the process of the source model {reason}") from error
        if found["kind"] == "error":
            raise _revived(str(found["error"]), str(found["message"]))
        return found, answer


def _revived(name: str, message: str) -> DabenchError:
    """Return the child's error; one that is not dabench's becomes an ``OracleError``."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, DabenchError):
        return kind(message)
    return OracleError(f"in the process of the source model: {name}: {message}")
