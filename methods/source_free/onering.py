"""OneRing: a node for "unknown" that is second for all that is known."""

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
    views,
)
from dabench.methods.functional.attraction import PUBLISHED_BATCH, attraction, dispersion
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.linear_head import linear_head
from dabench.methods.functional.losses import entropy, mean_over
from dabench.methods.functional.neighbours import FeatureBank, within_class
from dabench.methods.functional.ring_node import fit_ring_node
from dabench.methods.functional.semi_supervised import surest_of_each_class
from dabench.methods.source_free.unknown_nodes import NodesForUnknown, set_row


class OneRing(NodesForUnknown):
    """OneRing (Yang et al., 2022), after the authors' code (Albert0147/OneRing_SF-OPDA), changed.

    A node for "unknown" comes second for every image of a known class. Images that are called known
    and those called unknown get surer, each side by itself, and are drawn to the stored answers of
    their nearest neighbours; the known ones disperse over the K classes. The head is frozen.
    **Without source data**: in the paper the source model is trained with its node. Here everybody
    starts from the same source model, and the node is fitted by the paper's loss to the surest
    images of every predicted class of the target, on frozen features, before the first step.
    As in the code, a side's means are divided once more by its images, so that steps are small.
    Deviations: that number, and the dispersion, are those of a batch of 64 with the same share of
    known images, whatever the batch; no more neighbours than a class has images on average; the
    bank is filled from plain images; an image's own row is left out by its place; logarithms of
    clamped p.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        power: of the learning-rate decay.
        neighbours: images that attract.
        disperse: weight of the dispersion.
        entropy_weight: weight of the entropies.
    """

    version: ClassVar[str] = "1"

    lr: Positive = 1e-3
    backbone_factor: NonNegative = 1.0
    power: NonNegative = 0.75
    neighbours: Annotated[int, Field(ge=1)] = 3
    disperse: NonNegative = 1.0
    entropy_weight: NonNegative = 1.0

    def begin(self, access: SourceFree) -> None:
        """Fit the node to the target's surest images, append it, and freeze the head.

        Raises:
            ConfigError: the classifier is no linear layer.
        """
        super().begin(access)
        linear_head(self.net.classifier, "onering", "its node is one more row", "shot")
        features, p = set_features(self.net, access.target)
        rows = surest_of_each_class(p)
        if not bool(rows.any()):  # all as sure: all of them
            rows = torch.ones_like(rows)
        with torch.no_grad():
            logits = self.net.classifier(features[rows])
        node = fit_ring_node(features[rows], logits, p[rows].argmax(1))
        self.append_nodes(1)
        set_row(self.net.classifier, self.k, *node)
        self.net.classifier.requires_grad_(False)
        self.count = within_class(self.neighbours, len(access.target), self.k)
        self.note("neighbours", self.count)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD on backbone and bottleneck."""
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
        """Entropy and neighbours on both sides, dispersion on the known one."""
        features = self.net.features(views.weak(batch.images, flip=self.access.task.flip))
        p, index, bank = self.net.classifier(features).softmax(1), batch.index, self.bank
        bank.write(index, features, p)
        near = bank.nearest(index, self.count)
        known = p.argmax(1) < self.k
        drawn, doubt = attraction(p, bank.p[near]), entropy(p)
        sides = [known.to(p), (~known).to(p)]
        # as many images as a side would have in a published batch
        sizes = [(PUBLISHED_BATCH * side.mean()).clamp_min(1) for side in sides]

        def both(values: Tensor) -> Tensor:
            means = [
                mean_over(values, side, side) / n for side, n in zip(sides, sizes, strict=True)
            ]
            return torch.stack(means).sum()

        attract, sure = both(drawn), both(doubt)
        apart = dispersion(p[known, : self.k], float(sizes[0]))
        disperse = apart.sum() / known.sum().clamp_min(1) / sizes[0]
        share = float(sides[1].mean())
        self.access.recorder.put("split/unknown_share", self.trainer.global_step, share)
        loss = self.entropy_weight * sure + attract + self.disperse * disperse
        parts = {"entropy": sure, "attract": attract, "disperse": disperse}
        return self.record_losses(loss, parts)
