"""DeepLabV3+ of torchvision's parts, for ``--source-model deeplabv3plus.py:build``.

Names are those of the files of VainF/DeepLabV3Plus-Pytorch.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50, resnet101
from torchvision.models.segmentation.deeplabv3 import ASPP


class Backbone(nn.Sequential):
    """A ResNet without pooling and classifier: the maps of its first and of its last stage."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__(OrderedDict([*resnet.named_children()][:-2]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 256, H/4, W/4) and (B, 2048, H/16, W/16)."""
        fine = x = images
        for name, stage in self.named_children():
            x = stage(x)
            fine = x if name == "layer1" else fine
        return fine, x


class Head(nn.Module):
    """Context of the deep maps, joined with the fine ones (Chen et al., 2018)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Conv2d(256, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU()
        )
        self.aspp = ASPP(2048, (6, 12, 18))
        self.classifier = nn.Sequential(
            nn.Conv2d(256 + 48, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, classes, 1),
        )

    def forward(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        """Return (B, K, H/4, W/4) logits; resizing them is dabench's."""
        fine, deep = maps
        deep = F.interpolate(self.aspp(deep), fine.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classifier(torch.cat((self.project(fine), deep), 1))
        return logits


def _network(resnet: nn.Module, classes: int = 19) -> nn.Module:
    return nn.Sequential(OrderedDict(backbone=Backbone(resnet), classifier=Head(classes)))


def build() -> nn.Module:
    """Return the network on a ResNet-101, for the 19 classes of Cityscapes."""
    return _network(resnet101(replace_stride_with_dilation=[False, False, True]))


def build_50() -> nn.Module:
    """Return the same on a ResNet-50."""
    return _network(resnet50(replace_stride_with_dilation=[False, False, True]))
