"""What every network of a run is to methods and protocols: features, a classifier, its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from dabench.contract.cost import Counter, GrantedCost
from dabench.contract.types import Frozen
from dabench.errors import AccessError


class Network(nn.Module, ABC):
    """A network that takes [0, 1] images and normalises them itself.

    Attributes:
        mean: (1, 3, 1, 1) of the images that it was trained on; also tells its device.
        std: likewise.
        backbone: the trunk.
        bottleneck: what stands between trunk and classifier.
        classifier: features -> logits over the K classes; ``nn.Identity`` where a segmentation
            model of somebody else does not end in one, so that its logits are its features.
        cost: images that went through; copies share one counter.
        pretrained: whether the backbone started from trained weights.
        precision: what its passes are computed in; None = float32. Features are float32 always.
    """

    mean: Tensor
    std: Tensor
    backbone: nn.Module
    bottleneck: nn.Module
    classifier: Any
    cost: Counter
    pretrained: bool
    precision: torch.dtype | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "cost" and isinstance(self.__dict__.get("cost"), GrantedCost):
            raise AccessError("the cost of a granted network cannot be replaced")
        super().__setattr__(name, value)

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return (B, D), or (B, D, h, w), features of (B, 3, H, W) images in [0, 1]."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K), or (B, K, H, W), logits."""

    @abstractmethod
    def freeze_trunk(self, stages: Frozen) -> None:
        """Freeze the first ``stages`` stages of the backbone, or all of it (weights and mode)."""

    @abstractmethod
    def append_class(self, generator: torch.Generator) -> None:
        """Append an output node to the classifier."""

    @abstractmethod
    def parameter_groups(
        self, lr: float, backbone_factor: float | None = 0.1
    ) -> list[dict[str, Any]]:
        """Return what learns: new layers at ``lr``, the backbone at ``lr * backbone_factor``."""
