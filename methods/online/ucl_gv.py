"""UCL-GV: continual adaptation with an episodic memory and a contrastive loss (reconstruction)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.contrastive import memory_contrast
from dabench.methods.functional.frozen_head import FrozenHead
from dabench.methods.functional.gradient_step import GradNorm
from dabench.methods.functional.losses import information_maximisation
from dabench.methods.functional.replay import Policy, ReplayBuffer, forward_separately


class UCLGV(OnlineMethod):
    """UCL-GV, **a reconstruction** from its abstract: replay, and contrast of batch and buffer.

    Batch and stored images pass the network and are labelled together, by SHOT's centroids. The
    network, but for its frozen classifier, learns the labels, maximises information, and pulls each
    sample of the batch towards the stored samples of its class in bottleneck space. The buffer
    keeps the last images of each class. Answers come from the same forward pass, before the update.
    BatchNorm normalises the batch by itself and the stored images by themselves.
    Where each choice comes from: docs/reconstructions.md.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        momentum: of SGD (Nesterov).
        weight_decay: L2 penalty.
        per_class: size of the buffer, in images of each class.
        policy: which images stay in the buffer.
        replay: stored images that join a batch; leave out for all of them.
        pseudo_weight: weight of the pseudo-label cross-entropy.
        im_weight: weight of information maximisation.
        contrast_weight: weight of the contrastive loss.
        temperature: of the contrastive loss.
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
    per_class: Annotated[int, Field(ge=1)] = 10
    policy: Policy = "fifo"
    replay: Annotated[int, Field(ge=0)] | None = None
    pseudo_weight: NonNegative = 1.0
    im_weight: NonNegative = 1.0
    contrast_weight: NonNegative = 1.0
    temperature: Positive = 0.1
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model, freeze its classifier, and lay out the buffer."""
        super().begin(access)
        self.net = access.source_model.eval()
        self.update = FrozenHead.from_options(self).start(
            self.net, self.net.classifier, self.net.parameter_groups, access.recorder.put
        )
        task = access.task
        buffer = ReplayBuffer(task.num_classes, self.per_class, task.image_size, self.policy)
        self.buffer = buffer.to(self.net.mean.device)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer for the batch; learn from batch and buffer; renew the buffer."""
        new = len(batch.images)
        stored, places = self.buffer.recall(self.replay)
        features = forward_separately(self.net.features, batch.images, stored)
        logits: Tensor = self.net.classifier(features)
        p = logits.softmax(1)
        labels = centroid_labels(features.detach(), p.detach())
        entropy, diversity = information_maximisation(p)
        contrast = memory_contrast(
            features[:new], labels[:new], features[new:], labels[new:], self.temperature
        )
        self.update(
            self.pseudo_weight * F.cross_entropy(logits, labels)
            + self.im_weight * (entropy - diversity)
            + self.contrast_weight * contrast
        )
        confidence = p.detach().gather(1, labels[:, None])[:, 0]
        self.buffer.update(batch.images, places, labels, confidence)
        self.buffer.record(self.access.recorder.put, self.update.steps)
        return logits.detach()[:new]

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
