"""AaD: attracting and dispersing, closed and open set."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import (
    SourceFree,
    TargetBatch,
    inverse_decay,
    set_features,
    set_probabilities,
    views,
)
from dabench.methods.entropy_cut import EntropyCut
from dabench.methods.functional.attraction import attraction, dispersion
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.losses import mean_over
from dabench.methods.functional.neighbours import FeatureBank, within_class


class AaD(EntropyCut):
    """AaD (Yang et al., NeurIPS 2022), after the authors' code (Albert0147/AaD_SFDA).

    An image's answer is drawn to the stored answers of its nearest neighbours in a bank of the
    target's features, and away from the other answers of its batch, the less the longer training
    lasts. All layers learn. Open-set form (``oda/``): SHOT's 2-means on entropy before every epoch;
    known images alone are attracted and renew their rows of the bank, all are dispersed, and the
    classifier is frozen.
    Deviations: the dispersion is scaled by 63 / (B - 1), because the published sum is weaker in
    batches of fewer than 64; no more neighbours than a class has images on average; a batch without
    known images is still dispersed (there: left out); the bank is filled from plain images (there:
    from views); an image's own row is left out by its place (there: the nearest row is).

    Args:
        lr: learning rate of bottleneck and classifier; leave out for 1e-3, in open sets 1e-2.
        backbone_factor: learning-rate factor of the backbone.
        power: of the learning-rate decay; leave out for 0 (a constant rate), in open sets .75
            (VisDA-C: .75, there with a weight decay of 1e-3, here 5e-4).
        neighbours: images that attract (VisDA-C: 5).
        disperse: weight of the dispersion at the start.
        disperse_decay: power of its decay (1 + 10 progress)^-power (Office-Home: 0, VisDA-C: 5).
    """

    version: ClassVar[str] = "1"

    lr: Positive | None = None
    backbone_factor: NonNegative = 0.1
    power: NonNegative | None = None
    neighbours: Annotated[int, Field(ge=1)] = 3
    disperse: NonNegative = 1.0
    disperse_decay: NonNegative = 1.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model; in open sets its classifier stays."""
        super().begin(access)
        self.net = access.source_model
        self.net.classifier.requires_grad_(not access.task.open_set)
        self.count = within_class(self.neighbours, len(access.target), access.task.num_classes)
        self.note("neighbours", self.count)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, with the settings that the authors have for closed and for open sets."""
        lr, power, decay = (1e-2, 0.75, 1e-3) if self.access.task.open_set else (1e-3, 0.0, 5e-4)
        groups = self.net.parameter_groups(self.lr or lr, self.backbone_factor)
        return self.decaying_sgd(
            groups,
            factor=partial(inverse_decay, power=power if self.power is None else self.power),
            weight_decay=decay,
        )

    def on_train_epoch_start(self) -> None:
        """Fill the bank at the start; in open sets, renew the known set."""
        if self.current_epoch == 0:
            self.bank = FeatureBank(*set_features(self.net, self.access.target))
            self.known = self.known_rows(self.bank.p)
        elif self.access.task.open_set:
            self.known = self.known_rows(set_probabilities(self.net, self.access.target))
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Attraction of the known images, dispersion of all."""
        features = self.net.features(views.weak(batch.images, flip=self.access.task.flip))
        p = self.net.classifier(features).softmax(1)
        index, known = batch.index, self.known[batch.index]
        self.bank.write(index[known], features[known], p[known])
        near = self.bank.nearest(index, self.count, features)
        share = known.to(p)
        attract = mean_over(attraction(p, self.bank.p[near]), share, share)
        disperse = dispersion(p).mean()
        weight = self.disperse * inverse_decay(self.progress, power=self.disperse_decay)
        parts = {"attract": attract, "disperse": disperse}
        return self.record_losses(attract + weight * disperse, parts)
