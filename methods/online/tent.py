"""Tent: test-time entropy minimisation over the normalisation layers' affine parameters."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from dabench.api import ConfigError, Kind, Online, TargetBatch
from dabench.methods.functional.losses import UNCERTAINTY, Uncertainty
from dabench.methods.functional.replay import Policy, ReplayBuffer, forward_separately
from dabench.methods.online.norm_affine import NormAffine


class Tent(NormAffine):
    """Tent (Wang et al., ICLR 2021): one step on the mean entropy of every batch.

    Weight and bias of BatchNorm, LayerNorm and GroupNorm layers are trained, everything else is
    frozen; BatchNorm normalises by the batch. The answer is that of the forward pass whose entropy
    is minimised; in segmentation the mean runs over the pixels, too. Two controls beside the paper:
    ``per_class`` stores images as the buffer-fed methods do (the extra ``buffer``) and adds their
    entropy; ``steps`` spends as many forward passes as another method.

    Args:
        steps: updates a batch, each with a forward pass of its own.
        per_class: stored images of each class by prediction; 0 = no buffer (the paper).
        policy: which images stay in the buffer.
        replay: stored images that join a batch; leave out for all of them.
        loss: entropy (the paper), or come: the entropy of an opinion with a share for "none of
            the classes" (Zhang et al., ICLR 2025).
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"loss"})
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})

    steps: Annotated[int, Field(ge=1)] = 1
    per_class: Annotated[int, Field(ge=0)] = 0
    policy: Policy = "confident"
    replay: Annotated[int, Field(ge=0)] | None = None
    loss: Uncertainty = "entropy"

    def check_options(self) -> None:
        """Declare the extra that stored images are."""
        if self.per_class:  # only this control stores target images
            self.extras = frozenset({"buffer"})  # type: ignore[misc]

    def begin(self, access: Online) -> None:
        """Take the source model and freeze all but its normalisation layers.

        Raises:
            ConfigError: a buffer by class in segmentation, or a network with nothing to adapt.
        """
        if self.per_class and access.task.kind == "segmentation":
            raise ConfigError(
                "--method.per_class stores images by their class, and a segmented image has none; "
                "leave it at 0"
            )
        super().begin(access)
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
        self.update(self.objective(logits).mean())
        for _ in range(self.steps - 1):
            logits = forward_separately(self.net, batch.images, stored)
            self.update(self.objective(logits).mean())
        if self.per_class:
            confidence, label = first.softmax(1).max(1)
            self.buffer.update(batch.images, places, label, confidence)
            self.buffer.record(self.access.recorder.put, self.update.steps)
        return first[: len(batch.images)]

    def objective(self, logits: Tensor) -> Tensor:
        """Return the (N, ...) losses of (N, K, ...) logits."""
        return UNCERTAINTY[self.loss](logits)
