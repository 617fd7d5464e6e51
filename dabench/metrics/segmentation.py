"""Metrics of segmentation, over one confusion matrix of pixels.

Everything that a stream keeps of an answer is such a matrix; matrices add up, means of IoU do not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dabench.contract.types import IGNORE
from dabench.errors import ConfigError, DataError
from dabench.metrics.confusion import mean_of_present


def pixel_confusion(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Return (K, K) int64 counts of pixels, rows = truth; pixels of ``IGNORE`` count nowhere.

    Args:
        predicted: (B, H, W) integer classes below K.
        truth: (B, H, W) integer classes below K, or ``IGNORE``.
        num_classes: K.

    Raises:
        DataError: the shapes differ, or the truth has a value outside the classes.
        ConfigError: a predicted class is out of range.
    """
    if predicted.shape != truth.shape:
        raise DataError(
            f"dense labels of shape {tuple(truth.shape)} for answers of shape "
            f"{tuple(predicted.shape)}: image and label must have one size"
        )
    labelled = truth != IGNORE
    true, found = truth[labelled].long(), predicted[labelled].long()
    if true.numel() and not 0 <= int(true.min()) <= int(true.max()) < num_classes:
        raise DataError(
            f"dense labels from {int(true.min())} to {int(true.max())}: expected classes 0 to "
            f"{num_classes - 1}, or {IGNORE} where a pixel has none; see how the data set maps ids"
        )
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < num_classes:
        raise ConfigError(f"predicted classes must lie in 0..{num_classes - 1}")
    counts = torch.bincount(true * num_classes + found, minlength=num_classes**2)
    return counts.view(num_classes, num_classes)


def union_of(confusion: Tensor) -> Tensor:
    """Return (..., K) pixels that are of a class in truth or answer, of (..., K, K) counts."""
    right = confusion.diagonal(dim1=-2, dim2=-1)
    return confusion.sum(-1) + confusion.sum(-2) - right


def mean_iou(confusion: Tensor) -> Tensor:
    """Return the mean IoU of (..., K, K) counts as (...) float64; nan where no class has a pixel.

    IoU = TP / (TP + FP + FN). A class without a pixel in truth and answer is left out of the mean;
    one that is only answered counts as 0.
    """
    union = union_of(confusion)
    iou = confusion.diagonal(dim1=-2, dim2=-1).double() / union
    return iou.nanmean(-1)


def iou_scores(confusion: Tensor) -> dict[str, Any]:
    """Return ``mIoU``, ``pixel_accuracy`` and ``class_iou`` (K values or holes) of (K, K) counts.

    The counts are pooled over all images: never a mean of images' own figures. A class whose union
    is empty is a hole and left out of the mean; one that is answered but absent counts as 0.

    Source: Everingham et al., "The Pascal visual object classes challenge", 2015 (IoU);
    Cordts et al., "The Cityscapes dataset", 2016 (ignored pixels).
    """
    union, total = union_of(confusion), int(confusion.sum())
    right = confusion.diagonal()
    per_class = [a / b if b else None for a, b in zip(right.tolist(), union.tolist(), strict=True)]
    return {
        "mIoU": mean_of_present(per_class),
        "pixel_accuracy": int(right.sum()) / total if total else None,
        "class_iou": per_class,
    }
