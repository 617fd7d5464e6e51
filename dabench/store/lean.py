"""Records without their curves, small in memory and on disk: what many share is kept once.

A record of the store is some 6 kB of JSON without its curves, and as much again as Python objects
for every key and number. Most of it stands in other records too: the spec but for the seed,
versions, options, and the names behind the scores. ``pack`` takes it apart, ``Parts`` keeps each
text once and puts records together again, equal to those that went in (no torch).
"""

from __future__ import annotations

import json
import marshal
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from dabench.store.identity import file_ids
from dabench.store.records import score_name

#: keys of a record that are its own; what is not named here is shared as one part, the head
_OWN = ("run_id", "predictions", "predictions_checksum", "checksum", "curves_checksum")
#: keys that runs of other heads share too: of one seed, of one protocol
_APART = ("ids", "source_model", "cost", "scores")
#: keys that a score may lack
_OPTIONAL = ("segment", "at")
_SIZE = 16
_EMPTY = float("nan")


class Packed(NamedTuple):
    """A record in pieces.

    Attributes:
        seed: its spec's.
        parts: digests of what it shares, one after the other.
        numbers: costs, then the values of the scores, as 64-bit floats; NaN = none.
        own: what is under ``_OWN``, a line each.
    """

    seed: int
    parts: bytes
    numbers: bytes
    own: str


class LeanRecord(dict[str, Any]):
    """A record, with what is known of it without a look into it.

    Attributes:
        head: an object that it shares with the records that have all in common but seed, ids (of
            weight files: none), source model, costs and scores: those of a row, on one machine.
    """

    __slots__ = ("head",)
    head: object


def head_of(record: dict[str, Any]) -> object:
    """Return the head of a record of the store; any other is its own."""
    return record.head if isinstance(record, LeanRecord) else record


class ScoreLayout:
    """What stands beside the values of a record's scores.

    Attributes:
        rows: the scores with the value None.
        names: ``metric`` or ``metric/segment`` of each.
    """

    __slots__ = ("names", "rows")

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = tuple(rows)
        self.names = tuple(map(score_name, rows))


class LeanScores(Sequence[dict[str, Any]]):
    """The scores of a record, each made when it is asked for.

    Attributes:
        layout: shared by records with the same metrics, segments, samples and epoch.
        values: of each score; NaN = a hole.
    """

    __slots__ = ("layout", "values")

    def __init__(self, layout: ScoreLayout, values: array[float]) -> None:
        self.layout, self.values = layout, values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return list(self)[index]
        return {**self.layout.rows[index], "value": _or_none(self.values[index])}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row, value in zip(self.layout.rows, self.values, strict=True):
            yield {**row, "value": _or_none(value)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def score_values(record: Mapping[str, Any]) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Return how tables call a record's scores, and their values; NaN where there is none."""
    scores = record["scores"]
    if isinstance(scores, LeanScores):
        return scores.layout.names, np.frombuffer(scores.values)
    values = np.array([row["value"] for row in scores], dtype=np.float64)
    return tuple(map(score_name, scores)), np.where(np.isfinite(values), values, np.nan)


class Parts:
    """What records share, by its digest: as text, and read once.

    Args:
        texts: what is known already.

    Raises:
        TypeError, ValueError: texts that ``pack`` has not made.
    """

    def __init__(self, texts: Mapping[bytes, str] | None = None) -> None:
        self.texts = dict(texts or {})
        self._digests: dict[object, bytes] = {}
        self._heads: dict[tuple[int, tuple[str, ...]], object] = {}
        # all at once: then equal keys are one object
        known = json.loads(f"[{','.join(self.texts.values())}]")
        self._read = {d: _as_part(*part) for d, part in zip(self.texts, known, strict=True)}

    def pack(self, record: Mapping[str, Any]) -> Packed:
        """Take a sound record apart; it is not changed."""
        spec, cost, scores = record["spec"], record.get("cost"), record["scores"]
        head = {n: None if n in _OWN else v for n, v in record.items() if n not in _APART}
        shared = {
            "head": head | {"spec": {**spec, "seed": None}},
            "ids": record["ids"],
            "source_model": record.get("source_model"),
            "cost": None if cost is None else list(cost),
        }
        numbers = [*(cost or {}).values(), *(row["value"] for row in scores)]
        packed = array("d", [_EMPTY if value is None else value for value in numbers])
        own = "\n".join(record[name] or "" for name in head if name in _OWN)
        digests = [self._keep(marshal.dumps(part, 2), *part) for part in shared.items()]
        rows = tuple([(*row, row["metric"], row["n"], *map(row.get, _OPTIONAL)) for row in scores])
        digests.append(self._keep(rows, "scores", scores))
        return Packed(spec["seed"], b"".join(digests), packed.tobytes(), own)

    def unpack(self, packed: Packed) -> LeanRecord:
        """Put a record together; what it shares is shared, and must not be changed.

        Raises:
            KeyError, TypeError, ValueError: pieces that do not belong together.
        """
        seed, parts, packed_numbers, own = packed
        digests = [parts[at : at + _SIZE] for at in range(0, len(parts), _SIZE)]
        read = self._read
        try:
            head, ids, source_model, cost, layout = [read[digest] for digest in digests]
        except KeyError:
            missing = [digest for digest in digests if digest not in read]
            read |= {digest: _as_part(*json.loads(self.texts[digest])) for digest in missing}
            head, ids, source_model, cost, layout = [read[digest] for digest in digests]
        kept, names = head
        record = LeanRecord(kept)
        files = tuple(file_ids(ids).values())
        record.head = self._heads.setdefault((id(head), files), (head, files)) if files else head
        for name, line in zip(names, own.split("\n"), strict=True):
            record[name] = line or None
        record["spec"] = {**kept["spec"], "seed": seed}
        record["ids"] = ids
        if source_model is not None:
            record["source_model"] = source_model
        numbers = array("d", packed_numbers)
        costs = len(cost or ())
        if len(numbers) != costs + len(layout.rows):
            raise ValueError("more or fewer numbers than names")
        if cost is not None:
            values = [None if math.isnan(value) else value for value in numbers[:costs]]
            record["cost"] = dict(zip(cost, values, strict=True))
        record["scores"] = LeanScores(layout, numbers[costs:])
        return record

    def _keep(self, key: object, name: str, part: Any) -> bytes:
        """Return the digest of a part; most are known by a key that is quicker made than JSON."""
        if key not in self._digests:
            rows = [{**row, "value": None} for row in part] if name == "scores" else part
            text = json.dumps([name, rows])
            digest = blake2b(text.encode(), digest_size=_SIZE).digest()
            self._digests[key] = digest
            self.texts.setdefault(digest, text)
        return self._digests[key]


def _as_part(name: str, part: Any) -> Any:
    """Return what a text stands for."""
    if name == "head":
        return part, [key for key in part if key in _OWN]
    return ScoreLayout(part) if name == "scores" else part


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
