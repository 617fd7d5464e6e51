"""Backbones, contexts and decoders of segmentation networks, and how weight files name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.errors import ConfigError
from dabench.networks import backbones, library
from dabench.networks.dense_small import SmallDecoder, SmallEncoder

DENSE_SMALL = frozenset({"small-seg"})
#: least side of an image in pixels: the stride of the deepest maps, before dilation replaced it
_STRIDES = {"small-seg": 8, "lraspp_mobilenet_v3_large": 16, "deeplabv3_mobilenet_v3_large": 16}


@dataclass(frozen=True)
class SegmenterParts:
    """What a dense network is put together from.

    Attributes:
        backbone: normalised images -> maps, in a form that ``neck`` understands.
        neck: context and decoder -> (B, D, h, w).
        num_features: D.
        stride: least side of an image in pixels.
        normalisation: mean and std of [0, 1] images.
    """

    backbone: nn.Module
    neck: nn.Module
    num_features: int
    stride: int
    normalisation: Any


def build_parts(name: str, pretrained: bool) -> SegmenterParts:
    """Return the parts of one of ``backbones.SEGMENTER_NAMES``.

    Raises:
        ConfigError: pretrained weights that do not exist or cannot be fetched.
    """
    stride = _STRIDES.get(name, 8)
    if name in DENSE_SMALL:
        if pretrained:
            raise ConfigError(f"{name} has no pretrained weights: use --weights none")
        return SegmenterParts(
            SmallEncoder(), SmallDecoder(), SmallDecoder.num_features, stride, backbones.HALF
        )
    import torchvision.models

    def build() -> Any:
        weights = "DEFAULT" if pretrained else None
        # 'weights_backbone' has a default that downloads
        return torchvision.models.get_model(name, weights=weights, weights_backbone=None)

    whole = library.make(build, name, pretrained, "--weights none or --weights PATH")
    neck: nn.Module
    if name.startswith("lraspp"):
        neck = _LiteNeck(whole.classifier)
        return SegmenterParts(whole.backbone, neck, neck.num_features, stride, backbones.IMAGENET)
    neck = _DeepNeck(whole.classifier)
    return SegmenterParts(whole.backbone, neck, neck.num_features, stride, backbones.IMAGENET)


class _PooledNorm(nn.BatchNorm2d):
    """BatchNorm after a global pooling: one image alone is normalised by running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, h, w); no variance can be estimated from one value per channel."""
        if x.numel() == x.shape[1] and self.running_mean is not None:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        out: Tensor = super().forward(x)
        return out


class _DeepNeck(nn.Sequential):
    """Head of DeepLabV3 (Chen et al., 2017) or FCN, without the last convolution."""

    def __init__(self, head: nn.Sequential) -> None:
        layers: list[Any] = list(head.children())
        super().__init__(*layers[:-1])
        self.num_features = int(layers[-1].in_channels)
        for parent in list(self.modules()):
            # the branch that pools the whole image
            if isinstance(parent, nn.Sequential) and isinstance(parent[0], nn.AdaptiveAvgPool2d):
                old: Any = parent[2]
                parent[2] = _PooledNorm(old.num_features, old.eps, old.momentum)
                parent[2].load_state_dict(old.state_dict())

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """Return (B, 256, h, w)."""
        out = maps["out"]
        for layer in self:
            out = layer(out)
        return out


class _LiteNeck(nn.Module):
    """Head of LR-ASPP (Howard et al., 2019) up to its classifiers.

    Its two classifiers, of fine and of deep maps, are summed: that is one classifier over both
    maps side by side.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        found: Any = head
        self.cbr, self.scale = found.cbr, found.scale
        low, high = found.low_classifier.in_channels, found.high_classifier.in_channels
        self.num_features = int(low + high)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """Return (B, 168, h, w): 40 fine maps and 128 deep ones."""
        low, high = maps["low"], maps["high"]
        deep = self.cbr(high) * self.scale(high)
        size = (low.shape[-2], low.shape[-1])
        deep = F.interpolate(deep, size, mode="bilinear", align_corners=False)
        return torch.cat((low, deep), 1)


def rename_weights(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict under our names: from torchvision's, from a backbone's, or from ours."""
    if not any(key.startswith("backbone.") for key in state):
        # a backbone alone; MobileNet's stages lie under 'features', where a network has none
        return {f"backbone.{key.removeprefix('features.')}": v for key, v in state.items()}
    if name.startswith("lraspp"):
        return _lite_names(state)
    if name in DENSE_SMALL:
        return state
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        # 'classifier.4' of a DeepLabHead is the last convolution; ours has no number
        last = re.sub(r"^classifier\.4\.", "classifier.", key)
        named[re.sub(r"^classifier\.(?=\d)", "bottleneck.", last)] = value
    return named


def _lite_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {
        re.sub(r"^classifier\.(cbr|scale)\.", r"bottleneck.\1.", k): v for k, v in state.items()
    }
    low, high = (f"classifier.{which}_classifier" for which in ("low", "high"))
    if f"{low}.weight" in named and f"{high}.weight" in named:
        named["classifier.weight"] = torch.cat((named[f"{low}.weight"], named[f"{high}.weight"]), 1)
        named["classifier.bias"] = named[f"{low}.bias"] + named[f"{high}.bias"]
    return named
