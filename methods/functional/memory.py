"""Rows that follow what is new, and keep a share of what was there."""

from __future__ import annotations

from torch import Tensor


def blend(old: Tensor, new: Tensor, kept: float | Tensor) -> Tensor:
    """Return kept * old + (1 - kept) * new: one step of an exponential moving average.

    Args:
        old: any shape.
        new: of the same shape.
        kept: share of the old in [0, 1]; a tensor broadcasts against both.
    """
    return kept * old + (1 - kept) * new
