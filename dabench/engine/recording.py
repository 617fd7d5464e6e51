"""The recorder that methods are handed in real runs: it writes TensorBoard files."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from dabench.contract.access import Recorder
from dabench.contract.protocol import DensePlan, Outcome, Plan, StreamPlan
from dabench.contract.types import Separation
from dabench.errors import one_line, reason_of
from dabench.metrics.scoring import class_segments

if TYPE_CHECKING:
    from matplotlib.figure import Figure


log = logging.getLogger("dabench")
#: of more classes a figure's axes show numbers: names would lie over each other, and take seconds
_MOST_NAMES = 100


@contextlib.contextmanager
def _no_picture(name: str) -> Iterator[None]:
    """Say that something cannot be drawn: the run has its record all the same."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - numbers of a method's own make matplotlib stumble
        log.warning("TensorBoard: no picture of %s (%s)", name, reason_of(error))


class BoardRecorder(Recorder):
    """Scalars, separations with their mixture, histograms of classes, curves, and images."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first = 0
        self._separations: list[tuple[str, int, Separation]] = []

    def __enter__(self) -> BoardRecorder:
        return self

    @cached_property
    def _writer(self) -> Any:
        """Open the file; what earlier files of this run hold from the first step on is void."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=self._first, flush_secs=30)

    def start(self, step: int) -> None:
        """Keep of earlier files only what lies before ``step``; called before anything is put."""
        self._first = step

    def __exit__(self, *details: object) -> None:
        # figures are drawn now, so that no method pays for them in its adaptation time
        for name, step, value in self._separations:
            with _no_picture(name):
                self._writer.add_histogram(name, value.values, step)
                self._draw(f"{name}/mixture", separation_figure(value), step)
        self._writer.close()

    def _draw(self, name: str, figure: Figure, step: int) -> None:
        with warnings.catch_warnings():  # a class name in signs that the font lacks shows boxes
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            self._writer.add_figure(name, figure, step)

    def put(self, name: str, step: int, value: float | Separation | Tensor) -> None:
        """Write a value; keep a separation, drawn with its mixture's densities at the end."""
        if isinstance(value, Separation):
            self._separations.append((name, step, value))
        elif isinstance(value, Tensor) and value.ndim == 4:
            self._writer.add_images(name, value, step, dataformats="NHWC")
        elif isinstance(value, Tensor) and value.ndim == 1:
            self._writer.add_histogram_raw(name, **class_histogram(value), global_step=step)
        else:
            self._writer.add_scalar(name, value, step)

    def finish(self, outcome: Outcome, plan: Plan | StreamPlan | DensePlan) -> None:
        """Write the curves, confusion matrices, and images called unknown, where they can be."""
        with _no_picture("the last answers"):
            self._finish(outcome, plan)

    def _finish(self, outcome: Outcome, plan: Plan | StreamPlan | DensePlan) -> None:
        for score in outcome.curves:
            if score.value is not None:
                self._writer.add_scalar(f"metric/{score.key}", score.value, score.at)
        if isinstance(plan, DensePlan):
            for timing in ("before", "after"):
                counts = outcome.arrays[f"segment.{timing}"].sum(0)
                figure = confusion_figure(counts, plan.task.classes)
                self._draw(f"confusion/{timing}", figure, 0)
            return
        if isinstance(plan, StreamPlan):
            found = outcome.arrays["stream.prediction"]
            matrix = confusion(outcome.arrays["stream.truth"], found, plan.task.num_classes)
            self._draw("confusion", confusion_figure(matrix, plan.task.classes), 0)
            return
        decided = outcome.arrays["adapt.prediction"]
        unknown = np.flatnonzero(decided == plan.task.num_classes)[:64]
        if plan.task.open_set and len(unknown):
            images = plan.parts["adapt"].__getitems__(unknown.tolist()).images
            self._writer.add_images("called_unknown", images, 0)
        matrix = confusion(plan.truth["adapt"], decided, plan.task.num_classes + 1)
        names = (*class_segments(plan.task.classes), "unknown")
        self._draw("confusion", confusion_figure(matrix, names), 0)


def class_histogram(counts: Tensor) -> dict[str, Any]:
    """Describe (K,) counts as a histogram whose bucket k, from k - 1/2 to k + 1/2, is class k."""
    held = counts.detach().cpu().double().numpy()
    number = np.arange(len(held))
    return {
        "min": -0.5,
        "max": len(held) - 0.5,
        "num": int(held.sum()),
        "sum": float((number * held).sum()),
        "sum_squares": float((number**2 * held).sum()),
        "bucket_limits": (number + 0.5).tolist(),
        "bucket_counts": held.tolist(),
    }


def confusion(truth: np.ndarray, predicted: np.ndarray, size: int) -> np.ndarray:
    """Return (size, size) counts, rows = truth."""
    flat = np.bincount(truth.astype(np.int64) * size + predicted, minlength=size**2)
    return flat.reshape(size, size)


def separation_figure(found: Separation) -> Figure:
    """Draw the statistic's histogram with the two weighted Gaussian densities."""
    from matplotlib.figure import Figure

    # one every epoch: a layout of fixed size and one outline take half the time
    figure = Figure(figsize=(5, 3))
    axes = figure.add_axes((0.13, 0.16, 0.84, 0.8))
    axes.stairs(*np.histogram(found.values, bins=50, density=True), fill=True, color="0.8")
    x = np.linspace(float(found.values.min()), float(found.values.max()), 200)
    for w, m, v, name in zip(
        found.weights, found.means, found.variances, ("known", "unknown"), strict=True
    ):
        axes.plot(x, w * np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v), label=name)
    axes.set(xlabel="separation statistic (scaled)", ylabel="density")
    axes.legend(loc="upper center")
    return figure


def confusion_figure(matrix: np.ndarray, names: tuple[str, ...]) -> Figure:
    """Draw a confusion matrix, rows normalised."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), cmap="Blues", vmax=1)
    if len(names) <= _MOST_NAMES:
        labels = [one_line(name, 30) for name in names]  # longer ones leave no room for the matrix
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(names)), labels, fontsize=7, parse_math=False)
    axes.set(xlabel="predicted", ylabel="truth")
    figure.colorbar(image)
    return figure
