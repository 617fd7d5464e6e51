"""RFC: distillation, neighbours, and a review of the classes that are about to be forgotten."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    BlackBox,
    TargetBatch,
    fixed_statistics,
    inverse_decay,
    set_features,
    set_probabilities,
    views,
)
from dabench.methods.black_box.student import MemoryStudent
from dabench.methods.functional import distillation, divergence, losses
from dabench.methods.functional.attraction import attraction, dispersion
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.memory import blend
from dabench.methods.functional.neighbours import FeatureBank, within_class
from dabench.methods.functional.noise import reverse_cross_entropy
from dabench.methods.functional.selection import review_rows, weak_classes


class RFC(MemoryStudent):
    """RFC, after the authors' code (shaojiezhanglalala/RFC).

    First DINE's distillation, then AaD: answers are drawn to those of neighbours. Beside both, in
    every epoch, the classes that are predicted seldom and with doubt are reviewed: their images
    with the smallest losses learn their labels, by cross-entropy both ways, and their rows of the
    memory follow.
    Deviations: the stages share the budget's epochs; reviewed images join the batches, and each
    weighs as much as an image of the batch (there: a pass of their own); one class and one image a
    class at least are reviewed, and a class without any image never (there: it counts as the one
    most in doubt, and takes a place); neighbours and dispersion as ``aad`` has them, in a bank
    filled from plain images (there: from random numbers); the use of classes is an average over
    batches; mixed images move no running statistics; the rate falls every step (there: every
    epoch).

    Args:
        distil: share of the epochs, the first ones, that distill.
        im_weight: weight of information maximisation in the distillation.
        alpha: of the distillation's mixup.
        mix_weight: weight of the mixup consistency.
        neighbours: images that attract.
        disperse: weight of the dispersion at the start of its stage.
        disperse_decay: power of its decay (Office-Home: 0).
        review_classes: share of the classes that are reviewed (VisDA-C: .1); 0 = no review.
        review_images: of a class, by the root of its size times the median one (VisDA-C: .05).
    """

    version: ClassVar[str] = "2"

    distil: Annotated[float, Field(gt=0, le=1)] = 0.1
    im_weight: NonNegative = 1.0
    alpha: Positive = 0.3
    mix_weight: NonNegative = 1.0
    neighbours: Annotated[int, Field(ge=1)] = 3
    disperse: NonNegative = 1.0
    disperse_decay: NonNegative = 2.0
    review_classes: Share = 0.2
    review_images: Positive = 0.4

    def begin(self, access: BlackBox) -> None:
        """As DINE; the labels are the classes that the oracle names."""
        super().begin(access)
        self.labels = self.bank.argmax(1)
        self.loss = torch.zeros_like(self.bank[:, 0])
        self.count = within_class(self.neighbours, len(access.target), access.task.num_classes)
        self.note("neighbours", self.count)

    def on_train_epoch_start(self) -> None:
        """Refresh memory, losses and the rows to review; fill the bank when AaD begins."""
        epoch, first = self.current_epoch, self.first_epochs(self.distil)
        self.distilling = epoch < first
        if self.refresh_bank():
            self.labels = self.bank.argmax(1)
        p = self.bank
        if epoch == first:
            self.near = FeatureBank(*set_features(self.net, self.access.target))
            p = self.near.p
        elif epoch:
            p = set_probabilities(self.net, self.access.target)
        loss = divergence.cross_entropy_to_label(p, self.labels)
        kept = self.memory if epoch else 0.0
        self.loss = blend(self.loss, loss, kept)
        self.rows = self.labels.new_zeros(0)
        if self.review_classes:
            classes = weak_classes(p, self.labels, self.review_classes)
            rows = review_rows(self.loss, self.labels, classes, self.review_images)
            self.rows = rows[torch.randperm(len(rows)).to(rows.device)]
        self.access.recorder.put("review/images", epoch, float(len(self.rows)))
        self.net.train()

    def to_review(self, batch_idx: int) -> TargetBatch | None:
        """Return the images whose turn it is: all of them come once an epoch."""
        part = self.rows.tensor_split(int(self.trainer.num_training_batches))[batch_idx].tolist()
        return self.access.target.__getitems__(part).to(self.device) if part else None

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Distillation or AaD, and the review."""
        flip, again = self.access.task.flip, self.to_review(batch_idx)
        weak = views.weak(batch.images, flip=flip)
        shown = [weak]
        if again is not None:
            shown += [views.weak(again.images, flip=flip), views.strong(again.images, flip=flip)]
        features = self.net.features(torch.cat(shown))
        logits = self.net.classifier(features)
        own = logits[: len(weak)]
        if self.distilling:
            loss, parts = self._distillation(batch.index, weak, own)
        else:
            loss, parts = self._neighbours(batch.index, features[: len(weak)], own.softmax(1))
        if again is not None:
            review = self._review(again.index, *logits[len(weak) :].chunk(2))
            review = review * len(again.images) / len(weak)
            loss, parts["review"] = loss + review, review
        return self.record_losses(loss, parts)

    def _distillation(
        self, index: Tensor, images: Tensor, logits: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        p = logits.softmax(1)
        distil = losses.kl_divergence(self.bank[index], logits).mean()
        entropy, diversity = losses.entropy(p).mean(), self.diversity(p)
        with fixed_statistics(self.net):
            mixup = distillation.mixup_consistency(self.net, images, logits, self.alpha)
        loss = distil + self.im_weight * (entropy - diversity) + self.mix_weight * mixup
        return loss, {"distillation": distil, "diversity": diversity, "mixup": mixup}

    def _neighbours(
        self, index: Tensor, features: Tensor, p: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.near.write(index, features, p)
        places = self.near.nearest(index, self.count, features)
        attract, disperse = attraction(p, self.near.p[places]).mean(), dispersion(p).mean()
        before = self.first_epochs(self.distil) / (self.trainer.max_epochs or 1)
        done = max(0.0, (self.progress - before) / (1 - before))
        weight = self.disperse * inverse_decay(done, power=self.disperse_decay)
        return attract + weight * disperse, {"attract": attract, "disperse": disperse}

    def _review(self, index: Tensor, weak: Tensor, strong: Tensor) -> Tensor:
        """Return the reviewed images' loss, and move their rows of the memory."""
        labels = self.labels[index]
        p = (weak.softmax(1) + strong.softmax(1)) / 2
        hard = divergence.onehot(labels, p.shape[1]).to(p)
        back = reverse_cross_entropy(p, hard).mean()
        self.bank[index] = blend(self.bank[index], p.detach(), self.memory)
        return F.cross_entropy(weak, labels) + F.cross_entropy(strong, labels) + back
