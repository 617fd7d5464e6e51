"""What the tables of names say of a method, a protocol, a data set (strings alone)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """``target`` is "module:Class"; ``summary`` one line for ``dabench list``."""

    target: str
    summary: str


@dataclass(frozen=True)
class DataEntry(Entry):
    """A data set; ``per_class``: its field ranks by the mean of per-class accuracies.

    ``kind`` is the task that its labels pose: classification or segmentation.
    """

    per_class: bool = False
    kind: str = "classification"


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method with the protocols that it serves; the first one is its default.

    ``baseline``: it learns nothing from the target, and others are held against the best such row.
    ``frozen_trunk``: in place of the source model it is handed the column's linear probe: the same
    pretrained trunk, never trained on the source, under a head that was.
    """

    protocols: tuple[str, ...]
    baseline: bool = False
    frozen_trunk: bool = False


@dataclass(frozen=True)
class ProtocolEntry(Entry):
    """A protocol with the data set used when none is named, and the metric that ranks.

    ``second_metric``: ranks over tasks are made by it too, beside the first one's.
    ``over_images``: the accuracy that ranks is over all images, on every data set.
    """

    default_dataset: str
    primary_metric: str
    second_metric: str | None = None
    over_images: bool = False
