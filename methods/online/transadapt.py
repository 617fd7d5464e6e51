"""TransAdapt: a transfer module from source training, and test-time losses (reconstruction)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import (
    IGNORE,
    AccessError,
    ConfigError,
    Kind,
    Online,
    OnlineMethod,
    Photometric,
    Prediction,
    TargetBatch,
    Task,
    Warp,
    frozen_copy,
    upsample,
)
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.consistency import consistency
from dabench.methods.functional.gradient_step import GradientStep, GradNorm
from dabench.methods.functional.losses import entropy, max_squares
from dabench.methods.functional.normalisation import adapt_normalisation, train_only_norms
from dabench.methods.functional.online import flat, put_back
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


class TransAdapt(OnlineMethod):
    """TransAdapt (Das et al., ICASSP 2023), **a reconstruction** from its abstract and patents.

    On source images, before the stream, a copy of the classifier is fine-tuned by an unsupervised
    loss alone, and a transformer module learns to turn its logits into the labels by a matrix that
    it predicts from the image's feature map (the extra ``source-parts``). On the stream the module
    is frozen. Each image moves the network by an unsupervised loss on that head's output, by
    invariance to a photometric view and by equivariance to a geometric one; then it is answered by
    the module's matrix on the head's new logits. Losses are taken at the places of the feature map;
    answers have the image's size. ``steps=0`` is the module without adaptation,
    ``module=false`` the losses without the module. Where each choice comes from: docs/methods.md.

    Args:
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: L2 penalty.
        steps: updates an image, each with views of its own; 0 = none.
        module: whether the answer passes the transfer module; without it, the head answers.
        unsup_output: head (a classifier trained without labels) or same (the source's classifier).
        unsup_loss: entropy or max-squares, on the source as on the stream.
        unsup_weight: weight of the unsupervised loss; 0 leaves it out.
        invariance_weight: weight of the photometric view; 0 leaves the view out.
        equivariance_weight: weight of the geometric view; 0 leaves the view out.
        targets: soft probabilities, or hard classes where they are sure.
        threshold: probability from which on a class is sure, for hard targets.
        adapt: what learns: norms (weight and bias of the normalisation layers), the head with them,
            or all of the network.
        rho: weight of the image in BatchNorm statistics; 0 = the source's alone.
        episodic: go back to the source model after every image.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
        head_steps: source batches that the unsupervised head is trained on.
        head_lr: its learning rate.
        module_steps: source batches that the module is trained on.
        module_lr: its learning rate (AdamW), at the start.
        width: of the module's queries.
        heads: of its attention; they divide the width.
        layers: of attention and feed-forward network.
    """

    reconstruction: ClassVar[bool] = True
    answers: ClassVar[Literal["before", "after"]] = "after"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"segmentation"})
    extras: ClassVar[frozenset[str]] = frozenset({PARTS})
    source_options: ClassVar[frozenset[str]] = frozenset(
        {
            *("unsup_output", "unsup_loss", "head_steps", "head_lr"),
            *("module_steps", "module_lr", "width", "heads", "layers"),
        }
    )
    start: Tensor

    def __init__(
        self,
        *,
        lr: Positive = 1e-3,
        momentum: BelowOne = 0.9,
        weight_decay: NonNegative = 0.0,
        steps: Natural = 1,
        module: bool = True,
        unsup_output: Literal["head", "same"] = "head",
        unsup_loss: Literal["entropy", "max-squares"] = "entropy",
        unsup_weight: NonNegative = 0.1,
        invariance_weight: NonNegative = 1.0,
        equivariance_weight: NonNegative = 1.0,
        targets: Literal["soft", "hard"] = "soft",
        threshold: Share = 0.9,
        adapt: Literal["norms+head", "norms", "all"] = "norms+head",
        rho: Share = 0.6,
        episodic: bool = False,
        grad_norm: GradNorm = "none",
        max_norm: Positive = 1.0,
        head_steps: Natural = 100,
        head_lr: Positive = 1e-3,
        module_steps: Natural = 300,
        module_lr: Positive = 1e-3,
        width: Count = 64,
        heads: Count = 4,
        layers: Count = 1,
    ) -> None:
        super().__init__()
        if steps and not (unsup_weight or invariance_weight or equivariance_weight):
            raise ConfigError(
                "transadapt: all three weights are 0, so there is nothing to learn; set "
                "--method.steps 0 for the module without adaptation, or a weight above 0"
            )
        if width % heads:
            raise ConfigError(
                f"--method.width {width} is not a multiple of --method.heads {heads}; "
                f"choose a width of {heads * max(1, round(width / heads))}, say"
            )
        self.lr, self.momentum, self.weight_decay, self.steps = lr, momentum, weight_decay, steps
        self.with_module, self.unsup_output = module, unsup_output
        self.objective = entropy if unsup_loss == "entropy" else max_squares
        self.unsup_weight = unsup_weight
        self.invariance_weight, self.equivariance_weight = invariance_weight, equivariance_weight
        self.threshold = threshold if targets == "hard" else None
        self.adapt, self.rho, self.episodic = adapt, rho, episodic
        self.grad_norm, self.max_norm = grad_norm, max_norm
        self.head_steps, self.head_lr = head_steps, head_lr
        self.module_steps, self.module_lr = module_steps, module_lr
        self.shape = {"width": width, "heads": heads, "layers": layers}
        self.trains = steps > 0  # type: ignore[misc]
        if not module and unsup_output == "same":  # then nothing comes from source training
            self.extras = frozenset()  # type: ignore[misc]

    # -- source training ------------------------------------------------------------------------

    def source_parts(self, network: Any, task: Task) -> nn.Module:
        """Return, untrained, the module and (but for ``same``) a copy of the classifier."""
        channels = network.classifier.weight.shape[1]
        module = TransferModule(channels, task.num_classes, **self.shape)
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

    # -- the stream -----------------------------------------------------------------------------

    def begin(self, access: Online) -> None:
        """Take the source model with the head in its place, and freeze the module.

        Raises:
            AccessError: the protocol does not grant what was trained on source data.
            ConfigError: the network has no normalisation layer to adapt.
        """
        super().begin(replace(access, extras={}))
        self.net = access.source_model.eval()
        self.transfer: TransferModule | None = None
        if self.extras:
            self._take(access)
        adapt_normalisation(self.net, self.rho)
        if not self.steps:
            self.net.requires_grad_(False)
            return
        self.trained = self._choose()
        optimiser = torch.optim.SGD(
            self.trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )
        if self.episodic:
            self.register_buffer("start", flat(p.detach() for p in self.trained).clone())

    def _take(self, access: Online) -> None:
        """Copy head and module out of the grant."""
        if PARTS not in access.extras:
            raise AccessError(
                f"TransAdapt needs the extra '{PARTS}' (its head and module, trained on source "
                "images), which this protocol does not grant; use online-seg, or "
                "--method.module false --method.unsup_output same, which needs none"
            )
        parts: SourceParts = copy.deepcopy(access.extras[PARTS]).to(self.net.mean.device)
        if parts.head is not None:
            self.net.classifier = parts.head.requires_grad_(True)
        if self.with_module:
            self.transfer = frozen_copy(parts.module)

    def _choose(self) -> list[Tensor]:
        """Freeze what does not learn; return what does."""
        if self.adapt == "all":
            return [p for p in self.net.parameters() if p.requires_grad]
        head = [p for p in self.net.classifier.parameters() if p.requires_grad]
        chosen = train_only_norms(self.net)
        if self.adapt == "norms+head":
            chosen += [p.requires_grad_(True) for p in head]
        return chosen

    def step(self, batch: TargetBatch) -> Tensor:
        """Learn from the image, and answer."""
        for _ in range(self.steps):
            self._learn(batch.images)
        with torch.no_grad():
            answer = self._answer(batch.images)
        if self.steps and self.episodic:
            values = torch.split(self.start, [p.numel() for p in self.trained])
            pairs = zip(values, self.trained, strict=True)
            put_back(self.trained, [value.view_as(p) for value, p in pairs])
            self.update.forget()
        return answer

    def _learn(self, images: Tensor) -> None:
        """Make one update."""
        with torch.set_grad_enabled(bool(self.unsup_weight)):
            p = self._unsupervised(images).softmax(1)
        losses: dict[str, Tensor] = {}
        if self.unsup_weight:
            losses["unsupervised"] = self.unsup_weight * self.objective(p).mean()
        target = p.detach()
        if self.invariance_weight:
            losses["invariance"] = self.invariance_weight * self._invariance(images, target)
        if self.equivariance_weight:
            losses["equivariance"] = self.equivariance_weight * self._equivariance(images, target)
        if self.update.steps % 10 == 0:
            for name, loss in losses.items():
                self.access.recorder.put(f"loss/{name}", self.update.steps, float(loss.detach()))
        self.update(torch.stack(list(losses.values())).sum())

    def _invariance(self, images: Tensor, target: Tensor) -> Tensor:
        """Return how far the answer to a photometric view is from the target."""
        view = Photometric.draw(len(images), device=images.device).apply(images)
        return consistency(target, self._unsupervised(view), threshold=self.threshold)

    def _equivariance(self, images: Tensor, target: Tensor, warp: Warp | None = None) -> Tensor:
        """Return how far the answer to a geometric view is from the view of the target."""
        if warp is None:
            flip = self.access.task.flip
            warp = Warp.draw(len(images), flip=flip, device=images.device)
        logits = self._unsupervised(warp.apply(images))
        valid = warp.valid((logits.shape[-2], logits.shape[-1]))
        return consistency(warp.apply(target), logits, valid, self.threshold)

    def _unsupervised(self, images: Tensor) -> Tensor:
        """Return the (B, K, h, w) logits Y_u at the feature map's size, where losses are taken."""
        logits: Tensor = self.net.classifier(self.net.features(images))
        return logits

    def _answer(self, images: Tensor) -> Tensor:
        """Return (B, K, H, W) logits T(F) Y_u."""
        features = self.net.features(images)
        logits: Tensor = self.net.classifier(features)
        if self.transfer is not None:
            logits = transfer_logits(self.transfer(features), logits)
        return upsample(logits, (images.shape[-2], images.shape[-1]))

    def predict(self, images: Tensor) -> Prediction:
        """Answer as the network stands, by the statistics of these images."""
        return Prediction(self._answer(images))


def _features(
    network: Any, batches: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Exchange images for their feature maps, without gradient."""
    for images, labels in batches:
        with torch.no_grad():
            features = network.features(images)
        yield features, labels
