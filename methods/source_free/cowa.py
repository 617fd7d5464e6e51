"""CoWA-JMDS: labels from the data's clusters, weighed by what model and data say of them."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    OfflineMethod,
    Prediction,
    SourceFree,
    TargetBatch,
    inverse_decay,
    set_features,
    views,
)
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.distillation import mix, mixup_weights
from dabench.methods.functional.divergence import onehot
from dabench.methods.functional.joint_score import data_log_posterior, joint_score
from dabench.methods.functional.losses import soft_cross_entropy


class CoWA(OfflineMethod):
    """CoWA-JMDS (Lee et al., ICML 2022), after the authors' code (Jhyun17/CoWA-JMDS).

    Before every epoch a Gaussian mixture over the target's features, one component a class, gives
    labels; a label weighs by the gap between its two likeliest classes and by the model's own
    probability of it. Images, labels and weights are mixed alike. All layers learn; nothing makes
    answers sure or classes equal.
    Deviations: covariances are shrunk towards their average, because classes of fewer images than
    the features have numbers are singular otherwise (there: a ridge alone); logarithms of softmax
    (there: p + 1e-6); no warm-up (VisDA-C there: one epoch whose loss counts a millionth).

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        head_factor: learning-rate factor of the classifier.
        power: of the learning-rate decay; 0 = a constant rate.
        alpha: of mixup's Beta distribution, a draw an image; 0 = no mixup (VisDA-C: 2).
    """

    version: ClassVar[str] = "1"

    lr: Positive = 1e-2
    backbone_factor: NonNegative = 0.1
    head_factor: NonNegative = 0.1
    power: NonNegative = 0.0
    alpha: NonNegative = 0.2

    def begin(self, access: SourceFree) -> None:
        """Take the source model."""
        super().begin(access)
        self.net = access.source_model

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD on all layers, the classifier at a rate of its own."""
        head = self.net.classifier.requires_grad_(False)
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        head.requires_grad_(True)
        groups.append({"params": list(head.parameters()), "lr": self.lr * self.head_factor})
        return self.decaying_sgd(groups, factor=partial(inverse_decay, power=self.power))

    def on_train_epoch_start(self) -> None:
        """Label the adapt set, and weigh the labels."""
        features, p = set_features(self.net, self.access.target)
        log_gamma = data_log_posterior(F.normalize(features, dim=1), p)
        self.labels, self.weight = joint_score(log_gamma, p)
        put, epoch = self.access.recorder.put, self.current_epoch
        put("labels/mean_weight", epoch, float(self.weight.mean()))
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Weighted cross-entropy on mixed images."""
        images = views.weak(batch.images, flip=self.access.task.flip)
        weight = self.weight[batch.index]
        target = onehot(self.labels[batch.index], self.access.task.num_classes).to(weight)
        if self.alpha:
            order = torch.randperm(len(images), device=images.device)
            share = mixup_weights(len(images), self.alpha).to(images)
            images, target, weight = (mix(part, order, share) for part in (images, target, weight))
        loss = (weight * soft_cross_entropy(self.net(images), target)).mean()
        return self.record_losses(loss, {"labels": loss})

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the adapted network."""
        return Prediction(self.net(images))
