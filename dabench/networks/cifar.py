"""The field's networks for 32 x 32 images, under the tensor names of those who published them.

(B, 3, S, S) -> (B, K) logits for S >= 16; all but the last layer is the trunk. Each is a sequence,
so that its stages can be counted (``--freeze``) and its last layer be taken off.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
Block = Callable[[int, int, int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Return GroupNorm of eight groups, which MEMO's ResNet-26 has in place of BatchNorm."""
    return nn.GroupNorm(8, channels)


def _conv(inputs: int, outputs: int, side: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)


class PaddedBlock(nn.Module):
    """Two convolutions, and a shortcut without weights: zeros for new channels (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, S / stride, S / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + short)


class PreActivationBlock(nn.Module):
    """Norm and ReLU before each of two convolutions (He et al. 2016); subclasses add a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.bn1, self.conv1 = norm(inputs), _conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = norm(outputs), _conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, S / stride, S / stride)."""
        active = F.relu(self.bn1(x))
        y: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + self.short(x, active)

    def short(self, x: Tensor, active: Tensor) -> Tensor:
        """Return what is added, of the input before and after norm and ReLU."""
        raise NotImplementedError


class WideBlock(PreActivationBlock):
    """Of Wide ResNets: a 1 x 1 convolution of the activated input where the width changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.convShortcut = _conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def short(self, x: Tensor, active: Tensor) -> Tensor:
        """See the base class."""
        return x if self.convShortcut is None else self.convShortcut(active)


class ProjectedBlock(PreActivationBlock):
    """Of PreActResNet-18: as ``WideBlock``, under another name."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride)) if changes else None

    def short(self, x: Tensor, active: Tensor) -> Tensor:
        """See the base class."""
        return x if self.shortcut is None else self.shortcut(active)


class PooledBlock(PreActivationBlock):
    """Of ResNet-26 with GroupNorm: the input's averages, and zeros for new channels after them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride, group_norm)
        self.stride, self.pad = stride, outputs - inputs

    def short(self, x: Tensor, active: Tensor) -> Tensor:
        """See the base class."""
        if self.stride > 1:  # as large as what a convolution makes of an odd side
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.pad))


class AggregatedBlock(nn.Module):
    """Of ResNeXt: 1 x 1, 3 x 3 in four groups, 1 x 1; the output is four times ``planes`` wide."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // 2  # planes x 32 / 64 x 4 groups, of planes = outputs / 4
        self.conv_reduce, self.bn_reduce = _conv(inputs, inner, 1), nn.BatchNorm2d(inner)
        self.conv_conv, self.bn = _conv(inner, inner, 3, stride, 4), nn.BatchNorm2d(inner)
        self.conv_expand, self.bn_expand = _conv(inner, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, S / stride, S / stride)."""
        y = F.relu(self.bn_reduce(self.conv_reduce(x)))
        y = F.relu(self.bn(self.conv_conv(y)))
        y = self.bn_expand(self.conv_expand(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet(depth: int, classes: int) -> nn.Sequential:
    """Return He et al.'s ResNet of 6n + 2 layers for CIFAR, named as Idelbayev (2018) does."""
    layers = _stages("layer", PaddedBlock, (16, 16, 32, 64), (depth - 2) // 6)
    stem = (("conv1", _conv(3, 16)), ("bn1", nn.BatchNorm2d(16)), ("relu", nn.ReLU()))
    return _network(*stem, *layers, *_head("linear", 64, classes))


def wide_resnet(depth: int, factor: int, classes: int) -> nn.Sequential:
    """Return Zagoruyko & Komodakis' Wide ResNet, named as RobustBench and AugMix do."""
    widths = (16, 16 * factor, 32 * factor, 64 * factor)
    blocks = [
        (name, nn.Sequential(OrderedDict(layer=stage)))
        for name, stage in _stages("block", WideBlock, widths, (depth - 4) // 6)
    ]
    norm = ("bn1", nn.BatchNorm2d(widths[-1])), ("relu", nn.ReLU())
    return _network(("conv1", _conv(3, 16)), *blocks, *norm, *_head("fc", widths[-1], classes))


def resnext(classes: int) -> nn.Sequential:
    """Return AugMix's ResNeXt-29 (32 x 4d: four groups, base width 32), named as it does."""
    stages = _stages("stage_", AggregatedBlock, (64, 256, 512, 1024), 3)
    stem = (("conv_1_3x3", _conv(3, 64)), ("bn_1", nn.BatchNorm2d(64)), ("relu", nn.ReLU()))
    return _network(*stem, *stages, *_head("classifier", 1024, classes))


def resnet_group_norm(classes: int) -> nn.Sequential:
    """Return the pre-activation ResNet-26 with GroupNorm of TTT and MEMO, named as they do."""
    layers = _stages("layer", PooledBlock, (16, 16, 32, 64), 4)
    norm = ("bn", group_norm(64)), ("relu", nn.ReLU())
    return _network(("conv1", _conv(3, 16)), *layers, *norm, *_head("fc", 64, classes))


def preact_resnet18(classes: int) -> nn.Sequential:
    """Return PreActResNet-18 with a last norm, as RobustBench's Kireev2021 and Rice2020 (L2)."""
    layers = _stages("layer", ProjectedBlock, (64, 64, 128, 256, 512), 2)
    norm = ("bn", nn.BatchNorm2d(512)), ("relu", nn.ReLU())
    return _network(("conv1", _conv(3, 64)), *layers, *norm, *_head("linear", 512, classes))


def _stages(
    name: str, block: Block, widths: tuple[int, ...], count: int
) -> list[tuple[str, nn.Module]]:
    """Return stages of ``count`` blocks; all but the first halve the side."""
    found: list[tuple[str, nn.Module]] = []
    for i, outputs in enumerate(widths[1:]):
        first = block(widths[i], outputs, 1 if i == 0 else 2)
        others = (block(outputs, outputs, 1) for _ in range(count - 1))
        found.append((f"{name}{i + 1}", nn.Sequential(first, *others)))
    return found


def _head(name: str, width: int, classes: int) -> list[tuple[str, nn.Module]]:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    return [("pool", pool), (name, nn.Linear(width, classes))]


def _network(*parts: tuple[str, nn.Module]) -> nn.Sequential:
    """Return the parts in their order, convolutions started by He's rule for what goes out."""
    network = nn.Sequential(OrderedDict(parts))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return network
