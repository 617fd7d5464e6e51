"""RMT without source images: a student by a symmetric loss to its average, contrast of views."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch, frozen_copy
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.certainty_diversity import symmetric_cross_entropy
from dabench.methods.functional.contrastive import view_contrast
from dabench.methods.functional.gradient_step import (
    GradientStep,
    GradNorm,
    build_optimiser,
    learnable,
)
from dabench.methods.functional.linear_head import linear_head
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.methods.functional.online import ema_update
from dabench.methods.online.cotta import augment


class RMT(OnlineMethod):
    """RMT, robust mean teacher (Döbler et al., CVPR 2023), in a form without source data.

    All weights of a student learn: by a symmetric cross-entropy, the answers of a teacher that is
    their moving average, on the image and on a changed view; and by a contrast, through a small
    projector, to have image, view and nearest class prototype together and other images apart. The
    answer is the sum of both networks' logits, from before the step. After the authors' code but
    for what makes it source-free: no replay of labelled source images (their weight is 0 here), no
    warm-up on 50,000 of them, and prototypes are the source classifier's rows in place of the
    class means of source features. Published figures include all three and do not apply. Further
    deviations: views have the suite's geometry; dropout stays off.

    Args:
        optimiser: adam (small images, in the authors' code) or sgd (ImageNet, with lr .01).
        lr: learning rate, of the projector too.
        momentum: of sgd; the first beta of adam.
        weight_decay: L2 penalty.
        self_training: weight of the symmetric cross-entropy.
        contrast: weight of the contrast.
        temperature: of the contrast.
        projection: width of the projector; 0 = none: the contrast is one of the features.
        ema_decay: of the teacher's weights.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Positive = 1e-3
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    self_training: NonNegative = 1.0
    contrast: NonNegative = 1.0
    temperature: Positive = 0.1
    projection: Annotated[int, Field(ge=0)] = 128
    ema_decay: Share = 0.999
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    prototypes: Tensor

    def begin(self, access: Online) -> None:
        """Take the source model as student, copy it as teacher, draw the projector.

        Raises:
            ConfigError: the classifier is no linear layer, or all weights are frozen.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        head = linear_head(self.net.classifier, "rmt", "its class prototypes are the rows")
        # a buffer: the classifier itself learns
        self.register_buffer("prototypes", head.weight.detach().clone())
        adapt_normalisation(self.net, self.rho)
        self.teacher = frozen_copy(self.net)
        self.projector = self._projector(head.in_features).to(self.prototypes)
        learning = nn.ModuleList([self.net, self.projector])
        optimiser = build_optimiser(
            self.optimiser,
            [*learnable(self.net).values(), *self.projector.parameters()],
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        self.update = GradientStep(
            learning, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )

    def _projector(self, width: int) -> nn.Module:
        """Return the map of (B, width) features that the contrast sees."""
        if not self.projection:
            return nn.Identity()
        hidden, out = nn.Linear(width, self.projection), nn.Linear(self.projection, self.projection)
        return nn.Sequential(hidden, nn.ReLU(), out)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer by both networks; teach the student; let the teacher follow."""
        with torch.no_grad():
            target = self.teacher(batch.images)
        features = self.net.features(batch.images)
        changed = self.net.features(augment(batch.images, flip=self.access.task.flip))
        logits = self.net.classifier(features)
        taught = symmetric_cross_entropy(logits, target)
        taught = taught + symmetric_cross_entropy(self.net.classifier(changed), target)
        loss = self.self_training * taught.mean() / 2
        self.update(loss + self.contrast * self._contrast(features, changed))
        ema_update(list(self.teacher.parameters()), list(self.net.parameters()), self.ema_decay)
        answer: Tensor = logits.detach() + target
        return answer

    def _contrast(self, features: Tensor, changed: Tensor) -> Tensor:
        """Return the contrast of (B, D) features, those of views, and the nearest prototypes."""
        with torch.no_grad():
            cosine = F.normalize(features, dim=1) @ F.normalize(self.prototypes, dim=1).T
            nearest = self.prototypes[cosine.argmax(1)]
        triples = torch.stack((nearest, features, changed), 1)
        return view_contrast(self.projector(triples), self.temperature)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by both networks, by the statistics of these images."""
        return Prediction(self.net(images) + self.teacher(images))
