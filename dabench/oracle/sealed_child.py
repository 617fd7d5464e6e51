"""What the child process of a sealed oracle does: it makes the source model, and answers.

Parent and child talk over a pipe: a line of JSON and raw bytes, nothing that could carry a network.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

# by name, as engine/setup/parts.py does it: the data must not cross the border as arrays, and the
# plan is made again in the child from the same options
from dabench import registry
from dabench.contract.data import DataRequest, DomainData
from dabench.contract.protocol import Plan
from dabench.contract.signals import end_with_parent
from dabench.errors import DataError, OracleError
from dabench.oracle.answer_forms import BATCH_SIZE, AnswerForm
from dabench.oracle.in_process import InProcess
from dabench.source_models.classifier import Recipe
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.source import load_source


@dataclass(frozen=True)
class SealedRequest:
    """All that a child needs to make the source model by itself, as plain values.

    Attributes:
        dataset: name in the registry.
        data: domains, image size and folders; source models are cached below its ``cache_dir``.
        protocol: name in the registry; its plan says what the source data are.
        protocol_options: as in the run's spec.
        recipe: how the source model is trained.
        batch_size: of the plan.
        plan_seed: of the plan.
        source_seed: of source training.
        device: where the model is trained and evaluated.
        threads: torch threads of the child.
        form: what the interface gives away.
        progress: a progress bar of source training on stderr.
        plugins: where a data set or a protocol that is not dabench's own comes from.
        foreign: a source model of somebody else, in place of one that is trained.
    """

    dataset: str
    data: DataRequest
    protocol: str
    protocol_options: dict[str, Any]
    recipe: Recipe
    batch_size: int
    plan_seed: int
    source_seed: int
    device: str
    threads: int
    form: AnswerForm
    progress: bool
    plugins: tuple[registry.Plugin, ...] = ()
    foreign: ForeignModel | None = None


def pack(header: dict[str, Any], body: bytes) -> bytes:
    """One message: a line of JSON, then raw bytes."""
    return json.dumps(header).encode() + b"\n" + body


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and body of a message of :func:`pack`."""
    line, _, body = message.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    return header, body


def run_child(request: SealedRequest, pipe: Connection) -> None:
    """Run the child: make the source model, then answer until the pipe closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are the parent's, who ends this process
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    # tqdm's own lock is a semaphore between processes, reported as leaked when this one is ended
    tqdm.set_lock(threading.RLock())
    # with --json the parent's stdout is for its JSON alone
    sys.stdout.flush()
    os.dup2(2, 1)
    # the parent went away: nothing is left to do
    with contextlib.suppress(EOFError, OSError):
        _serve(request, pipe)


def _serve(request: SealedRequest, pipe: Connection) -> None:
    answerer: InProcess | None = None
    while True:
        header, body = unpack(pipe.recv_bytes())
        try:
            if answerer is None:
                answerer = _answerer(request)
            reply = _reply(answerer, header, body)
        except Exception as error:  # noqa: BLE001 - reported to the parent, who decides
            what = {"kind": "error", "error": type(error).__name__, "message": str(error)}
            reply = pack(what, b"")
        pipe.send_bytes(reply)


def _reply(answerer: InProcess, header: dict[str, Any], body: bytes) -> bytes:
    if header["kind"] == "info":
        return pack({"kind": "info", "info": answerer.info.to_dict()}, b"")
    size = answerer.info.image_size
    shape = (len(body) // (3 * size * size), size, size, 3)
    if header["shape"] != list(shape) or not 1 <= shape[0] <= BATCH_SIZE:
        raise OracleError(f"asked with pictures of {header['shape']}; expected (1..64, {size}...)")
    answers = answerer.answer(np.frombuffer(body, dtype=np.uint8).reshape(shape))
    return pack({"kind": "answer", "shape": answers.shape}, answers.astype("<f4").tobytes())


def _answerer(request: SealedRequest) -> InProcess:
    torch.set_num_threads(request.threads)
    plan = _plan(request)
    model = load_source(
        request.foreign,
        request.recipe,
        plan,
        request.source_seed,
        request.data.cache_dir,
        request.device,
        request.progress,
    )
    task = plan.task
    return InProcess(model, task.classes, task.image_size, request.form, request.device)


def _plan(request: SealedRequest) -> Plan:
    registry.restore(request.plugins)
    data: DomainData = registry.data_loader(request.dataset)(request.data)
    registry.check_data_kind(request.protocol, request.dataset, data.kind)
    protocol = registry.protocol(request.protocol)(**request.protocol_options)
    reason = protocol.is_valid(data)
    if reason is not None:
        raise DataError(f"{request.protocol} cannot use {request.dataset}: {reason}")
    plan: Plan = protocol.plan(data, request.batch_size, request.plan_seed)
    return plan
