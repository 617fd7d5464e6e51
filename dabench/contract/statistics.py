"""What a protocol may tell a method of the source's features: numbers, and never a picture."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class SourceStatistics:
    """Statistics of the source model's features on clear images of the source.

    All are float32. Variances are those of the images themselves (divided by N, not N - 1).

    Attributes:
        mean: (D,) of all images.
        var: (D,).
        class_mean: (K, D) by the images' labels; zeros for a class without an image.
        class_var: (K, D), likewise.
        count: (K,) images of a class.
        cls_mean: (L, D') of the class token after each of a transformer's L blocks; None where the
            network has none.
        cls_std: (L, D'), likewise.
    """

    mean: Tensor
    var: Tensor
    class_mean: Tensor
    class_var: Tensor
    count: Tensor
    cls_mean: Tensor | None = None
    cls_std: Tensor | None = None

    def to(self, device: torch.device | str) -> SourceStatistics:
        """Return a copy on a device: what its owner does to it reaches nobody else."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            found[field.name] = value if value is None else value.to(device, copy=True)
        return SourceStatistics(**found)
