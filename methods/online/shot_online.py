"""SHOT on a stream: information maximisation and pseudo-labels from running centroids."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.centroids import running_labels
from dabench.methods.functional.frozen_head import FrozenHead
from dabench.methods.functional.gradient_step import GradNorm
from dabench.methods.functional.losses import information_maximisation


class ShotOnline(OnlineMethod):
    """SHOT (Liang et al., ICML 2020), one step a batch: our streaming form of ``shot``.

    The classifier is frozen; the rest learns by information maximisation and the cross-entropy with
    centroid pseudo-labels, as offline. The offline method builds its centroids from the whole
    target set; here they come from the batch and, fading, from earlier ones.
    Deviations beside: no augmentation; BatchNorm normalises by the batch, in training and in
    prediction, and its running statistics stay the source's; the rate is constant.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        momentum: of SGD (Nesterov).
        weight_decay: L2 penalty.
        memory: share of the centroids' past that is kept at each batch; 0 = batch only.
        pseudo_weight: weight of the pseudo-label cross-entropy.
        im_weight: weight of information maximisation.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    version: ClassVar[str] = "2"
    sums: Tensor
    mass: Tensor

    lr: Positive = 1e-2
    backbone_factor: NonNegative = 0.1
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 1e-3
    memory: BelowOne = 0.9
    pseudo_weight: NonNegative = 0.3
    im_weight: NonNegative = 1.0
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model and freeze its classifier."""
        super().begin(access)
        self.net = access.source_model.eval()
        k, width = self.net.classifier.weight.shape
        self.register_buffer("sums", self.net.mean.new_zeros(k, width + 1))
        self.register_buffer("mass", self.net.mean.new_zeros(k))
        self.update = FrozenHead.from_options(self).start(
            self.net, self.net.classifier, self.net.parameter_groups, access.recorder.put
        )

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer; label the batch by the centroids; take one step."""
        features = self.net.features(batch.images)
        logits: Tensor = self.net.classifier(features)
        p = logits.softmax(1)
        labels, sums, mass = running_labels(
            features.detach(), p.detach(), self.sums, self.mass, self.memory
        )
        self.sums.copy_(sums)
        self.mass.copy_(mass)
        entropy, diversity = information_maximisation(p)
        pseudo = F.cross_entropy(logits, labels)
        self.update(self.pseudo_weight * pseudo + self.im_weight * (entropy - diversity))
        return logits.detach()

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
