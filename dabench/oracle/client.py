"""The client of an oracle: it counts, keeps, checks and retries.

Three answerers give the same bits on the same device with the same number of threads:
``in_process.InProcess``, ``sealed.Sealed`` in a child process, ``http.Http`` elsewhere.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.types import Task
from dabench.errors import AccessError, CacheError, DamageError, OracleError
from dabench.oracle.answer_forms import (
    BATCH_SIZE,
    Answerer,
    Float32,
    Pictures,
    Unreachable,
    are_distributions,
    check_fits_task,
)
from dabench.oracle.answer_store import AnswerStore


class OracleClient:
    """The :class:`dabench.contract.access.Oracle` that a method is handed.

    Every picture that this run asks for the first time counts once in ``cost.queries``, whether an
    earlier run left its answer on the disk or not; while ``cost`` is paused (a protocol is
    scoring) it counts in ``cost.scoring_queries``, and against no budget.

    Args:
        answerer: who evaluates the source model.
        task: what the answers have to fit.
        cost: of the run.
        budget: pictures that may be asked; None = as many as one likes.
        cache_dir: answers are kept in its ``answers/<id>-<form>-<place>.sqlite3``; None = in
            memory.
        attempts: tries a question before giving up.
        pause: seconds before the second try; twice that before the third, and so on.
        place: device and threads, or the address, that the answers came from: bits differ.

    Raises:
        OracleError: the oracle's classes or image size are not the task's.
        CacheError: the file of stored answers cannot be read or written.
    """

    def __init__(
        self,
        answerer: Answerer,
        task: Task,
        cost: Cost,
        budget: int | None,
        cache_dir: Path | None,
        attempts: int = 3,
        pause: float = 0.5,
        place: str = "",
    ) -> None:
        self.info = answerer.info
        check_fits_task(self.info, task)
        self._answerer = answerer
        self._task = task
        self._cost = cost
        self._budget = budget
        self._attempts = max(1, attempts)
        self._pause = pause
        self._counted: set[bytes] = set()
        self._scored: set[bytes] = set()
        file = "-".join(filter(None, (self.info.id, self.info.form, place))) + ".sqlite3"
        path = None if cache_dir is None else cache_dir / "answers" / file
        self._store = AnswerStore(path, task.num_classes)

    @property
    def gives_probabilities(self) -> bool:
        """False where answers are one-hot."""
        return self.info.gives_probabilities

    def ask(self, images: Tensor) -> Tensor:
        """Answer (B, 3, S, S) images in [0, 1] by (B, K) float32 distributions on the CPU.

        Raises:
            AccessError: the budget would be exceeded; nothing was asked.
            OracleError: pictures that are none, no answer, or one that is no distribution.
        """
        pictures = self._quantised(images)
        return self._answers(_digests(pictures), lambda rows: pictures[rows])

    def ask_all(self, target: Unlabelled) -> Tensor:
        """Answer a whole set in position order by (N, K); the budget is checked for all of it.

        Raises:
            AccessError, OracleError: as ``ask``.
        """

        def fetch(rows: list[int]) -> Pictures:
            return self._quantised(target.__getitems__(rows).images)

        # two passes, so that a large set is never in memory as a whole
        digests: list[bytes] = []
        for start in range(0, len(target), 256):
            digests += _digests(fetch(list(range(start, min(start + 256, len(target))))))
        return self._answers(digests, fetch)

    def close(self) -> None:
        """Close the file of answers; the answerer belongs to whoever made it."""
        self._store.close()

    def _quantised(self, images: Tensor) -> Pictures:
        size = self._task.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise OracleError(
                f"asked with a tensor of {tuple(images.shape)}; expected (B, 3, {size}, {size})"
            )
        values = images.detach().to("cpu", torch.float32)
        # not (inside) rather than outside: it also refuses what is no number
        if values.numel() and not bool(((values >= -1e-3) & (values <= 1.001)).all()):
            raise OracleError(
                "asked with values outside [0, 1]; hand over pictures as they came, not normalised"
            )
        levels = values.mul(255).round().clamp(0, 255).to(torch.uint8)
        pictures: Pictures = levels.permute(0, 2, 3, 1).contiguous().numpy()
        return pictures

    def _charge(self, digests: Sequence[bytes]) -> None:
        """Count what this run has not asked before, or refuse all of it."""
        if self._cost.paused:
            fresh = set(digests) - self._counted - self._scored
            self._scored |= fresh
            self._cost.scoring_queries += len(fresh)
            return
        fresh = set(digests) - self._counted
        asked = len(self._counted)
        if self._budget is not None and asked + len(fresh) > self._budget:
            raise AccessError(
                f"the budget allows {self._budget} questions; {asked} were asked and this set needs"
                f" {len(fresh)} more; raise --protocol.query_budget to {asked + len(fresh)} or more"
            )
        self._counted |= fresh
        self._cost.queries += len(fresh)

    def _answers(self, digests: list[bytes], fetch: Callable[[list[int]], Pictures]) -> Tensor:
        self._charge(digests)
        first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
        known = self._store.known(list(first))
        wanted = sorted(row for digest, row in first.items() if digest not in known)
        try:
            for start in range(0, len(wanted), BATCH_SIZE):
                rows = wanted[start : start + BATCH_SIZE]
                answers = self._asked(fetch(rows), len(known) + start, len(first))
                self._store.add([digests[row] for row in rows], self._valid(answers, rows))
            return torch.from_numpy(self._store.get(digests))
        except DamageError as error:
            raise CacheError(f"{error}; run the same command again") from error

    def _asked(self, pictures: Pictures, kept: int, needed: int) -> object:
        """Ask until there is an answer; ``kept`` of ``needed`` are for the message."""
        reason: Unreachable | None = None
        for attempt in range(self._attempts):
            try:
                if attempt:
                    time.sleep(self._pause * 2 ** (attempt - 1))
                    self._restart()
                return self._answerer.answer(pictures)
            except Unreachable as error:
                reason = error
        place = self._store.path or "memory (no cache folder was given)"
        raise OracleError(
            f"the oracle did not answer after {self._attempts} tries ({reason}); {kept} of "
            f"{needed} answers are kept in {place}; run the same command again to go on"
        ) from reason

    def _restart(self) -> None:
        self._answerer.restart()
        found = self._answerer.info
        if (found.id, found.form, found.classes) != (
            self.info.id,
            self.info.form,
            self.info.classes,
        ):
            raise OracleError(
                f"the oracle came back as another model ({found.id}, {found.form}; before "
                f"{self.info.id}, {self.info.form}); start a new run"
            )

    def _valid(self, answers: object, rows: list[int]) -> Float32:
        """Check that answers are distributions over the task's classes; ``rows`` names them."""
        found = np.asarray(answers)
        expected = (len(rows), self._task.num_classes)
        if found.shape != expected or found.dtype.kind not in "fiu":
            raise OracleError(
                f"the oracle answered {len(rows)} pictures from position {rows[0]} on with "
                f"{found.dtype} of {found.shape}; expected float32 of {expected}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            clean: Float32 = np.maximum(found, 0).astype(np.float32)
        # what is kept has to pass as well: it is checked again whenever it is read
        fits = are_distributions(found) & are_distributions(clean)
        if fits.all():
            return clean
        first = int(fits.argmin())
        values = found[first].astype(np.float64)
        # a sum with NaN in it would be the less telling message
        bad = [v for v in values if not math.isfinite(v) or v < -1e-6]
        reason = (
            f"holds {bad[0]:g}; expected a distribution (softmax, no logits)"
            if bad
            else f"sums to {values.sum():g}; expected 1 (a distribution over the classes)"
        )
        raise OracleError(f"the oracle's answer to picture {rows[first]} {reason}")


def _digests(pictures: Pictures) -> list[bytes]:
    return [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
