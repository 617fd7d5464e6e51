"""The source model sealed in a child process: this process never holds its weights.

The child trains or loads the source model and answers over a pipe: a JSON header and raw bytes,
nothing that could carry a network. A method that searches its own process finds none; files are
another matter (the cache folder lies where the user put it).
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

# by name, as engine/run.py does it: the data must not cross the border as arrays, and the plan is
# made again in the child from the same words
from dabench import errors, registry
from dabench.contract.data import DataRequest, DomainData
from dabench.contract.protocol import Plan
from dabench.errors import DabenchError, DataError, OracleError
from dabench.oracle.answer_forms import (
    CHUNK,
    AnswerForm,
    Float32,
    OracleInfo,
    Pictures,
    Unreachable,
)
from dabench.oracle.client import InProcess
from dabench.source_models import classifier as source


@dataclass(frozen=True)
class SealedRequest:
    """All that a child needs to make the source model by itself, as plain values.

    Attributes:
        dataset: name in the registry.
        data: domains, image size and folders.
        protocol: name in the registry; its plan says what the source data are.
        protocol_options: as in the run's spec.
        recipe: how the source model is trained.
        batch_size: of the plan.
        plan_seed: of the plan.
        source_seed: of source training.
        device: where the model is trained and evaluated.
        threads: torch threads of the child.
        cache_dir: source models are cached below it.
        form: what the interface gives away.
        progress: a progress bar of source training on stderr.
    """

    dataset: str
    data: DataRequest
    protocol: str
    protocol_options: dict[str, Any]
    recipe: source.Recipe
    batch_size: int
    plan_seed: int
    source_seed: int
    device: str
    threads: int
    cache_dir: Path
    form: AnswerForm
    progress: bool


class Sealed:
    """An answerer in a process of its own.

    Args:
        request: what the child is to do.
        start_timeout: seconds for loading the data and training the source model; None = as long
            as it takes (a child that dies is noticed at once).
        answer_timeout: seconds a question.

    Raises:
        DabenchError: whatever the child raised, as the same class with the same message.
        Unreachable: the child died or did not get ready in time.
    """

    info: OracleInfo

    def __init__(
        self,
        request: SealedRequest,
        start_timeout: float | None = None,
        answer_timeout: float = 120.0,
    ) -> None:
        self._request = request
        self._start_timeout = start_timeout
        self._answer_timeout = answer_timeout
        self._child: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None where there is none."""
        return self._child.pid if self._child else None

    def answer(self, images: Pictures) -> Float32:
        """Send up to ``CHUNK`` pictures to the child and wait for its answers."""
        header = {"kind": "answer", "shape": list(images.shape)}
        found, body = self._talk(header, images.tobytes(), self._answer_timeout)
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
            child.terminate()
            child.join(5)
            if child.is_alive():
                child.kill()
                child.join()
            child.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # a daemon ends with this process, also after an error that nobody caught
        child = context.Process(target=_child, args=(self._request, theirs), daemon=True)
        try:
            # the child's end may be open in the child only, or its death would go unnoticed
            with theirs:
                child.start()
            self._child = child
            found, _ = self._talk({"kind": "info"}, b"", self._start_timeout)
            self.info = OracleInfo.from_dict(found["info"])
        except BaseException:  # Ctrl-C too: leave no child behind
            self.close()
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
        timer = _Deadline(timeout, child)
        try:
            with timer:
                pipe.send_bytes(_packed(header, body))
                found, answer = _unpacked(pipe.recv_bytes())
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


class _Deadline:
    """Kill a process that takes longer than this block may."""

    def __init__(self, seconds: float | None, child: SpawnProcess) -> None:
        self.passed = False
        self._child = child
        self._timer = None if seconds is None else threading.Timer(seconds, self._kill)
        if self._timer:
            self._timer.daemon = True

    def __enter__(self) -> None:
        if self._timer:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def _kill(self) -> None:
        self.passed = True
        self._child.kill()


def _packed(header: dict[str, Any], body: bytes) -> bytes:
    """One message: a line of JSON, then raw bytes."""
    return json.dumps(header).encode() + b"\n" + body


def _unpacked(message: bytes) -> tuple[dict[str, Any], bytes]:
    line, _, body = message.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    return header, body


def _revived(name: str, message: str) -> DabenchError:
    """Return the child's error; one that is not dabench's becomes an ``OracleError``."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, DabenchError):
        return kind(message)
    return OracleError(f"in the process of the source model: {name}: {message}")


def _child(request: SealedRequest, pipe: Connection) -> None:
    """Run the child: make the source model, then answer until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends this process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # tqdm's own lock is a semaphore between processes, reported as leaked when this one is ended
    tqdm.set_lock(threading.RLock())
    # with --json the parent's stdout is for its JSON alone
    sys.stdout.flush()
    os.dup2(2, 1)
    # the parent went away: nothing is left to do
    with contextlib.suppress(EOFError, OSError):
        _serve(request, pipe)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)  # in the middle of training too; files are published whole or not at all


def _serve(request: SealedRequest, pipe: Connection) -> None:
    answerer: InProcess | None = None
    while True:
        header, body = _unpacked(pipe.recv_bytes())
        try:
            if answerer is None:
                answerer = _answerer(request)
            reply = _reply(answerer, header, body)
        except Exception as error:  # noqa: BLE001 - reported to the parent, who decides
            what = {"kind": "error", "error": type(error).__name__, "message": str(error)}
            reply = _packed(what, b"")
        pipe.send_bytes(reply)


def _reply(answerer: InProcess, header: dict[str, Any], body: bytes) -> bytes:
    if header["kind"] == "info":
        return _packed({"kind": "info", "info": answerer.info.to_dict()}, b"")
    size = answerer.info.image_size
    shape = (len(body) // (3 * size * size), size, size, 3)
    if header["shape"] != list(shape) or not 1 <= shape[0] <= CHUNK:
        raise OracleError(f"asked with pictures of {header['shape']}; expected (1..64, {size}...)")
    answers = answerer.answer(np.frombuffer(body, dtype=np.uint8).reshape(shape))
    return _packed({"kind": "answer", "shape": answers.shape}, answers.astype("<f4").tobytes())


def _answerer(request: SealedRequest) -> InProcess:
    torch.set_num_threads(request.threads)
    plan = _plan(request)
    model = source.load_or_train(
        request.recipe,
        plan,
        request.source_seed,
        request.cache_dir,
        request.device,
        request.progress,
    )
    task = plan.task
    return InProcess(model, task.classes, task.image_size, request.form, request.device)


def _plan(request: SealedRequest) -> Plan:
    data: DomainData = registry.dataset(request.dataset)().load(request.data)
    registry.check_data_kind(request.protocol, request.dataset, data.kind)
    protocol = registry.protocol(request.protocol)(**request.protocol_options)
    reason = protocol.is_valid(data)
    if reason is not None:
        raise DataError(f"{request.protocol} cannot use {request.dataset}: {reason}")
    plan: Plan = protocol.plan(data, request.batch_size, request.plan_seed)
    return plan
