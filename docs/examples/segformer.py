"""SegFormer with the names of its authors' files, for ``--source-model segformer.py:build``.

Needs segmentation-models-pytorch, whose MiT encoder has those names already.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Head(nn.Module):
    """SegFormer's decoder: every stage's maps at one width and size, joined, and a class a pixel.

    Args:
        stages: channels of the encoder's four stages, the finest first.
        width: of the decoder: 768 for MiT-B2 to B5, 256 for B0 and B1.
        classes: K.
    """

    def __init__(self, stages: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(width, classes, 1)  # published files hold it; nothing uses it
        for number, channels in enumerate(stages, start=1):
            self.add_module(
                f"linear_c{number}", nn.ModuleDict({"proj": nn.Linear(channels, width)})
            )
        self.linear_fuse = nn.ModuleDict(
            {"conv": nn.Conv2d(4 * width, width, 1, bias=False), "bn": nn.BatchNorm2d(width)}
        )
        self.linear_pred = nn.Conv2d(width, classes, 1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return (B, K, H/4, W/4) logits."""
        size = stages[0].shape[-2:]
        same = []
        for number, maps in enumerate(stages, start=1):
            linear = self.get_submodule(f"linear_c{number}.proj")
            wide = linear(maps.flatten(2).transpose(1, 2)).transpose(1, 2)
            wide = wide.unflatten(2, maps.shape[-2:])
            same.append(F.interpolate(wide, size, mode="bilinear", align_corners=False))
        joined = self.linear_fuse["conv"](torch.cat(same[::-1], 1))
        logits: Tensor = self.linear_pred(self.linear_fuse["bn"](joined).relu())
        return logits


class SegFormer(nn.Module):
    """(B, 3, H, W) -> (B, K, H/4, W/4) logits."""

    def __init__(self, encoder: str = "mit_b5", width: int = 768, classes: int = 19) -> None:
        super().__init__()
        from segmentation_models_pytorch.encoders import get_encoder

        self.backbone = get_encoder(encoder, weights=None)
        self.decode_head = Head(self.backbone.out_channels[-4:], width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits; resizing them is dabench's."""
        logits: Tensor = self.decode_head(self.backbone(images)[-4:])
        return logits


def build() -> nn.Module:
    """Return SegFormer-B5 for the 19 classes of Cityscapes."""
    return SegFormer()
