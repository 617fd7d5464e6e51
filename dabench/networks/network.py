"""Classification networks: a backbone by name, a bottleneck, a linear classifier.

A network takes [0, 1] images and normalises them itself, so nothing outside knows a mean or a std.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dabench.contract.cost import Cost, Counter
from dabench.contract.network import Network
from dabench.contract.types import Frozen
from dabench.errors import ConfigError
from dabench.networks import backbones
from dabench.networks.precision import passed
from dabench.networks.weight_files import NAMED, load_backbone, weight_file


class ClassifierNetwork(Network):
    """Normalisation, backbone, optional bottleneck and a linear classifier.

    Args:
        backbone: module (B, 3, S, S) -> (B, F).
        num_features: F.
        num_classes: K.
        bottleneck: width of the Linear-BatchNorm bottleneck; 0 leaves it out (plain head).
        weight_norm: weight-normalised classifier (SHOT, object/network.py).
        normalisation: per-channel mean and std of [0, 1] images.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int,
        num_classes: int,
        *,
        bottleneck: int = 256,
        weight_norm: bool = True,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]] = backbones.HALF,
    ) -> None:
        super().__init__()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in normalisation)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.backbone = backbone
        self.bottleneck: nn.Module = nn.Identity()
        width = num_features
        if bottleneck:
            self.bottleneck = nn.Sequential(
                nn.Linear(num_features, bottleneck), nn.BatchNorm1d(bottleneck)
            )
            width = bottleneck
        head = nn.Linear(width, num_classes)
        self.classifier = parametrizations.weight_norm(head) if weight_norm else head
        self.cost: Counter = Cost()
        #: whether the backbone started from trained weights
        self.pretrained = False
        #: name that builds the backbone; None for a model of somebody else
        self.backbone_name: str | None = None
        #: name of the classifier in a model of somebody else that was wrapped
        self.head_name: str | None = None
        self._frozen: list[nn.Module] = []

    def features(self, images: Tensor) -> Tensor:
        """Return (B, D) bottleneck features of (B, 3, S, S) images in [0, 1]."""
        # no len(): an exporter would take it for the one batch size that there is
        self.cost.count(images.shape[0], backward=torch.is_grad_enabled())
        ready = self.normalised(images)
        if self.precision is not None:
            out = passed((self.backbone, self.bottleneck), ready, self.precision)
        else:
            out = self.bottleneck(self.backbone(ready))
        self.cost.follow(out)
        return out

    def normalised(self, images: Tensor) -> Tensor:
        """Return (B, 3, S, S) images in [0, 1] as the backbone is given them."""
        found = (images - self.mean) / self.std
        # pictures lie channels last, and the code of a model of somebody else may use view()
        return found if self.head_name is None else found.contiguous()

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K) logits."""
        out: Tensor = self.classifier(self.features(images))
        self.cost.follow(out)  # the backbone may be frozen
        return out

    def train(self, mode: bool = True) -> ClassifierNetwork:
        """Switch the mode; frozen stages always stay in eval mode."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    def freeze_trunk(self, stages: Frozen) -> None:
        """Freeze the first ``stages`` stages of the backbone (weights and BatchNorm mode).

        ``all`` freezes what stands beside the stages, too (a transformer's embeddings).

        Raises:
            ConfigError: the backbone has fewer stages.
        """
        all_stages = trunk_stages(self.backbone)
        if stages == "all":
            all_stages, stages = [self.backbone], 1
        if not 0 <= stages <= len(all_stages):
            raise ConfigError(
                f"--freeze {stages}: this backbone has {len(all_stages)} stages; choose 0 to that, "
                "or all"
            )
        self._frozen = all_stages[:stages]
        for stage in self._frozen:
            stage.requires_grad_(False)
        self.train(self.training)

    def append_class(self, generator: torch.Generator) -> None:
        """Append an output node: a random direction with the mean norm of the others, bias 0."""
        old = self.classifier
        weight = old.weight.detach()
        fresh = torch.randn(1, weight.shape[1], generator=generator).to(weight)
        fresh *= weight.norm(dim=1).mean() / fresh.norm()
        head = nn.Linear(weight.shape[1], weight.shape[0] + 1).to(weight.device)
        with torch.no_grad():
            head.weight.copy_(torch.cat((weight, fresh)))
            head.bias.zero_()
            if old.bias is not None:  # a model of somebody else may have none
                head.bias[:-1] = old.bias
        weight_norm = parametrizations.weight_norm
        normed = hasattr(old, "parametrizations")
        self.classifier = weight_norm(head) if normed else head

    def parameter_groups(
        self, lr: float, backbone_factor: float | None = 0.1
    ) -> list[dict[str, Any]]:
        """Return SHOT's two groups: new layers at ``lr``, the backbone at ``lr * factor``.

        With None the factor is 0.1 for a pretrained backbone, and 1 for one that starts from
        nothing.
        """
        if backbone_factor is None:
            backbone_factor = 0.1 if self.pretrained else 1.0
        heads = [*self.bottleneck.parameters(), *self.classifier.parameters()]
        groups = [
            {"params": _trainable(self.backbone.parameters()), "lr": lr * backbone_factor},
            {"params": _trainable(heads), "lr": lr},
        ]
        return [group for group in groups if group["params"]]


def joint_groups(
    networks: Iterable[Network], lr: float, backbone_factor: float | None
) -> list[dict[str, Any]]:
    """Return the parameter groups of several networks, for one optimiser over all of them."""
    return [group for net in networks for group in net.parameter_groups(lr, backbone_factor)]


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


#: what torchvision and timm call the container of a trunk's stages
_OF_BLOCKS = frozenset({"blocks", "features", "stages", "layers", "trunk_output"})


def trunk_stages(backbone: nn.Module) -> list[nn.Module]:
    """Return the backbone's stages in order: its children, with containers of blocks opened."""
    stages: list[nn.Module] = []
    for name, child in backbone.named_children():
        opened = name in _OF_BLOCKS and isinstance(child, nn.Sequential | nn.ModuleList)
        stages.extend(child.children() if opened else [child])
    return stages


def build_classifier(
    name: str,
    weights: str,
    num_classes: int,
    *,
    plain: bool = False,
    side: int | None = None,
) -> ClassifierNetwork:
    """Build a network by backbone name.

    Args:
        name: one of ``backbones.OWN``, a torchvision or a timm name.
        weights: ``none``, ``pretrained`` or the path of a state dict.
        num_classes: K.
        plain: a plain linear head (black-box sources) instead of SHOT's bottleneck head.
        side: of the images in pixels; None = the size that the backbone was made for.

    Raises:
        ConfigError: unknown name, images of a size that the backbone does not take, or pretrained
            weights that do not exist.
        CacheError: a weight file that cannot be read or does not fit.
    """
    backbone, features, normalisation = backbones.backbone(name, weights, side)
    if weights not in NAMED:
        load_backbone(backbone, name, weight_file(weights))
    if name not in backbones.SMALL and all(p.ndim < 5 for p in backbone.parameters()):
        # 1.2 to 2.4 times as fast for efficientnet_lite0 on a CPU; inputs follow the layout, which
        # convolutions in three dimensions (lambda networks) do not have
        backbone.to(memory_format=torch.channels_last)
    width = 0 if plain else 256
    network = ClassifierNetwork(
        backbone,
        features,
        num_classes,
        bottleneck=width,
        weight_norm=not plain,
        normalisation=normalisation,
    )
    network.pretrained, network.backbone_name = weights != "none", name
    return network
