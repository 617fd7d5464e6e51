"""SF(DA)2: neighbours, and features moved along the covariance of their class."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import (
    OfflineMethod,
    Prediction,
    SourceFree,
    TargetBatch,
    inverse_decay,
    set_features,
    views,
)
from dabench.methods.functional.attraction import attraction, dispersion
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.class_covariance import (
    RunningCovariance,
    augmented_surprise,
    covariance_distance,
)
from dabench.methods.functional.linear_head import linear_head
from dabench.methods.functional.neighbours import FeatureBank, within_class


class SFDA2(OfflineMethod):
    """SF(DA)2 (Hwang et al., ICLR 2024), after the authors' code (shinyflight/SFDA2).

    An image's answer is drawn to the stored answers of its nearest neighbours and away from those
    of its batch (``aad``, with the squares of the products). Running covariances of the classes do
    two things more: features are augmented along them, in a closed form and without a sample, and
    classes that get like answers are to have unlike covariances. All layers learn.
    Deviations: the dispersion is scaled by 63 / (B - 1), as in ``aad``; no more neighbours than a
    class has images on average; the bank is filled from plain images; an image's own row is left
    out by its place; a class that nobody is called counts for nothing in the last loss (there:
    0 / 0). As in the code, the augmented loss goes over all classes, not over the predicted one.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone.
        neighbours: images that attract.
        disperse: weight of the dispersion at the start.
        disperse_decay: power of its decay (1 + 10 progress)^-power.
        augment: weight of the augmented loss.
        strength: of the augmentation at the end; it grows from 0 with the progress.
        disentangle: weight of the distance between covariances.
    """

    version: ClassVar[str] = "1"

    lr: Positive = 1e-3
    backbone_factor: NonNegative = 0.1
    neighbours: Annotated[int, Field(ge=1)] = 5
    disperse: NonNegative = 1.0
    disperse_decay: NonNegative = 5.0
    augment: NonNegative = 1e-4
    strength: NonNegative = 5.0
    disentangle: NonNegative = 10.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model.

        Raises:
            ConfigError: its classifier is no linear layer.
        """
        super().begin(access)
        self.net = access.source_model
        k = access.task.num_classes
        head = linear_head(self.net.classifier, "sfda2", "the augmentation needs the rows", "aad")
        self.covariances = RunningCovariance(k, head.in_features, head.weight.detach())
        self.count = within_class(self.neighbours, len(access.target), k)
        self.note("neighbours", self.count)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with SHOT's decay on all layers."""
        return self.decaying_sgd(self.net.parameter_groups(self.lr, self.backbone_factor))

    def on_train_epoch_start(self) -> None:
        """Fill the bank at the start."""
        if self.current_epoch == 0:
            self.bank = FeatureBank(*set_features(self.net, self.access.target))
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Attraction, dispersion, augmentation and disentanglement."""
        features = self.net.features(views.weak(batch.images, flip=self.access.task.flip))
        logits = self.net.classifier(features)
        p, index, bank = logits.softmax(1), batch.index, self.bank
        bank.write(index, features, p)
        near = bank.nearest(index, self.count)
        attract = attraction(p, bank.p[near]).mean()
        disperse = dispersion(p, squared=True).mean()
        covariance = self.covariances.update(features, p.argmax(1))
        augment = augmented_surprise(
            *(logits, self.net.classifier.weight, covariance, p.argmax(1)),
            self.strength * self.progress,
        ).mean()
        distance = covariance_distance(covariance, bank.p)
        weight = self.disperse * inverse_decay(self.progress, power=self.disperse_decay)
        loss = attract + weight * disperse + self.augment * augment - self.disentangle * distance
        parts = {"attract": attract, "disperse": disperse}
        return self.record_losses(loss, parts | {"augment": augment, "distance": distance})

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the adapted network."""
        return Prediction(self.net(images))
