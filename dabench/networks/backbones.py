"""Backbones by name: (B, 3, S, S) normalised images -> (B, F) features."""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from dabench.errors import ConfigError, did_you_mean
from dabench.networks import library, probe, published

IMAGENET, HALF = published.IMAGENET, published.HALF
#: (x - 127) / 128 on 0..255 pixels, the input of the EfficientNet-Lite family
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)


class SmallConvNet(nn.Module):
    """Three conv blocks (conv-BN-ReLU-pool) and average pooling to a 2 x 2 grid.

    The default for embedded 32 x 32 data: (B, 3, S, S) -> (B, 256) for S >= 16.
    """

    num_features = 256

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width)
        self.blocks = nn.Sequential(*(self._block(a, b) for a, b in itertools.pairwise(channels)))
        self.pool = nn.AdaptiveAvgPool2d(2)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 256) features."""
        out: Tensor = self.pool(self.blocks(images)).flatten(1)
        return out


class _Block(nn.Module):
    """Pre-norm attention and MLP over (B, T, D) tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, D)."""
        x = self.norm1(tokens)
        tokens = tokens + self.attention(x, x, x, need_weights=False)[0]
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class SmallTransformer(nn.Module):
    """Convolutional stem to an eighth of the side, then four pre-norm transformer blocks.

    (B, 3, S, S) -> (B, 128), for S >= 16. The stem ("early convolutions", Xiao et al. 2021) makes
    it trainable from scratch on a few thousand images; positions come from a depth-wise
    convolution (Chu et al. 2021), so that any size works. It has LayerNorm and no BatchNorm.
    """

    num_features = 128

    def __init__(self, width: int = 128, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        channels = (3, width // 4, width // 2, width)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(channels):
            conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.GroupNorm(1, outputs), nn.GELU()]
        self.stem = nn.Sequential(*layers)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 128) features: the mean of the tokens."""
        maps = self.stem(images)
        tokens = (maps + self.position(maps)).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(self.blocks(tokens)).mean(1)
        return out


#: names of the networks for segmentation; ``networks.dense`` builds them
SEGMENTER_NAMES = (
    "small-seg",
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
)
SMALL: dict[str, type[SmallConvNet] | type[SmallTransformer]] = {
    "small-cnn": SmallConvNet,
    "small-vit": SmallTransformer,
}
#: names of networks that are built here
OWN = (*SMALL, "efficientnet_lite0", *published.CIFAR_MODELS)


def backbone(name: str, weights: str, side: int | None = None) -> tuple[nn.Module, int, Any]:
    """Return a backbone, the number of its features, and its normalisation (mean, std).

    A pass of zeros shows the number of features, and that the backbone takes such images.

    Args:
        name: see :func:`dabench.networks.network.build_classifier`.
        weights: ``none``, ``pretrained`` or the path of a state dict, which is loaded elsewhere.
        side: of the images in pixels; None = the size that the backbone was made for.

    Raises:
        ConfigError: unknown name, images of a size that it does not take, no feature vectors, or
            pretrained weights that do not exist.
    """
    net, normalisation = _headless(name, weights)
    return net, probe.feature_width(net, name, side), normalisation


def _headless(name: str, weights: str) -> tuple[nn.Module, Any]:
    pretrained = weights == "pretrained"
    if name in SEGMENTER_NAMES:
        raise ConfigError(
            f"--backbone {name} is a segmentation network and this task is classification; choose "
            f"one of {', '.join(OWN)}, or a torchvision or timm model name"
        )
    if name in SMALL:
        if pretrained:
            raise ConfigError(f"{name} has no pretrained weights: use --weights none")
        return SMALL[name](), HALF
    if name in published.CIFAR_MODELS:
        if pretrained:
            raise ConfigError(
                f"{name} has no weights that are fetched by name: use --weights none, or the path "
                "of a file"
            )
        return published.cifar_trunk(name), published.CIFAR_MODELS[name].normalisation
    if name == "efficientnet_lite0":
        from dabench.networks.offline_weights import efficientnet_lite0

        return efficientnet_lite0(pretrained), LITE
    if library.torchvision_model(name) is not None:
        net = library.from_torchvision(name, weights)
        return net, library.torchvision_normalisation(name)
    if library.is_timm_model(name):
        return library.from_timm(name, pretrained)
    raise unknown_backbone(name)


def unknown_backbone(name: str) -> ConfigError:
    """Return the error for a name that no network has."""
    hint = near_network(name) or "; use a torchvision or timm model name"
    return ConfigError(f"unknown backbone '{name}'{hint}")


def near_network(name: str) -> str:
    """Return a question after a network of nearly this name, or nothing."""
    import timm
    import torchvision.models

    known = [*OWN, *timm.list_models()]
    known += torchvision.models.list_models(module=torchvision.models)
    hint = did_you_mean(name, known)
    return hint if "did you mean" in hint else ""


def is_classification_backbone(name: str) -> bool:
    """Say whether ``name`` is a backbone for classification."""
    own = name in OWN or library.torchvision_model(name) is not None
    return own or library.is_timm_model(name)
