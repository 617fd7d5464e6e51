"""SHOT: source hypothesis transfer, closed, open and partial set."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import SourceFree, TargetBatch, set_features, views
from dabench.methods.entropy_cut import EntropyCut
from dabench.methods.functional.bounds import BelowOne
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.losses import AveragedMarginal, information_maximisation, mean_over

#: predictions that a class needs more of to be a label, where the target may lack classes
PARTIAL_LEAST = 10


class Shot(EntropyCut):
    """SHOT (Liang et al., ICML 2020), after the authors' code (tim-learn/SHOT, object/).

    The classifier is frozen; the rest learns by information maximisation and centroid
    pseudo-labels. Open-set form: 2-means on normalised entropy marks unknown images before every
    epoch; they are left out of the pseudo-label and entropy terms but stay in the diversity term.
    At the end the 2-means runs once more over the adapt set and its cut is frozen. Partial form:
    no diversity, and only classes with more than ten predicted images are candidates for labels.
    Deviations: pseudo-labels are refreshed every epoch whatever the number of epochs; views come
    from the suite's shared weak policy; the rate's decay starts at step 0 (there: 1); logarithms
    clamp p at 1e-10 (there: p + 1e-5); 2-means takes the best of ten starts, whatever
    scikit-learn's default; a class that lost its images in the first round of centroids is no
    candidate in the second (there: its distance is undefined).

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        pseudo_weight: weight of the pseudo-label cross-entropy.
        im_weight: weight of information maximisation.
        marginal: share of the past kept in the averaged use of classes; 0 = that of the batch, as
            there, which does not see classes that a small batch has no room for.
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"marginal"})
    version: ClassVar[str] = "2"
    lr: Annotated[float, Field(gt=0)] = 1e-2
    backbone_factor: Annotated[float, Field(ge=0)] = 0.1
    pseudo_weight: Annotated[float, Field(ge=0)] = 0.3
    im_weight: Annotated[float, Field(ge=0)] = 1.0
    marginal: BelowOne = 0.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model and freeze its classifier."""
        super().begin(access)
        self.net = access.source_model
        self.net.classifier.requires_grad_(False)
        self.use = AveragedMarginal(self.marginal)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with SHOT's decay on backbone and bottleneck."""
        return self.decaying_sgd(self.net.parameter_groups(self.lr, self.backbone_factor))

    def on_train_epoch_start(self) -> None:
        """Refresh the known set and the pseudo-labels."""
        features, p = set_features(self.net, self.access.target)
        self.known = self.known_rows(p)
        least = PARTIAL_LEAST if self.access.task.partial else 0
        self.labels = centroid_labels(features, p, self.known, least)
        self.net.train()

    def losses(self, logits: Tensor, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return SHOT's loss of a batch's (B, K) logits, and its parts."""
        known = self.known[index].to(logits)
        ce = F.cross_entropy(logits, self.labels[index], reduction="none")
        pseudo = mean_over(ce, known, known)
        p = logits.softmax(1)
        entropy, diversity = information_maximisation(p, torch.ones_like(known), known)
        if self.marginal:
            diversity = self.use.surprise(p)
        if self.access.task.partial:  # classes are not in equal use
            diversity = torch.zeros_like(diversity)
        loss = self.pseudo_weight * pseudo + self.im_weight * (entropy - diversity)
        return loss, {"pseudo": pseudo, "entropy": entropy, "diversity": diversity}

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Pseudo-label cross-entropy on known images, information maximisation."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        return self.record_losses(*self.losses(logits, batch.index))
