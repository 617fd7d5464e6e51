"""A pile of images as a stream, which goes on where it was interrupted."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dabench.contract.access import survey_size
from dabench.contract.floats import to_float
from dabench.contract.protocol import Resume
from dabench.contract.signals import postponed
from dabench.deploy.adapted import Adapted, AdaptedModel, summary, wrapped
from dabench.deploy.live import LiveModel, online
from dabench.engine.resume.checkpoint import Checkpoint
from dabench.engine.stream import Progress
from dabench.errors import CacheError
from dabench.source_models.loading import state_hash

CHECKPOINT = "checkpoint.pt"
#: seconds between two states that are kept, at the least
EVERY = 30.0
log = logging.getLogger("dabench")


@dataclass(frozen=True)
class Work:
    """Where a stream's state lies while it runs.

    Attributes:
        folder: for its files; it is there.
        key: whatever decides the answers beside model, images, method and options.
        tell: takes a line for the user.
    """

    folder: Path
    key: str
    tell: Callable[[str], None]

    @property
    def checkpoint(self) -> Path:
        """The file whose presence says that there is something to go on from."""
        return self.folder / CHECKPOINT


@dataclass
class Answers(Progress):
    """What a method has answered so far: (B, K) logits a batch."""

    logits: list[Tensor] = field(default_factory=list)


def along(
    model: nn.Module,
    pictures: np.ndarray,
    cls: type[Any],
    usual: dict[str, Any],
    options: dict[str, Any],
    device: str,
    work: Work | None = None,
) -> Adapted:
    """Push images through a method for streams, in their order.

    Args:
        model: from images to logits.
        pictures: (N, S, S, 3) uint8.
        cls: of the method.
        usual: arguments of ``dabench.online``: classes, batch_size, seed, flip, head, mean, std.
        options: the method's hyper-parameters.
        device: where it happens.
        work: keeps the state every half minute, and where somebody interrupts; None = nowhere.

    Raises:
        DabenchError: a model, a method or an option that do not fit.
    """
    model = copy.deepcopy(model).to(device)  # a live model is where its model is
    wrapping = {name: usual[name] for name in ("head", "mean", "std")}
    source, names = wrapped(model, usual["classes"], to_float(pictures[:2]), wrapping)
    live = online(model, cls, image_size=pictures.shape[1], **usual, **options)
    parts = np.array_split(pictures, -(-len(pictures) // usual["batch_size"]))
    answers = Answers()
    if work is None:
        answers.logits = [live(to_float(part)).cpu() for part in parts]
    else:
        where = {} if device == "cpu" else {"device": device}
        digest = _identity(work, source, pictures, cls, usual | where, options)
        _resumable(live, parts, answers, work, digest)
    logits = torch.cat(answers.logits)
    with torch.no_grad():
        answered = [source(to_float(part).to(device)).cpu() for part in _survey(pictures)]
    before = summary(torch.cat(answered))
    cost = {
        "images_forward": float(live.cost.forward),
        "images_backward": float(live.cost.backward),
    }
    return Adapted(AdaptedModel(live.method), names, before, summary(logits), cost)


def _survey(pictures: np.ndarray) -> list[np.ndarray]:
    size = survey_size(pictures.shape[1])
    return [pictures[i : i + size] for i in range(0, len(pictures), size)]


def _identity(
    work: Work,
    source: nn.Module,
    pictures: np.ndarray,
    cls: type[Any],
    usual: dict[str, Any],
    options: dict[str, Any],
) -> str:
    """Return a digest of everything that the answers depend on."""
    method = f"{cls.__module__}:{cls.__qualname__} {cls.version}"
    facts = [work.key, method, usual, options, pictures.shape, state_hash(source)]
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for picture in pictures:
        sha.update(picture.tobytes())
    return sha.hexdigest()[:32]


def _resumable(
    live: LiveModel, parts: list[np.ndarray], answers: Answers, work: Work, identity: str
) -> None:
    """Push the batches that are still to come; what is there already is not pushed again."""
    checkpoint = Checkpoint(Resume(work.checkpoint, identity, 1, True), live.cost)
    fresh = live.state_dict()
    fresh = {name: v.clone() if isinstance(v, Tensor) else v for name, v in fresh.items()}
    try:
        if checkpoint.restore(live, answers, len(parts)):
            work.tell(f"going on at batch {answers.steps + 1} of {len(parts)}")
    except CacheError as error:
        log.warning("%s; the stream begins anew", str(error).split("; ")[0])
        live.load_state_dict(fresh)
        answers.logits, answers.steps = [], 0
        checkpoint = Checkpoint(Resume(work.checkpoint, identity, 1, True), live.cost)
    last = time.monotonic()
    with postponed() as let_interrupt:  # within a step model and answers do not fit each other
        for part in parts[answers.steps :]:
            answers.logits.append(live(to_float(part)).cpu())
            answers.steps += 1
            if time.monotonic() - last >= EVERY:
                checkpoint.save(live, answers)
                last = time.monotonic()
            try:
                let_interrupt()
            except KeyboardInterrupt as stop:
                checkpoint.save(live, answers)
                stop.add_note(
                    f"batch {answers.steps} of {len(parts)} is kept: the same command goes on "
                    "from there"
                )
                raise
