"""Segmentation networks by name: features, a 1 x 1 classifier, logits at the images' own size."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.errors import ConfigError, did_you_mean
from dabench.networks import backbones, dense_backbones
from dabench.networks.backbones import SEGMENTER_NAMES
from dabench.networks.dense_backbones import SegmenterParts
from dabench.networks.network import ClassifierNetwork
from dabench.networks.weight_files import NAMED, State, load_fitting, weight_file


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, K, h, w) maps at ``size``, bilinear (corners not aligned)."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


class DenseNetwork(ClassifierNetwork):
    """A network with a class for every pixel.

    ``features`` returns (B, D, h, w) maps, ``classifier`` is a 1 x 1 convolution to (B, K, h, w),
    and ``forward`` brings its logits to the images' size.

    Args:
        parts: backbone, context and decoder (``bottleneck``), width and normalisation.
        num_classes: K.
        name: of the network, for error messages.
    """

    def __init__(self, parts: SegmenterParts, num_classes: int, name: str = "network") -> None:
        super().__init__(
            parts.backbone,
            parts.num_features,
            num_classes,
            bottleneck=0,
            weight_norm=False,
            normalisation=parts.normalisation,
        )
        self.bottleneck = parts.neck
        self.classifier = nn.Conv2d(parts.num_features, num_classes, 1)
        self.name, self.stride = name, parts.stride

    def features(self, images: Tensor) -> Tensor:
        """Return (B, D, h, w) feature maps of (B, 3, H, W) images in [0, 1].

        Raises:
            ConfigError: images smaller than the network's stride.
        """
        check_size(self.name, self.stride, (images.shape[-2], images.shape[-1]))
        return super().features(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K, H, W) logits."""
        return upsample(super().forward(images), (images.shape[-2], images.shape[-1]))

    def append_class(self, generator: torch.Generator) -> None:
        """Refuse: open-set methods are for classification."""
        raise ConfigError(f"{self.name}: a segmentation network takes no further class")


def check_size(name: str, stride: int, shape: tuple[int, int]) -> None:
    """Raise ``ConfigError`` where images (height, width) are smaller than a network's stride."""
    if min(shape) < stride:
        raise ConfigError(
            f"images of {shape[1]} x {shape[0]} px (width x height) are smaller than the stride of "
            f"{name}, {stride} px: give a larger --image-size, or choose another --backbone"
        )


def build_segmenter(name: str, weights: str, num_classes: int) -> DenseNetwork:
    """Build a segmentation network by name.

    Args:
        name: ``small-seg`` or one of torchvision's (``backbones.SEGMENTER_NAMES``).
        weights: ``none``; ``pretrained``: torchvision's whole network, with a fresh classifier; or
            the path of a state dict: torchvision's or our own names, the whole network or the
            backbone alone. Its classifier is kept where it has K classes.
        num_classes: K.

    Raises:
        ConfigError: unknown name, a classification backbone, or weights that do not exist.
        CacheError: a weight file that cannot be read or does not fit.
    """
    check_segmenter(name)
    parts = dense_backbones.build_parts(name, weights == "pretrained")
    network = DenseNetwork(parts, num_classes, name)
    if weights not in NAMED:
        load_weights(network, weight_file(weights))
    # a third less time on a CPU, for the small one too; inputs follow the layout
    network.to(memory_format=torch.channels_last)
    network.pretrained = weights != "none"
    return network


def check_segmenter(name: str) -> None:
    """Refuse a name that no segmentation network has.

    Raises:
        ConfigError: names those that there are.
    """
    if name in SEGMENTER_NAMES:
        return
    if backbones.is_classification_backbone(name):
        raise ConfigError(
            f"--backbone {name} is a classification backbone and this task is segmentation; "
            f"choose one of {', '.join(SEGMENTER_NAMES)}"
        )
    near = did_you_mean(name, SEGMENTER_NAMES)
    raise ConfigError(f"unknown segmentation network '{name}'{near}")


def load_weights(network: DenseNetwork, path: Path) -> None:
    """Load a state dict into a network; see :func:`build_segmenter`.

    Raises:
        CacheError: it cannot be read, or does not fit.
    """

    def spare(key: str, state: State) -> bool:
        """Say whether a file may lack a tensor: the classifier's, or all but the backbone's."""
        alone = not any(k.startswith("bottleneck.") for k in state)
        return key.startswith("classifier.") or (alone and not key.startswith("backbone."))

    rename = partial(dense_backbones.rename_weights, network.name)
    load_fitting(network, network.name, path, rename, spare)
