"""Answers of an oracle, kept in one SQLite file: what was answered is not asked again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dabench.errors import CacheError
from dabench.oracle.answer_forms import Float32

#: digests a SELECT, well below SQLite's limit of variables
_BATCH = 500
#: seconds to wait for another process that is writing
_PATIENCE = 60.0


class AnswerStore:
    """Digest of a picture -> answer; safe with several processes on one file.

    Args:
        path: the file, made with its folder if it is not there; None keeps answers in memory.
        num_classes: K, the length of every answer.

    Raises:
        CacheError: the file is damaged, or cannot be opened.
    """

    def __init__(self, path: Path | None, num_classes: int) -> None:
        self.path = path
        self._length = num_classes
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._named():
            self._file = sqlite3.connect(
                ":memory:" if path is None else path, timeout=_PATIENCE, isolation_level=None
            )
            self._prepare()

    def _prepare(self) -> None:
        # a file system without shared memory has no WAL, and a second process cannot switch it on
        # while the first one writes: the ordinary journal is as safe, only slower
        with contextlib.suppress(sqlite3.OperationalError):
            self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS answers (digest BLOB PRIMARY KEY, answer BLOB NOT NULL)"
        )

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn SQLite's errors into one line that names the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise CacheError(
                f"stored answers {self.path} cannot be used ({error}); see whether the folder can "
                "be written and no other process holds the file, or delete it, and run again"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> CacheError:
        return CacheError(
            f"stored answers {self.path} are damaged ({reason}); delete the file and run again"
        )

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Return those of ``digests`` that have an answer."""
        return set(self._select(digests))

    def get(self, digests: Sequence[bytes]) -> Float32:
        """Return the answers, (N, K) float32 in the order of ``digests``, all of them known."""
        found = self._select(digests)
        rows = np.empty((len(digests), self._length), dtype=np.float32)
        for row, digest in enumerate(digests):
            answer = found.get(digest)
            if not isinstance(answer, bytes) or len(answer) != 4 * self._length:
                raise self._damaged(f"no {self._length} numbers for a picture")
            rows[row] = np.frombuffer(answer, dtype="<f4")
        return rows

    def add(self, digests: Sequence[bytes], answers: Float32) -> None:
        """Keep (n, K) answers for good; of two processes, the first one's stay."""
        rows = [
            (digest, answer.astype("<f4").tobytes())
            for digest, answer in zip(digests, answers, strict=True)
        ]
        with self._named():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; answers in memory are forgotten."""
        self._file.close()

    def _select(self, digests: Sequence[bytes]) -> dict[bytes, object]:
        found: dict[bytes, object] = {}
        with self._named():
            for start in range(0, len(digests), _BATCH):
                some = digests[start : start + _BATCH]
                marks = ",".join("?" * len(some))
                found.update(
                    self._file.execute(
                        f"SELECT digest, answer FROM answers WHERE digest IN ({marks})", some
                    )
                )
        return found
