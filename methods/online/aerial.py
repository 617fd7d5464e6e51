"""``aerial``: continual adaptation of aerial images from a buffer, by steps of unit norm."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch, frozen_copy
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.frozen_head import FrozenHead
from dabench.methods.functional.gradient_step import GradNorm
from dabench.methods.functional.losses import information_maximisation, soft_cross_entropy
from dabench.methods.functional.replay import ReplayBuffer, forward_separately


class Aerial(OnlineMethod):
    """Continual adaptation on aerial images (arXiv 2308.00924), **a reconstruction**.

    From its abstract: buffer-fed adaptation under weather that degrades, and normalised gradients
    against its instability. What is done with the buffer is ours. It holds a uniform choice of the
    images of every class that centroids gave, each with what the model answered when it came. Every
    batch is joined by some of them, and SHOT's centroids label the union. The network, but for its
    frozen classifier, learns to maximise information and the labels of the batch, and to answer
    stored images as it did then: what it knew in better weather is rehearsed while it learns worse.
    Logits of the source model are added to its own: on clear images, where it is sure, it still has
    a say, and under weather that it does not know it has little. Answers come from before the
    update. BatchNorm normalises the batch by itself and the stored images by themselves.
    Where each choice comes from: docs/reconstructions.md.

    Args:
        lr: learning rate of the bottleneck; with gradients of norm 1 it alone sets a step's length.
        backbone_factor: learning-rate factor of the backbone.
        momentum: of SGD (Nesterov).
        weight_decay: L2 penalty, added after normalisation.
        per_class: size of the buffer, in images of each class.
        replay: stored images that join a batch.
        turn: stored images are shown turned by a quarter or more, or mirrored, all alike in a step:
            seen from above, nothing has an upright (whatever the data set says of mirrored images).
        pseudo_weight: weight of the pseudo-label cross-entropy on the batch.
        im_weight: weight of information maximisation on the batch.
        replay_weight: weight of the cross-entropy with the answers of stored images.
        source_weight: weight of the source model's logits in an answer; 0 spares its forward pass.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    version: ClassVar[str] = "3"
    reconstruction: ClassVar[bool] = True
    extras: ClassVar[frozenset[str]] = frozenset({"buffer"})

    lr: Positive = 0.1
    backbone_factor: NonNegative = 0.1
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 1e-3
    per_class: Annotated[int, Field(ge=1)] = 10
    replay: Annotated[int, Field(ge=0)] = 64
    turn: bool = True
    pseudo_weight: NonNegative = 0.3
    im_weight: NonNegative = 1.0
    replay_weight: NonNegative = 0.3
    source_weight: NonNegative = 0.25
    rho: Share = 1.0
    grad_norm: GradNorm = "unit-global"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model, freeze its classifier, and lay out the buffer."""
        super().begin(access)
        self.net = access.source_model.eval()
        self.update = FrozenHead.from_options(self).start(
            self.net, self.net.classifier, self.net.parameter_groups, access.recorder.put
        )
        self.source = frozen_copy(self.net)
        k, size = access.task.num_classes, access.task.image_size
        buffer = ReplayBuffer(k, self.per_class, size, "reservoir", answer_size=k)
        self.buffer = buffer.to(self.net.mean.device)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer for the batch; learn from batch and buffer; offer the batch to the buffer."""
        new = len(batch.images)
        stored, places = self.buffer.recall(self.replay)
        shown = turned(stored) if self.turn else stored
        features = forward_separately(self.net.features, batch.images, shown)
        logits: Tensor = self.net.classifier(features)
        p = logits.softmax(1)
        labels = centroid_labels(features.detach(), p.detach())[:new]
        entropy, diversity = information_maximisation(p[:new])
        pseudo = F.cross_entropy(logits[:new], labels)
        loss = self.im_weight * (entropy - diversity) + self.pseudo_weight * pseudo
        if len(places):
            kept = soft_cross_entropy(logits[new:], self.buffer.answers[places]).mean()
            loss = loss + self.replay_weight * kept
        self.update(loss)
        answers = p.detach()[:new]
        self.buffer.add(batch.images, labels, answers.amax(1), answers)
        self.buffer.record(self.access.recorder.put, self.update.steps)
        return self._with_source(logits.detach()[:new], batch.images)

    @torch.no_grad()
    def _with_source(self, logits: Tensor, images: Tensor) -> Tensor:
        """Add the source model's (B, K) logits to the method's."""
        if not self.source_weight:
            return logits
        known: Tensor = self.source(images)
        return logits + self.source_weight * known

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self._with_source(self.net(images), images))


def turned(images: Tensor) -> Tensor:
    """Return (M, 3, S, S) images in one of the eight poses of a square, drawn by torch."""
    pose = int(torch.randint(8, ()))
    posed = torch.rot90(images, pose % 4, (2, 3))
    return posed.flip(3) if pose >= 4 else posed
