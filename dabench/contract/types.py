"""Plain values that cross the borders between rooms (no torch at run time)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

#: an array of float64
FloatArray = npt.NDArray[np.float64]
#: an array of int64: labels, positions
IntArray = npt.NDArray[np.int64]
#: the start: the source model as it is, or with BatchNorm statistics of the target
Init = Literal["source", "bn-target"]
#: what a label is of: an image, or every pixel
Kind = Literal["classification", "segmentation"]
#: so many of a trunk's lower stages, or the whole of it
Frozen = int | Literal["all"]
#: value of a dense label that no score and no loss counts
IGNORE = 255


@dataclass(frozen=True)
class Task:
    """What a method may know of its task.

    Attributes:
        kind: classification (one class an image) or segmentation (one class a pixel).
        classes: names of the K source classes.
        image_size: height in pixels.
        open_set: whether the target may hold classes that the source never saw.
        partial: whether the target may lack classes that the source knows.
        flip: whether a mirrored image keeps its class (views use it; not so for digits).
        width: in pixels; None = square images.
        model_classes: names of the outputs, in their order, that a source model of somebody else
            may have in place of one for each class; empty = none other.
    """

    kind: Kind
    classes: tuple[str, ...]
    image_size: int
    open_set: bool = False
    flip: bool = True
    width: int | None = None
    model_classes: tuple[str, ...] = ()
    partial: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.image_size, self.width or self.image_size

    @property
    def num_classes(self) -> int:
        """K, the number of source ("known") classes."""
        return len(self.classes)


@dataclass(frozen=True)
class Prediction:
    """A method's answer to a batch.

    Attributes:
        logits: (B, K) or (B, K, H, W), always over the K known classes.
        unknown_score: (B,), larger = more likely none of the known classes; None in closed sets.
        is_unknown: (B,) bool, the method's own decision; None in closed sets.
    """

    logits: Tensor
    unknown_score: Tensor | None = None
    is_unknown: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """One number in long form, at full precision: a fraction, or nats for label-free scores.

    Attributes:
        metric: name as in ``docs/comparability.md`` (``HOS``, ``OS*``, ``accuracy`` ...).
        value: the number, or None for a hole (the metric is not defined on these data).
        n: number of samples behind the value.
        segment: which part was scored; ``all`` = the adapt set (transductive).
        at: epoch or step after which it was measured.
    """

    metric: str
    value: float | None
    n: int
    segment: str = "all"
    at: int = 0

    @property
    def key(self) -> str:
        """``metric`` or ``metric/segment``: the name that tables and ``--json`` use."""
        return self.metric if self.segment == "all" else f"{self.metric}/{self.segment}"


@dataclass(frozen=True)
class Separation:
    """A 1-D statistic with the two-component mixture fitted to it, for plots and analysis.

    Attributes:
        values: (N,) statistic by position, in the scale the mixture was fitted in (clipped to its
            1-99 % quantiles); larger = less known.
        known: (N,) bool, the split at the cut.
        weights: (2,) mixture weights, lower mean first.
        means: (2,) means.
        variances: (2,) variances.
        labels: (N,) pseudo-labels by position, where ``known`` means "this label is right".
    """

    values: FloatArray
    known: npt.NDArray[np.bool_]
    weights: FloatArray
    means: FloatArray
    variances: FloatArray
    labels: IntArray | None = None
