"""Tent: test-time entropy minimisation over the normalisation layers' affine parameters."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from dabench.api import ConfigError, Kind, Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import GradientStep, GradNorm, build_optimiser
from dabench.methods.functional.losses import entropy
from dabench.methods.functional.normalisation import adapt_normalisation, train_only_norms
from dabench.methods.functional.replay import Policy, ReplayBuffer, forward_separately


class Tent(OnlineMethod):
    """Tent (Wang et al., ICLR 2021): one step on the mean entropy of every batch.

    Weight and bias of BatchNorm, LayerNorm and GroupNorm layers are trained, everything else is
    frozen; BatchNorm normalises by the batch. The answer is that of the forward pass whose entropy
    is minimised; in segmentation the mean runs over the pixels, too. Two controls beside the paper:
    ``per_class`` stores images as the buffer-fed methods do (the extra ``buffer``) and adds their
    entropy; ``steps`` spends as many forward passes as another method.

    Args:
        optimiser: adam (small images, in the paper) or sgd (ImageNet).
        lr: learning rate; 2.5e-4 is usual with sgd.
        momentum: of sgd; the first beta of adam.
        weight_decay: L2 penalty.
        steps: updates a batch, each with a forward pass of its own.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        per_class: stored images of each class by prediction; 0 = no buffer (the paper).
        policy: which images stay in the buffer.
        replay: stored images that join a batch; leave out for all of them.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})

    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Positive = 1e-3
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    steps: Annotated[int, Field(ge=1)] = 1
    rho: Share = 1.0
    per_class: Annotated[int, Field(ge=0)] = 0
    policy: Policy = "confident"
    replay: Annotated[int, Field(ge=0)] | None = None
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def check_options(self) -> None:
        """Declare the extra that stored images are."""
        if self.per_class:  # only this control stores target images
            self.extras = frozenset({"buffer"})  # type: ignore[misc]

    def begin(self, access: Online) -> None:
        """Take the source model and freeze all but its normalisation layers.

        Raises:
            ConfigError: a buffer by class in segmentation, or a network with nothing to adapt.
        """
        super().begin(access)
        if self.per_class and access.task.kind == "segmentation":
            raise ConfigError(
                "--method.per_class stores images by their class, and a segmented image has none; "
                "leave it at 0"
            )
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        optimiser = build_optimiser(
            self.optimiser,
            train_only_norms(self.net),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )
        if self.per_class:
            task = access.task
            self.buffer = ReplayBuffer(
                task.num_classes, self.per_class, task.image_size, self.policy
            ).to(self.net.mean.device)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer from the first forward pass, and minimise its loss."""
        stored, places = batch.images[:0], batch.index[:0]
        if self.per_class:
            stored, places = self.buffer.recall(self.replay)
        logits = forward_separately(self.net, batch.images, stored)
        first = logits.detach()
        self.update(self.objective(logits.softmax(1)).mean())
        for _ in range(self.steps - 1):
            logits = forward_separately(self.net, batch.images, stored)
            self.update(self.objective(logits.softmax(1)).mean())
        if self.per_class:
            confidence, label = first.softmax(1).max(1)
            self.buffer.update(batch.images, places, label, confidence)
            self.buffer.record(self.access.recorder.put, self.update.steps)
        return first[: len(batch.images)]

    def objective(self, p: Tensor) -> Tensor:
        """Return the (N, ...) losses of (N, K, ...) probabilities."""
        return entropy(p)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
