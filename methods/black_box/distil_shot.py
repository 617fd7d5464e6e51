"""SHOT on a student: distillation first, then SHOT from there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import TargetBatch, set_features, views
from dabench.methods.black_box.student import DiverseStudent
from dabench.methods.entropy_cut import EntropyCut
from dabench.methods.functional import distillation, losses
from dabench.methods.functional.bounds import NonNegative
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.divergence import onehot


class HDShot(EntropyCut, DiverseStudent):
    """HD-SHOT, **a reconstruction** of the row in the tables of DINE and its descendants.

    First the network learns the classes that the oracle names, with label smoothing. Then its
    classifier is frozen and SHOT goes on (Liang et al., ICML 2020): centroid labels before every
    epoch and information maximisation. The stages share the budget's epochs; each has a decay of
    its own, the second SHOT's with a power of .75. The tables' papers name the row and its two
    steps, and no setting of them. Ours: equal halves, and the use of classes as an average over
    batches. Open sets: in the second stage SHOT's 2-means on entropy marks unknown images, as in
    ``shot``; the tables have no such row.

    Args:
        distil: share of the epochs, the first ones, that learn from the oracle.
        smoothing: label smoothing of the named classes in that stage.
        pseudo_weight: weight of the centroid labels' cross-entropy.
        im_weight: weight of information maximisation.
    """

    reconstruction: ClassVar[bool] = True

    distil: Annotated[float, Field(gt=0, le=1)] = 0.5
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    pseudo_weight: NonNegative = 0.3
    im_weight: NonNegative = 1.0

    def first_labels(self) -> Tensor:
        """Return the (N, K) labels of the first stage."""
        hard = onehot(self.answers.argmax(1), self.access.task.num_classes).to(self.answers)
        return losses.smooth_labels(hard, self.smoothing)

    def decay(self) -> Callable[[float], float]:
        """The decay starts again with the second stage."""
        first = self.first_epochs(self.distil) / (self.trainer.max_epochs or 1)
        return partial(distillation.two_stage_factor, first=first, power=self.power, restart=0.0)

    def on_train_epoch_start(self) -> None:
        """In the second stage, freeze the classifier and refresh the centroid labels."""
        self.distilling = self.current_epoch < self.first_epochs(self.distil)
        if self.current_epoch == 0:
            self.labels = self.first_labels()
        if not self.distilling:
            self.net.classifier.requires_grad_(False)
            features, p = set_features(self.net, self.access.target)
            self.known = self.known_rows(p)
            self.centroid = centroid_labels(features, p, self.known)
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Divergence from the oracle's labels, or SHOT's loss."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        if self.distilling:
            loss = losses.kl_divergence(self.labels[batch.index], logits).mean()
            return self.record_losses(loss, {"distillation": loss})
        p, known = logits.softmax(1), self.known[batch.index].to(logits)
        ce = F.cross_entropy(logits, self.centroid[batch.index], reduction="none")
        pseudo = losses.mean_over(ce, known, known)
        entropy, diversity = losses.mean_over(losses.entropy(p), known, known), self.diversity(p)
        loss = self.pseudo_weight * pseudo + self.im_weight * (entropy - diversity)
        parts = {"pseudo": pseudo, "entropy": entropy, "diversity": diversity}
        return self.record_losses(loss, parts)


class SDShot(HDShot):
    """SD-SHOT, **a reconstruction**: as ``hd-shot``, its first stage from the answers themselves.

    ``smoothing`` plays no part.
    """

    needs_probabilities: ClassVar[bool] = True

    def first_labels(self) -> Tensor:
        """Return the oracle's answers."""
        return self.answers
