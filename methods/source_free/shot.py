"""SHOT: source hypothesis transfer, closed and open set."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    DecayingSGD,
    OfflineMethod,
    Prediction,
    SourceFree,
    TargetBatch,
    set_features,
    views,
)
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.divergence import normalised_entropy
from dabench.methods.functional.losses import information_maximisation
from dabench.methods.functional.mixture import two_means_cut


class Shot(OfflineMethod):
    """SHOT (Liang et al., ICML 2020), after the authors' code (tim-learn/SHOT, object/).

    The classifier is frozen; the rest learns by information maximisation and centroid
    pseudo-labels. Open-set form: 2-means on normalised entropy marks unknown images before every
    epoch; they are left out of the pseudo-label and entropy terms but stay in the diversity term.
    At the end the 2-means runs once more over the adapt set and its cut is frozen.
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
    """

    version: ClassVar[str] = "2"
    lr: Annotated[float, Field(gt=0)] = 1e-2
    backbone_factor: Annotated[float, Field(ge=0)] = 0.1
    pseudo_weight: Annotated[float, Field(ge=0)] = 0.3
    im_weight: Annotated[float, Field(ge=0)] = 1.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model and freeze its classifier."""
        super().begin(access)
        self.net = access.source_model
        self.net.classifier.requires_grad_(False)
        self.cut = float("inf")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with SHOT's decay on backbone and bottleneck."""
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        return DecayingSGD(groups, total_steps=int(self.trainer.estimated_stepping_batches))

    def on_train_epoch_start(self) -> None:
        """Refresh the known set and the pseudo-labels."""
        features, p = set_features(self.net, self.access.target)
        self.known = torch.ones(len(p), dtype=torch.bool, device=p.device)
        if self.access.task.open_set:
            entropy = normalised_entropy(p)
            cut = two_means_cut(entropy.cpu().double().numpy(), seed=self.access.seed)
            self.known = entropy <= cut
            share = float((~self.known).float().mean())
            self.access.recorder.put("split/unknown_share", self.current_epoch, share)
        self.labels = centroid_labels(features, p, self.known)
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Pseudo-label cross-entropy on known images, information maximisation."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        known = self.known[batch.index].to(logits)
        p = logits.softmax(1)
        ce = F.cross_entropy(logits, self.labels[batch.index], reduction="none")
        pseudo = (known * ce).sum() / known.sum().clamp(min=1)
        entropy, diversity = information_maximisation(p, torch.ones_like(known), known)
        loss = self.pseudo_weight * pseudo + self.im_weight * (entropy - diversity)
        return self.record_losses(
            loss, {"pseudo": pseudo, "entropy": entropy, "diversity": diversity}
        )

    def calibrate(self) -> None:
        """Freeze the entropy cut on the adapt set."""
        if self.access.task.open_set:
            _, p = set_features(self.net, self.access.target)
            entropy = normalised_entropy(p).cpu().double().numpy()
            self.cut = two_means_cut(entropy, seed=self.access.seed)

    def predict(self, images: Tensor) -> Prediction:
        """Closed-set prediction, and "unknown" above the entropy cut."""
        logits = self.net(images)
        if not self.access.task.open_set:
            return Prediction(logits)
        entropy = normalised_entropy(logits.softmax(1))
        return Prediction(logits, entropy, entropy > self.cut)
