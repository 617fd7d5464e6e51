"""Per-sample predictions beside a record, as counts that add up (no torch).

A bootstrap draws images, each with all its showings, or the steps of a stream. All of them have
counts, and a metric is a function of summed counts: right and all images by class (classification),
or a confusion matrix of pixels (segmentation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dabench.contract.types import FloatArray
from dabench.errors import StoreError, reason_of
from dabench.store.arrays import check_arrays, file_beside, read_arrays

#: metrics that are functions of counts
DRAWN = frozenset({"accuracy", "mean_class_accuracy", "OS*", "UNK", "HOS", "mIoU"})
_MOST_CLASSES = 2**15
Measure = Callable[[FloatArray], FloatArray]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class SamplingUnits:
    """What a run answered, image by image and step by step.

    Attributes:
        images: (M,) numbers of the images or frames that were shown, ascending.
        counts: (M, …) sums over all showings of each.
        steps: (U, …) sums over each step of a stream; None of an offline part.
        place: (N,) which images the samples are, in order; runs of a seed must agree in them.
        truth: (N,) their classes; empty for segmentation.
        measure: (draws, …) summed counts -> (draws,) values of the metric.
    """

    images: npt.NDArray[Any]
    counts: FloatArray
    steps: FloatArray | None
    place: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    measure: Measure

    @property
    def frames(self) -> bool:
        """Whether the images are frames, whose neighbours are alike."""
        return not len(self.truth)


def sampling_units(path: Path, record: Mapping[str, Any], metric: str) -> SamplingUnits | None:
    """Return a run's units for a metric; None where none are kept or the metric is no such sum.

    Args:
        path: the record's file; predictions lie beside it.
        record: what it holds.
        metric: ``metric`` or ``metric/segment``: accuracy, mean_class_accuracy, OS*, UNK, HOS
            (as they are, or ``/held-out``), ``accuracy/final`` of a stream, mIoU.

    Raises:
        StoreError: the file that the record names is missing, damaged, or not the run's.
    """
    if not record.get("predictions") or metric.partition("/")[0] not in DRAWN:
        return None
    file = file_beside(path, record)
    check_arrays(path, record)
    return usable_units(file, read_arrays(file), record, metric)


def usable_units(
    file: Path, arrays: Arrays, record: Mapping[str, Any], metric: str
) -> SamplingUnits | None:
    """Return what :func:`sampling_units` does, of arrays that were read.

    Raises:
        StoreError: they are not those of the run.
    """
    try:
        return _units(arrays, record, metric)
    except (ArithmeticError, LookupError, StopIteration, TypeError, ValueError) as error:
        reason = reason_of(error)
        raise StoreError(f"{file}: predictions cannot be used ({reason}); run again") from error


def _units(arrays: Arrays, record: Mapping[str, Any], metric: str) -> SamplingUnits | None:
    if metric == "mIoU":
        return _dense(arrays, str(record["spec"]["protocol_options"].get("timing", "before")))
    name, _, segment = metric.partition("/")
    stream = "stream.truth" in arrays
    part = "stream" if stream else {"": "adapt", "held-out": "held-out"}.get(segment, "")
    if f"{part}.truth" not in arrays or (stream and segment not in ("", "final")):
        return None
    measure = _measures(_known(record)).get(name)
    if measure is None:
        return None
    truth = _whole(arrays, f"{part}.truth", arrays[f"{part}.truth"].size)
    n = len(truth)
    answer, row = (_whole(arrays, f"{part}.{name}", n) for name in ("prediction", "row"))
    steps = _whole(arrays, "stream.step", n) if stream else row
    last = slice(-_size(record, metric) if segment == "final" else 0, None)
    truth, answer, steps = truth[last], answer[last], steps[last]
    images, which = np.unique(row[last], return_inverse=True)
    counts = _by_unit(truth, answer == truth, which)
    in_time = _by_unit(truth, answer == truth, steps - steps[0]) if stream else None
    return SamplingUnits(images, counts, in_time, row[last], truth, measure)


def _whole(arrays: Arrays, name: str, n: int) -> npt.NDArray[Any]:
    """Return n whole numbers from 0 on, one a sample; ``ValueError`` where they are not."""
    found = arrays[name]
    if found.shape != (n,) or not n or found.dtype.kind not in "iu" or int(found.min()) < 0:
        raise ValueError(
            f"{name} is {found.dtype} of {found.shape}, not {n or 'some'} numbers >= 0"
        )
    return found.astype(np.int64)


def _known(record: Mapping[str, Any]) -> int:
    """Return K of an open-set run, 0 in closed sets (where every class counts alike)."""
    names = [row["segment"] for row in record["scores"] if row["metric"] == "class_accuracy"]
    return len(names) - 1 if "unknown" in names else 0


def _size(record: Mapping[str, Any], key: str) -> int:
    metric, _, segment = key.partition("/")
    return next(
        int(row["n"])
        for row in record["scores"]
        if (row["metric"], row.get("segment", "all")) == (metric, segment)
    )


def _by_unit(
    truth: npt.NDArray[Any], right: npt.NDArray[Any], unit: npt.NDArray[Any]
) -> FloatArray:
    """Return (U, 2, C): right and all samples of each class in each unit."""
    classes = int(truth.max()) + 1
    if classes > _MOST_CLASSES or int(unit.max()) >= len(unit) or int(unit.min()) < 0:
        raise ValueError("classes or steps have numbers that no run gives them")
    place, size = unit * classes + truth, (int(unit.max()) + 1) * classes
    good, seen = (np.bincount(place, w, size).reshape(-1, classes) for w in (right, None))
    return np.stack([good, seen], axis=1).astype(np.float64)


def _measures(known: int) -> dict[str, Measure]:
    """Return the metrics over (draws, 2, C) counts; the last class is private in open sets."""

    def by_class(counts: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return counts[:, 0] / counts[:, 1]

    def accuracy(counts: FloatArray) -> FloatArray:
        found: FloatArray = counts[:, 0].sum(-1) / counts[:, 1].sum(-1)
        return found

    if not known:
        return {"accuracy": accuracy, "mean_class_accuracy": lambda c: np.nanmean(by_class(c), -1)}

    def os_star(counts: FloatArray) -> FloatArray:
        found: FloatArray = np.nanmean(by_class(counts)[:, :known], -1)
        return found

    def unk(counts: FloatArray) -> FloatArray:
        return by_class(counts[..., known:].sum(-1, keepdims=True))[:, 0]

    def hos(counts: FloatArray) -> FloatArray:
        left, right = os_star(counts), unk(counts)
        return 2 * left * right / np.maximum(left + right, 1e-300)

    return {"OS*": os_star, "UNK": unk, "HOS": hos}


def _dense(arrays: Arrays, timing: str) -> SamplingUnits | None:
    """Return frames with their (K, K) counts, where these were not too many to keep."""
    counts = arrays.get(f"stream.{timing}")
    if counts is None or "stream.row" not in arrays:
        return None
    row, nothing = _whole(arrays, "stream.row", arrays["stream.row"].size), np.zeros(0, np.int64)
    if (
        counts.shape != (len(row), counts.shape[-1], counts.shape[-1])
        or counts.dtype.kind not in "iu"
    ):
        raise ValueError(f"stream.{timing} is {counts.dtype} of {counts.shape}, not counts a frame")
    images, which = np.unique(row, return_inverse=True)
    shown = np.zeros((len(images), *counts.shape[1:]))
    np.add.at(shown, which, counts)
    return SamplingUnits(images, shown, counts.astype(np.float64), row, nothing, mean_iou)


def mean_iou(counts: FloatArray) -> FloatArray:
    """Return the (...) mean IoU of (..., K, K) counts, over the classes that are there."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - right
    with np.errstate(invalid="ignore"):
        found: FloatArray = np.nanmean(right / union, -1)
    return found
