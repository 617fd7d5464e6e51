"""What a killed stream goes on from: a small file of state, and a journal that only grows.

The journal holds what is known of every step. A save appends what is new of it, and then puts the
state in the place of the last one; the state says how much of the journal belongs to it, so that
whatever a killed run wrote beyond that is cut off. Nothing waits for the disk: a kill loses nothing
that was written, and what a power failure tears is told by the hash and refused.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dabench.contract.cost import Cost
from dabench.contract.protocol import Resume
from dabench.engine.stream import Progress
from dabench.errors import CacheError, reason_of
from dabench.networks.tensor_files import load_tensors, report_damage, save_tensors

FORMAT = 3
#: bytes before every part of the journal that say how long it is
_HEAD = 8


class Checkpoint:
    """The checkpoint of one run, in ``resume.path`` and the journal beside it.

    Args:
        resume: where it lies, and whose it is.
        cost: of the run.
    """

    def __init__(self, resume: Resume, cost: Cost) -> None:
        self._resume, self._cost = resume, cost
        self._length, self._sha = 0, hashlib.sha256()
        self._kept: dict[str, int] = {}

    def save(self, method: nn.Module, progress: Progress) -> None:
        """Append what is new of the log, and write the state: it is whole or absent.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        resume = self._resume
        resume.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._length:  # a state that an earlier run left would lose its journal
            resume.path.unlink(missing_ok=True)
        self._append(progress)
        state: dict[str, Any] = {
            "format": FORMAT,
            "identity": resume.identity,
            "torch": str(torch.__version__),
            "method": method.state_dict(),
            "rng": _random_state(),
            "cost": {"forward": self._cost.forward, "backward": self._cost.backward},
            "progress": {n: v for n, v in vars(progress).items() if not isinstance(v, list)},
            "journal": {"bytes": self._length, "sha256": self._sha.hexdigest()},
        }
        save_tensors(state, resume.draft)
        os.replace(resume.draft, resume.path)

    def restore(self, method: nn.Module, progress: Progress, steps: int) -> bool:
        """Go on from the checkpoint of a stream of ``steps`` steps; False where there is none.

        Raises:
            CacheError: a damaged file, or one that another run wrote.
        """
        path, identity = self._resume.path, self._resume.identity
        if not path.is_file():
            return False
        with report_damage("checkpoint", path, "delete it, or start afresh without --resume"):
            state = load_tensors(path)
        if state.get("identity") != identity:
            raise CacheError(
                f"checkpoint {path} belongs to run {state.get('identity')}, not to "
                f"{identity}; delete it, or start afresh without --resume"
            )
        for what, found, here in (
            ("format", state.get("format"), FORMAT),
            ("torch", state.get("torch"), str(torch.__version__)),
        ):
            if found != here:
                raise CacheError(
                    f"checkpoint {path} was written by {what} {found}, this is {here}; go on with "
                    "that version, or start afresh without --resume"
                )
        try:
            scalars, cost = dict(state["progress"]), state["cost"]
            spent = int(cost["forward"]), int(cost["backward"])
            if not 0 <= int(scalars["steps"]) <= steps:
                raise ValueError(f"step {scalars['steps']} of a stream of {steps}")
            logs = self._read_journal(**state["journal"])
            method.load_state_dict(state["method"])
            _restore_random_state(state["rng"])
        except (RuntimeError, LookupError, TypeError, ValueError, OSError, EOFError) as error:
            raise CacheError(
                f"checkpoint {path} does not fit {type(method).__name__} any more "
                f"({reason_of(error)}); start afresh without --resume"
            ) from error
        self._cost.forward, self._cost.backward = spent
        for name, value in (scalars | logs).items():
            setattr(progress, name, value)
        self._kept = {name: len(values) for name, values in logs.items()}
        return True

    def _append(self, progress: Progress) -> None:
        """Write what the log's lists hold beyond what was kept before."""
        logs = {name: v for name, v in vars(progress).items() if isinstance(v, list)}
        buffer = io.BytesIO()
        torch.save({n: _pack(v[self._kept.get(n, 0) :]) for n, v in logs.items()}, buffer)
        part = buffer.getvalue()
        part = len(part).to_bytes(_HEAD, "big") + part
        with self._resume.journal.open("r+b" if self._length else "wb") as file:
            file.seek(self._length)
            file.truncate()
            file.write(part)
        self._sha.update(part)
        self._length += len(part)
        self._kept = {name: len(values) for name, values in logs.items()}

    def _read_journal(self, bytes: int, sha256: str) -> dict[str, list[Any]]:
        """Return the log's lists as they were when the state was written.

        Raises:
            CacheError: the journal cannot be read, or is not what the state says.
        """
        path = self._resume.journal
        try:
            with path.open("rb") as file:
                text = file.read(bytes)
        except OSError as error:
            raise CacheError(
                f"checkpoint {path} cannot be read ({error.strerror}); start afresh without "
                "--resume"
            ) from error
        self._sha = hashlib.sha256(text)
        if len(text) != bytes or self._sha.hexdigest() != sha256:
            raise CacheError(f"checkpoint {path} is damaged; start afresh without --resume")
        self._length = bytes
        logs: dict[str, list[Any]] = {}
        for part in _parts(text):
            for name, found in torch.load(io.BytesIO(part), weights_only=True).items():
                logs.setdefault(name, []).extend(_unpack(found))
        return logs


def _parts(text: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(text):
        begin = start + _HEAD
        start = begin + int.from_bytes(text[start:begin], "big")
        yield text[begin:start]


def _pack(values: list[Any]) -> Any:
    """Return tensors as one with their shapes: to store many small ones takes long."""
    if not values or not isinstance(values[0], Tensor):
        return values
    return torch.cat([v.reshape(-1) for v in values]), [tuple(v.shape) for v in values]


def _unpack(found: Any) -> list[Any]:
    if isinstance(found, list):
        return found
    flat, shapes = found
    sizes = [torch.Size(shape).numel() for shape in shapes]
    return [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]


def _random_state() -> dict[str, Any]:
    """Return the state of torch's generators (methods draw from nothing else)."""
    state: dict[str, Any] = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        there = torch.cuda.device_count()  # fewer cards may be visible now
        torch.cuda.set_rng_state_all(state["cuda"][:there])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
