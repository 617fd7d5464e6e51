"""``small-seg``: an encoder-decoder for segmentation that a CPU can train."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Conv(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around which the input is added; the second one is dilated."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = _Conv(width, width)
        self.second = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        return F.relu(x + self.norm(self.second(self.first(x))), inplace=True)


class SmallEncoder(nn.Module):
    """Three strided stages; the third one sees far by dilation.

    (B, 3, H, W) -> (B, 40, H/4, W/4) and (B, 72, H/8, W/8).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, 24, stride=2)
        self.middle = nn.Sequential(_Conv(24, 40, stride=2), _Residual(40))
        self.deep = nn.Sequential(
            _Conv(40, 72, stride=2), _Residual(72), _Residual(72, 2), _Residual(72, 4)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at a quarter and at an eighth of the size."""
        skip: Tensor = self.middle(self.stem(images))
        return skip, self.deep(skip)


class SmallDecoder(nn.Module):
    """Adds what the whole image shows to the deep maps, and joins them with the fine ones.

    -> (B, 64, H/4, W/4). The branch of the whole image has no BatchNorm: in a batch of one it
    would see one value per channel.
    """

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Conv2d(72, 72, 1)
        self.reduce = _Conv(72, 56, size=1)
        self.join = _Conv(56 + 40, self.num_features)

    def forward(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        """Return feature maps at a quarter of the size."""
        skip, deep = maps
        deep = self.reduce(deep + self.whole(deep.mean((2, 3), keepdim=True)))
        size = (skip.shape[-2], skip.shape[-1])
        deep = F.interpolate(deep, size, mode="bilinear", align_corners=False)
        out: Tensor = self.join(torch.cat((deep, skip), 1))
        return out
