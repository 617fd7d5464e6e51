"""What TransAdapt trains on source images before the stream, and how a stream takes it over."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import (
    IGNORE,
    AccessError,
    ConfigError,
    Network,
    Online,
    OnlineMethod,
    Task,
    frozen_copy,
    upsample,
)
from dabench.methods.functional.bounds import Positive
from dabench.methods.functional.losses import entropy, max_squares
from dabench.methods.functional.transfer import (
    SourceParts,
    TransferModule,
    fit_head,
    fit_transfer,
    transfer_logits,
)

PARTS = "source-parts"
Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class TransferSource(OnlineMethod):
    """A head trained by an unsupervised loss, and a module that turns its logits into labels.

    Args:
        module: whether the answer passes the transfer module; without it, the head answers.
        unsup_output: head (a classifier trained without labels) or same (the source's classifier).
        unsup_loss: entropy or max-squares, on the source as on the stream.
        head_steps: source batches that the unsupervised head is trained on.
        head_lr: its learning rate.
        module_steps: source batches that the module is trained on.
        module_lr: its learning rate (AdamW), at the start.
        width: of the module's queries.
        heads: of its attention; they divide the width.
        layers: of attention and feed-forward network.
    """

    extras: ClassVar[frozenset[str]] = frozenset({PARTS})
    source_options: ClassVar[frozenset[str]] = frozenset(
        {
            *("unsup_output", "unsup_loss", "head_steps", "head_lr"),
            *("module_steps", "module_lr", "width", "heads", "layers"),
        }
    )
    net: Network

    module: bool = True
    unsup_output: Literal["head", "same"] = "head"
    unsup_loss: Literal["entropy", "max-squares"] = "entropy"
    head_steps: Natural = 100
    head_lr: Positive = 1e-3
    module_steps: Natural = 300
    module_lr: Positive = 1e-3
    width: Count = 64
    heads: Count = 4
    layers: Count = 1

    def check_options(self) -> None:
        """Refuse heads that do not divide the width, and say what follows from the options."""
        if self.width % self.heads:
            near = self.heads * max(1, round(self.width / self.heads))
            raise ConfigError(
                f"--method.width {self.width} is not a multiple of --method.heads {self.heads}; "
                f"choose a width of {near}, say"
            )
        self.objective = entropy if self.unsup_loss == "entropy" else max_squares
        if not self.module and self.unsup_output == "same":  # nothing comes from source training
            self.extras = frozenset()  # type: ignore[misc]

    def source_parts(self, network: Any, task: Task) -> nn.Module:
        """Return, untrained, the module and (but for ``same``) a copy of the classifier."""
        channels = network.classifier.weight.shape[1]
        shape = {"width": self.width, "heads": self.heads, "layers": self.layers}
        module = TransferModule(channels, task.num_classes, **shape)
        if self.unsup_output == "same":
            return SourceParts(module)
        return SourceParts(module, copy.deepcopy(network.classifier).requires_grad_(True))

    def train_source_parts(
        self, parts: nn.Module, network: Any, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> None:
        """Train the head without labels, then the module with them; the network stays."""
        own = cast(SourceParts, parts)
        mapped = _features(network, batches)
        head = network.classifier
        if own.head is not None:
            head, unlabelled = own.head, (features for features, _ in mapped)
            fit_head(head, unlabelled, self.objective, steps=self.head_steps, lr=self.head_lr)
        steps, lr = self.module_steps, self.module_lr
        fit_transfer(own.module, head, mapped, steps=steps, lr=lr, ignore=IGNORE)

    def take_source_parts(self, access: Online) -> None:
        """Copy head and module out of the grant, where something was trained."""
        self.transfer: TransferModule | None = None
        if not self.extras:
            return
        if PARTS not in access.extras:
            raise AccessError(
                f"TransAdapt needs the extra '{PARTS}' (its head and module, trained on source "
                "images), which this protocol does not grant; use online-seg, or "
                "--method.module false --method.unsup_output same, which needs none"
            )
        parts: SourceParts = copy.deepcopy(access.extras[PARTS]).to(self.net.mean.device)
        if parts.head is not None:
            self.net.classifier = parts.head.requires_grad_(True)
        if self.module:
            self.transfer = frozen_copy(parts.module)

    def head_logits(self, images: Tensor) -> Tensor:
        """Return the (B, K, h, w) logits Y_u at the feature map's size, where losses are taken."""
        logits: Tensor = self.net.classifier(self.net.features(images))
        return logits

    def transferred_logits(self, images: Tensor) -> Tensor:
        """Return (B, K, H, W) logits T(F) Y_u."""
        features = self.net.features(images)
        logits: Tensor = self.net.classifier(features)
        if self.transfer is not None:
            logits = transfer_logits(self.transfer(features), logits)
        return upsample(logits, (images.shape[-2], images.shape[-1]))


def _features(
    network: Any, batches: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Exchange images for their feature maps, without gradient."""
    for images, labels in batches:
        with torch.no_grad():
            features = network.features(images)
        yield features, labels
