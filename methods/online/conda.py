"""ConDA: continual source-free adaptation fed by a buffer (reconstruction)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.distillation import mix, mixup_weights
from dabench.methods.functional.divergence import onehot
from dabench.methods.functional.frozen_head import FrozenHead
from dabench.methods.functional.gradient_step import GradNorm
from dabench.methods.functional.losses import information_maximisation, soft_cross_entropy
from dabench.methods.functional.replay import (
    Policy,
    ReplayBuffer,
    forward_separately,
    largest_per_class,
    missing_per_class,
)

Mixing = Literal["mixup", "selective", "none"]


class ConDA(OnlineMethod):
    """ConDA (arXiv 2103.11056), **a reconstruction** from its abstract and a third party's port.

    Each batch is joined by stored images of earlier ones. The union is labelled by SHOT's
    centroids; the network, but for its frozen classifier, learns these labels, sure predictions and
    an even use of the classes. Then the buffer takes from the batch what its policy keeps, and the
    labels of what it holds are renewed. Answers come from the forward pass over the union, before
    the update. BatchNorm normalises the batch by itself and the stored images by themselves; the
    mixed images of mixup's second pass, of which each may be part of both, together.
    Where each choice comes from: docs/reconstructions.md.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        momentum: of SGD (Nesterov).
        weight_decay: L2 penalty.
        mixing: mixup (every image of the union mixed with another one, in a second forward pass);
            selective (the batch is completed by stored images of the classes that it lacks, the
            surest first, to an even share); none (the plain union).
        alpha: of mixup's Beta distribution, a weight an image.
        per_class: size of the buffer, in images of each class.
        policy: which images stay in the buffer.
        replay: stored images that join a batch; leave out for all of them.
        mix_weight: weight of the cross-entropy with pseudo-labels.
        entropy_weight: weight of the mean entropy.
        diversity_weight: weight of the entropy of the mean prediction.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    version: ClassVar[str] = "2"
    reconstruction: ClassVar[bool] = True
    extras: ClassVar[frozenset[str]] = frozenset({"buffer"})

    lr: Positive = 1e-2
    backbone_factor: NonNegative = 0.1
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 1e-3
    mixing: Mixing = "mixup"
    alpha: Positive = 1.0
    per_class: Annotated[int, Field(ge=1)] = 10
    policy: Policy = "confident"
    replay: Annotated[int, Field(ge=0)] | None = None
    mix_weight: NonNegative = 0.3
    entropy_weight: NonNegative = 1.0
    diversity_weight: NonNegative = 1.0
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model, freeze its classifier, and lay out the buffer."""
        super().begin(access)
        self.k = access.task.num_classes
        self.net = access.source_model.eval()
        self.update = FrozenHead.from_options(self).start(
            self.net, self.net.classifier, self.net.parameter_groups, access.recorder.put
        )
        buffer = ReplayBuffer(self.k, self.per_class, access.task.image_size, self.policy)
        self.buffer = buffer.to(self.net.mean.device)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer for the batch; learn from batch and buffer; renew the buffer."""
        new = len(batch.images)
        stored, places = self.buffer.recall(self.replay)
        with torch.set_grad_enabled(self.mixing != "mixup"):
            features = forward_separately(self.net.features, batch.images, stored)
            logits: Tensor = self.net.classifier(features)
        p = logits.detach().softmax(1)
        labels = centroid_labels(features.detach(), p)
        confidence = p.gather(1, labels[:, None])[:, 0]
        target = onehot(labels, self.k).to(p)
        if self.mixing == "mixup":
            loss = self._mixed(torch.cat((batch.images, stored)), target)
        else:
            weight = self._composition(labels, confidence, new).to(p)
            loss = self._loss(logits, target, weight)
        self.update(loss)
        self.buffer.update(batch.images, places, labels, confidence)
        self.buffer.record(self.access.recorder.put, self.update.steps)
        return logits.detach()[:new]

    def _mixed(self, images: Tensor, target: Tensor) -> Tensor:
        """Return the loss on mixed images with mixed labels."""
        order = torch.randperm(len(images)).to(images.device)
        weight = mixup_weights(len(images), self.alpha)
        logits = self.net(mix(images, order, weight))
        return self._loss(logits, mix(target, order, weight), torch.ones_like(target[:, 0]))

    def _composition(self, labels: Tensor, confidence: Tensor, new: int) -> Tensor:
        """Return (B + M,) bool, the rows of the union that are learnt from."""
        rows = torch.ones_like(labels, dtype=torch.bool)
        if self.mixing == "selective":
            lacking = missing_per_class(labels[:new], self.k)
            rows[new:] = largest_per_class(labels[new:], confidence[new:], lacking)
        return rows

    def _loss(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Pseudo-labels, sure predictions, even use of the classes ("equal diversity")."""
        ce = (weight * soft_cross_entropy(logits, target)).sum() / weight.sum()
        entropy, diversity = information_maximisation(logits.softmax(1), weight)
        return (
            self.mix_weight * ce + self.entropy_weight * entropy - self.diversity_weight * diversity
        )

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
