"""The scores of a record, held against the predictions that lie beside it (no torch)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dabench.errors import StoreError, reason_of
from dabench.store.arrays import check_arrays, file_beside, read_arrays
from dabench.store.records import score_name
from dabench.store.samples import DRAWN, Arrays, mean_iou, usable_units

#: what ranks streams of frames: a mean over conditions
_FRAMES = "mean-conditions"
#: segments of which predictions are kept
_PARTS = ("all", "held-out", "final", _FRAMES)


def check_scores(path: Path, record: Mapping[str, Any], primary: str = "") -> None:
    """Hold the scores of a record against the predictions beside it, where they follow from these.

    Accuracy, its mean over classes, OS*, UNK, HOS and mIoU do; calibration and scores of unknown
    do not, for confidences are kept rounded.

    Args:
        path: the record's file; predictions lie beside it.
        record: what it holds.
        primary: the metric that ranks, which must be among those that follow ("" = none must; that
            of ``online-seg`` does not where weather climbs along the stream).

    Raises:
        StoreError: a score is another one, or what lies beside the record cannot be used.
    """
    if not record.get("predictions"):
        return
    file = file_beside(path, record)
    check_arrays(path, record)
    arrays = read_arrays(file)
    unseen = {primary} & {score_name(row) for row in record["scores"] if row["value"] is not None}
    options = record["spec"]["protocol_options"]
    unseen -= {name for name in unseen if not _may_follow(*name.partition("/")[::2], options)}
    for row in record["scores"]:
        name, segment = score_name(row), row.get("segment", "all")
        if row["value"] is None or not _may_follow(row["metric"], segment, options):
            continue
        if segment == _FRAMES:
            found = _over_conditions(file, arrays, options)
        elif units := usable_units(file, arrays, record, name):
            found = float(units.measure(units.counts.sum(0)[None])[0])
        else:
            continue
        unseen -= {name}
        if not math.isclose(found, row["value"], abs_tol=1e-9):
            raise StoreError(
                f"{path}: {name} is {row['value']:.6g}, and by its predictions it is {found:.6g}; "
                "run it again"
            )
    if unseen:
        raise StoreError(f"{file}: {primary} does not follow from what it holds; run it again")


def _may_follow(metric: str, segment: str, options: Mapping[str, Any]) -> bool:
    if segment == _FRAMES:  # a ramp has a segment a level, and its conditions are several of them
        return metric == "mIoU" and options.get("schedule") in ("constant", "cycle")
    return metric in DRAWN and (segment or "all") in _PARTS


def _over_conditions(file: Path, arrays: Arrays, options: Mapping[str, Any]) -> float:
    """Return the mean over conditions of the mean IoU, by the counts of all their rounds."""
    timing = str(options.get("timing", "before"))
    try:
        counts, rounds = arrays[f"segment.{timing}"], int(options["rounds"])
        if f"stream.{timing}" in arrays:
            summed = np.zeros_like(counts)
            np.add.at(summed, arrays["stream.segment"], arrays[f"stream.{timing}"])
            if (summed != counts).any():
                raise ValueError(f"segment.{timing} is not the sum of its frames")
        by_condition = counts.reshape(rounds, -1, *counts.shape[1:]).sum(0)
        with warnings.catch_warnings():  # a condition without a labelled pixel has no mean
            warnings.simplefilter("ignore", RuntimeWarning)
            return float(np.nanmean(mean_iou(by_condition)))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = reason_of(error)
        raise StoreError(f"{file}: counts cannot be used ({reason}); run again") from error
