"""What metrics of classification share: a confusion matrix, checks of what they are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dabench.errors import ConfigError


class ConfusionMetric(Metric):
    """A metric over one confusion matrix: rows are the truth, columns the prediction."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 1:
            raise ConfigError(f"a metric needs at least one class, not {size}")
        self._size = size
        self.add_state(
            "confusion", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: (B,) int64 classes.
            truth: (B,) int64 classes.

        Raises:
            ConfigError: the shapes or types differ, or a class is out of range.
        """
        check_classes("predicted", predicted, self._size)
        check_classes("truth", truth, self._size)
        check_lengths(predicted=predicted, truth=truth)
        pairs = (truth * self._size + predicted).to(self.confusion.device)
        counts = torch.bincount(pairs, minlength=self._size**2)
        self.confusion += counts.view(self._size, self._size)

    def _per_class(self) -> list[float | None]:
        """Return right / all of each true class; None for a class without samples."""
        right, total = self.confusion.diagonal().tolist(), self.confusion.sum(dim=1).tolist()
        return [a / b if b else None for a, b in zip(right, total, strict=True)]


def mean_of_present(values: list[float | None]) -> float | None:
    """Return the mean of the values that are there, or None."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def concatenate_state(state: list[Tensor] | Tensor) -> Tensor:
    """Return a list state as one CPU tensor (it is a tensor already after a sync)."""
    if isinstance(state, Tensor):
        return state.cpu()
    return torch.cat([part.cpu() for part in state]) if state else torch.zeros(0, dtype=torch.bool)


def check_classes(name: str, classes: Tensor, size: int) -> None:
    """Check that classes are (B,) integers in 0..size - 1.

    Raises:
        ConfigError: they are not; ``name`` says whose.
    """
    if classes.is_floating_point() or classes.dtype == torch.bool or classes.ndim != 1:
        shown = f"{classes.dtype} of shape {tuple(classes.shape)}"
        raise ConfigError(f"{name} must be (B,) integer classes, not {shown}")
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < size:
        span = f"{int(classes.min())}..{int(classes.max())}"
        raise ConfigError(f"{name} has classes {span}, but 0..{size - 1} are expected")


def check_lengths(**columns: Tensor) -> None:
    """Check that all columns are (B,) with one B.

    Raises:
        ConfigError: they are not; their shapes are named.
    """
    shapes = {name: tuple(column.shape) for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(column.ndim != 1 for column in columns.values()):
        raise ConfigError(f"columns of equal length (B,) expected, not {shapes}")
