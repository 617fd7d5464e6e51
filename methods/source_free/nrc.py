"""NRC: neighbours, and above all those that are neighbours of each other."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

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
from dabench.methods.functional.attraction import attraction
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.losses import AveragedMarginal
from dabench.methods.functional.neighbours import FeatureBank, reciprocal_weights, within_class


class NRC(OfflineMethod):
    """NRC (Yang et al., NeurIPS 2021), after the authors' code (Albert0147/NRC_SFDA).

    An image's answer is drawn to the stored answers of its nearest neighbours, fully where the
    image is among the neighbour's own neighbours and little where it is not, and a little to the
    answers of the neighbours' neighbours; the classes are kept in equal use. All layers learn.
    Deviations: the classes' use is averaged over batches, the gradient passing the batch's part
    (``marginal`` 0 is the published form, which does not see classes that a small batch has no
    image of); no more neighbours than a class has images on average, throughout (there, on
    Office-Home, more from half-time on); the bank is filled from plain images; an image's own row
    is left out by its place. As there, an image counts among the neighbours of its neighbours, and
    there is no self term beside.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone.
        power: of the learning-rate decay; 0 = a constant rate (VisDA-C: .75).
        neighbours: K (Office-31: 2, VisDA-C: 5).
        expanded: neighbours of each of them (Office-31: 3, VisDA-C: 5).
        weak: weight of one-sided neighbours and of neighbours' neighbours.
        reciprocity: tell mutual neighbours from one-sided ones; none: all count as one-sided, which
            is what the authors' script for VisDA-C comes to.
        marginal: share of the past kept in the averaged use of classes.
        diversity_weight: weight of the classes' equal use.
    """

    version: ClassVar[str] = "1"

    lr: Positive = 1e-3
    backbone_factor: NonNegative = 0.1
    power: NonNegative = 0.0
    neighbours: Annotated[int, Field(ge=1)] = 3
    expanded: Annotated[int, Field(ge=1)] = 2
    weak: Share = 0.1
    reciprocity: Literal["mutual", "none"] = "mutual"
    marginal: BelowOne = 0.9
    diversity_weight: NonNegative = 1.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model."""
        super().begin(access)
        self.net = access.source_model
        size = len(access.target), access.task.num_classes
        self.count = within_class(self.neighbours, *size)
        self.second = within_class(self.expanded, *size)
        self.note("neighbours", self.count)
        self.note("expanded", self.second)
        self.use = AveragedMarginal(self.marginal)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD on all layers."""
        return self.decaying_sgd(
            self.net.parameter_groups(self.lr, self.backbone_factor),
            factor=partial(inverse_decay, power=self.power),
            weight_decay=5e-4,
        )

    def on_train_epoch_start(self) -> None:
        """Fill the bank at the start."""
        if self.current_epoch == 0:
            self.bank = FeatureBank(*set_features(self.net, self.access.target))
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Neighbours, their neighbours, and the use of classes."""
        features = self.net.features(views.weak(batch.images, flip=self.access.task.flip))
        p = self.net.classifier(features).softmax(1)
        index, bank = batch.index, self.bank
        bank.write(index, features, p)
        near = bank.nearest(index, self.count)
        second = bank.nearest(near.flatten(), self.second).view(*near.shape, -1)
        weight = torch.full_like(p[:, :1], self.weak).expand(near.shape)
        if self.reciprocity == "mutual":
            weight = reciprocal_weights(index, second, self.weak).to(p)
        first = attraction(p, bank.p[near], weight).mean()
        further = self.weak * attraction(p, bank.p[second.flatten(1)]).mean()
        diversity = self.use.surprise(p)
        parts = {"neighbours": first, "expanded": further, "diversity": diversity}
        return self.record_losses(first + further - self.diversity_weight * diversity, parts)

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the adapted network."""
        return Prediction(self.net(images))
