"""AdaContrast on a stream: labels from neighbours, contrast with a queue of keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch, frozen_copy, views
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.contrastive import instance_contrast
from dabench.methods.functional.feature_queue import FeatureQueue
from dabench.methods.functional.gradient_step import GradientStep, GradNorm, learnable
from dabench.methods.functional.linear_head import linear_head
from dabench.methods.functional.losses import entropy
from dabench.methods.functional.moving_norm import MovingNorm, moving_statistics
from dabench.methods.functional.neighbours import bank_probabilities
from dabench.methods.functional.normalisation import exchange_batch_norms
from dabench.methods.functional.online import ema_update


class AdaContrastOnline(OnlineMethod):
    """AdaContrast (Chen et al., CVPR 2022), online form after the code of a common benchmark.

    All weights learn, on two strong views of every image: the cross-entropy to its label, a
    contrast of one view with the other among earlier keys of other labels, and the entropy of the
    mean prediction. Labels are those of the nearest earlier images, by an averaged teacher's
    features, once enough were seen. BatchNorm goes on in train mode, and answers by what it kept.
    Deviations: views have the suite's geometry, colours, blur and erased square in place of
    MoCo-v2's; a queue's key is compared under its own label (there, the oldest keys under the
    labels of the batch that replaces them); dropout stays off.

    Args:
        lr: learning rate of SGD with Nesterov's momentum; of all layers.
        momentum: of SGD.
        weight_decay: L2 penalty.
        queue: keys, and features with their probabilities, that are remembered.
        temperature: of the contrast.
        neighbours: that an image's label comes from.
        warm_up: images after which neighbours say the labels, and not the network alone.
        contrast: weight of the contrast.
        diversity: weight of the mean prediction's entropy.
        ema_decay: of the teacher's weights.
        bn_momentum: weight of a pass in BatchNorm's running statistics.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    answers: ClassVar[Literal["before", "after"]] = "after"

    lr: Positive = 2e-4
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 1e-4
    queue: Annotated[int, Field(ge=1)] = 16384
    temperature: Positive = 0.07
    neighbours: Annotated[int, Field(ge=1)] = 10
    warm_up: Annotated[int, Field(ge=1)] = 1024
    contrast: NonNegative = 1.0
    diversity: NonNegative = 1.0
    ema_decay: Share = 0.999
    bn_momentum: Share = 0.1
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model and copy it as teacher; draw the first keys and their labels.

        Raises:
            ConfigError: the classifier is no linear layer.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        head = linear_head(self.net.classifier, "adacontrast-online", "its keys have the width")
        exchange_batch_norms(self.net, lambda layer: MovingNorm(layer, 0.0))
        self.teacher = frozen_copy(self.net)
        k, keys = access.task.num_classes, torch.randn(self.queue, head.in_features)
        labels = torch.randint(k, (self.queue,))
        keys = F.normalize(keys, dim=1).to(self.net.mean)
        self.keys = FeatureQueue(keys, labels.to(keys.device))
        self.bank = FeatureQueue(torch.zeros_like(keys), keys.new_zeros(self.queue, k))
        optimiser = torch.optim.SGD(
            learnable(self.net).values(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )

    def step(self, batch: TargetBatch) -> Tensor:
        """Label the batch, learn from its views, remember it, and answer."""
        images, flip = batch.images, self.access.task.flip
        weak = views.weak(images, flip=flip)
        one, other = views.strong(images, flip=flip), views.strong(images, flip=flip)
        labels = self._labels(weak)
        ema_update(list(self.teacher.parameters()), list(self.net.parameters()), self.ema_decay)
        with torch.no_grad(), moving_statistics(self.teacher, self.bn_momentum):
            key = F.normalize(self.teacher.features(other), dim=1)
        with moving_statistics(self.net, self.bn_momentum):
            features = self.net.features(one)
        self.update(self._loss(features, key, labels))
        self.keys.put(key, labels)
        with torch.no_grad(), moving_statistics(self.teacher, self.bn_momentum):
            features = self.teacher.features(weak)
            self.bank.put(features, self.teacher.classifier(features).softmax(1))
        with torch.no_grad():
            answer: Tensor = self.net(images)
        return answer

    @torch.no_grad()
    def _labels(self, weak: Tensor) -> Tensor:
        """Return (B,) classes by the neighbours in the bank, or at first by the network."""
        with moving_statistics(self.net, self.bn_momentum):
            features = self.net.features(weak)
        if int(self.bank.arrived) < self.warm_up:
            own: Tensor = self.net.classifier(features).argmax(1)
            return own
        stored, p = self.bank.stored()
        stored = F.normalize(stored, dim=1)
        return bank_probabilities(features, stored, p, self.neighbours).argmax(1)

    def _loss(self, features: Tensor, key: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of (B, D) features of one view, with (B, D) keys of the other."""
        logits = self.net.classifier(features)
        negative = labels[:, None] != self.keys.answers[None]
        query = F.normalize(features, dim=1)
        contrast = instance_contrast(query, key, self.keys.features, negative, self.temperature)
        spread = entropy(logits.softmax(1).mean(0, keepdim=True)).sum()
        loss = F.cross_entropy(logits, labels) + self.contrast * contrast
        return loss - self.diversity * spread

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the running statistics."""
        return Prediction(self.net(images))
