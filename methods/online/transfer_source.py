"""What TransAdapt trains on source images before the stream, and how a stream takes it over."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, cast

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
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.losses import entropy, max_squares
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.methods.functional.shift_norm import ImageShift, tracked_layers, usual_distances
from dabench.methods.functional.transfer import (
    SourceParts,
    TransferModule,
    classifier_width,
    feature_batches,
    fit_head,
    fit_transfer,
    transfer_logits,
)

PARTS = "source-parts"
#: batches of augmented source images that usual distances are measured on
USUAL_BATCHES = 16
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
        rho: (largest) weight of the image in BatchNorm statistics; 0 = the source's alone.
        by_shift: the weight is ``rho`` times how far the image's statistics are from the source's,
            by what is usual among source images; else it is ``rho`` for all images.
        margin: times the usual distance that still count as usual.
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
    rho: Share = 1.0
    by_shift: bool = True
    margin: NonNegative = 1.0

    def check_options(self) -> None:
        """Refuse heads that do not divide the width, and say what follows from the options."""
        if self.width % self.heads:
            near = self.heads * max(1, round(self.width / self.heads))
            raise ConfigError(
                f"--method.width {self.width} is not a multiple of --method.heads {self.heads}; "
                f"choose a width of {near}, say"
            )
        self.objective = entropy if self.unsup_loss == "entropy" else max_squares
        if not (self.module or self.by_shift) and self.unsup_output == "same":
            self.extras = frozenset()  # type: ignore[misc]  # nothing comes from source training

    def source_parts(self, network: Any, task: Task) -> nn.Module:
        """Return, untrained, the module and (but for ``same``) a copy of the classifier."""
        channels = classifier_width(network)
        shape = {"width": self.width, "heads": self.heads, "layers": self.layers}
        module = TransferModule(channels, task.num_classes, **shape)
        head: nn.Module | None = None
        if self.unsup_output != "same":
            head = copy.deepcopy(network.classifier).requires_grad_(True)
        return SourceParts(module, head, len(tracked_layers(network)))

    def train_source_parts(
        self, parts: nn.Module, network: Any, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> None:
        """Measure usual statistics; train the head without labels, the module with them."""
        own = cast(SourceParts, parts)
        some = (images for images, _ in islice(batches, USUAL_BATCHES))
        own.usual.copy_(usual_distances(network, some))
        mapped = feature_batches(network, batches)
        head = network.classifier
        if own.head is not None:
            head, unlabelled = own.head, (features for features, _ in mapped)
            fit_head(head, unlabelled, self.objective, steps=self.head_steps, lr=self.head_lr)
        steps, lr = self.module_steps, self.module_lr
        fit_transfer(own.module, head, mapped, steps=steps, lr=lr, ignore=IGNORE)

    def take_source_parts(self, access: Online) -> None:
        """Adapt the statistics; copy head and module out of the grant, where there is one."""
        self.transfer: TransferModule | None = None
        self.shift: ImageShift | None = None
        if not self.extras:
            adapt_normalisation(self.net, self.rho)
            return
        if PARTS not in access.extras:
            raise AccessError(
                f"TransAdapt needs the extra '{PARTS}' (its head and module, trained on source "
                "images), which this protocol does not grant; use online-seg, or "
                "--method.module false --method.unsup_output same --method.by_shift false, which "
                "needs none"
            )
        parts: SourceParts = copy.deepcopy(access.extras[PARTS]).to(self.net.mean.device)
        if parts.head is not None:
            self.net.classifier = parts.head.requires_grad_(True)
        if self.module:
            self.transfer = frozen_copy(parts.module)
        if self.by_shift:
            self.shift = ImageShift(self.net, self.margin * parts.usual, self.rho)
        adapt_normalisation(self.net, self.rho)

    def head_logits(self, images: Tensor, net: Network | None = None) -> Tensor:
        """Return the (B, K, h, w) logits Y_u at the feature map's size, where losses are taken."""
        net = net or self.net
        logits: Tensor = net.classifier(net.features(images))
        return logits

    def transferred_logits(self, images: Tensor) -> Tensor:
        """Return (B, K, H, W) logits T(F) Y_u."""
        features = self.net.features(images)
        logits: Tensor = self.net.classifier(features)
        if self.transfer is not None:
            logits = transfer_logits(self.transfer(features), logits)
        return upsample(logits, (images.shape[-2], images.shape[-1]))
