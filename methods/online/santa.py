"""SANTA: the source model's answer as anchor, and the nearest source mean as a third view."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import Online, TargetBatch, frozen_copy
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.class_statistics import nearest_mean
from dabench.methods.functional.contrastive import view_contrast
from dabench.methods.functional.losses import soft_cross_entropy
from dabench.methods.online.cotta import augment
from dabench.methods.online.norm_affine import NormAffine
from dabench.methods.online.source_statistics import STATISTICS, source_statistics


class SANTA(NormAffine):
    """SANTA (Chakrabarty et al., TMLR 2023), after the code of a common benchmark.

    The answers to an image and to a changed view of it are weighed against those of the source
    model (cross-entropy with the source's logarithms, whose gradient runs through the answers);
    and the features of the image, of the view and the nearest mean of the source's classes are
    pulled together, away from those of the other images, behind a projector that learns, too.
    The answer is from before the step. Extra: means of the source's features by class.
    Deviations: views have the suite's geometry, without hue and gamma; classes that the source
    statistics do not know are never the nearest.

    Args:
        anchor_weight: of the cross-entropy.
        contrast_weight: of the contrast.
        temperature: of the contrast.
        projection: width of the projector; 0 = none, as the benchmark has it on DomainNet.
    """

    version: ClassVar[str] = "2"
    extras: ClassVar[frozenset[str]] = frozenset({STATISTICS})
    prototypes: Tensor
    usable: Tensor

    anchor_weight: NonNegative = 1.0
    contrast_weight: NonNegative = 1.0
    temperature: Positive = 0.1
    projection: Annotated[int, Field(ge=0)] = 128

    def begin(self, access: Online) -> None:
        """Take the source model, keep a copy as anchor, and draw the projector.

        Raises:
            AccessError: the protocol does not grant class means.
            ConfigError: a network with nothing to adapt.
        """
        statistics = source_statistics(access, "santa")
        super().begin(access)
        self.anchor = frozen_copy(self.net)
        means = statistics.class_mean.to(self.net.mean)
        self.register_buffer("prototypes", means)
        self.register_buffer("usable", (statistics.count > 0).to(means.device))
        self.projector: nn.Module = nn.Identity()
        if self.projection:
            layers = nn.Linear(means.shape[1], self.projection), nn.ReLU()
            last = nn.Linear(self.projection, self.projection)
            self.projector = nn.Sequential(*layers, last).to(means)
        self.learn([*self.update.held, *self.projector.parameters()], self.projector)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer; step on the image, its view and its nearest mean."""
        features = self.net.features(batch.images)
        logits: Tensor = self.net.classifier(features)
        changed = self.net.features(augment(batch.images, flip=self.access.task.flip))
        other = self.net.classifier(changed)
        with torch.no_grad():
            anchor = self.anchor(batch.images)
        losses = [soft_cross_entropy(anchor, z.softmax(1)).mean() for z in (logits, other)]
        nearest = nearest_mean(features, self.prototypes, self.usable)
        views = self.projector(torch.stack((nearest, features, changed), 1))
        contrast = view_contrast(views, self.temperature)
        self.update(self.anchor_weight * sum(losses) / 2 + self.contrast_weight * contrast)
        return logits.detach()
