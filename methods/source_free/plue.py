"""PLUE: what neighbours agree on, learned as what an image is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    ConfigError,
    OfflineMethod,
    Prediction,
    SourceFree,
    TargetBatch,
    fixed_statistics,
    frozen_copy,
    set_features,
    views,
)
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.contrastive import instance_contrast
from dabench.methods.functional.divergence import normalised_entropy
from dabench.methods.functional.feature_queue import FeatureQueue
from dabench.methods.functional.losses import AveragedMarginal
from dabench.methods.functional.negative_learning import (
    complementary_classes,
    negative_loss,
    never_alike,
)
from dabench.methods.functional.neighbours import FeatureBank, bank_probabilities, within_class
from dabench.methods.functional.online import ema_update


class PLUE(OfflineMethod):
    """PLUE (Litrico et al., CVPR 2023), after the authors' code (named after the paper's title).

    The mean answer of an image's nearest rows in a bank names its class, and its entropy how much
    that counts. A strong view learns classes that the image is not (negative learning), and to tell
    its other view from earlier images that never had its label of the time; classes are kept in
    equal use. All layers learn, at one rate.
    Deviations: the use of classes is averaged over batches (``marginal`` 0 is the published form);
    no more neighbours than a class has images on average, and a queue of half the set at most; the
    bank has one row an image (there: a ring that may hold an image twice); labels of earlier epochs
    begin as the source model's, and the queue empty (there: both random); strong views move no
    BatchNorm statistics; the last batch counts. There, the neighbours' answers are reported, chosen
    by target labels: here the network's are, the neighbours' beside as ``refined``.

    Args:
        lr: learning rate of SGD without momentum (DomainNet: 1e-3).
        backbone_factor: learning-rate factor of the backbone.
        neighbours: rows of the bank that name an image's class.
        negatives: classes an image is told not to be, a step; one teaches 1 / (K - 1) of what a
            label does.
        temperature: of the contrast.
        ema_decay: of the network that makes keys.
        queue: keys that are remembered.
        history: epochs of labels that decide who is told apart.
        contrast: weight of the contrast.
        diversity_weight: weight of the classes' equal use, in each of two views.
        marginal: share of the past kept in the averaged use of classes.
    """

    version: ClassVar[str] = "1"

    lr: Positive = 1e-2
    backbone_factor: NonNegative = 1.0
    neighbours: Annotated[int, Field(ge=1)] = 10
    negatives: Annotated[int, Field(ge=1)] = 1
    temperature: Positive = 0.07
    ema_decay: Share = 0.999
    queue: Annotated[int, Field(ge=1)] = 16384
    history: Annotated[int, Field(ge=1)] = 5
    contrast: NonNegative = 1.0
    diversity_weight: NonNegative = 1.0
    marginal: BelowOne = 0.9

    def begin(self, access: SourceFree) -> None:
        """Take the source model, and copy it for keys.

        Raises:
            ConfigError: there is one class alone, so that no image can be another.
        """
        super().begin(access)
        self.k, size = access.task.num_classes, len(access.target)
        if self.k < 2:
            raise ConfigError("plue learns what an image is not, and there is one class: use aad")
        self.net, self.encoder = access.source_model, frozen_copy(access.source_model)
        self.count = within_class(self.neighbours, size, self.k)
        self.note("neighbours", self.count)
        self.uses = AveragedMarginal(self.marginal), AveragedMarginal(self.marginal)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD at a constant rate, without momentum."""
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        return torch.optim.SGD(groups, weight_decay=5e-4)

    def on_train_epoch_start(self) -> None:
        """Fill the bank anew; at the start, the labels' history."""
        self._fill()
        if self.current_epoch == 0:
            named = self._named(self.bank.z).argmax(1)
            self.labels = named[:, None].repeat(1, self.history)
            size = min(self.queue, max(1, len(named) // 2))
            self.keys = FeatureQueue(torch.zeros_like(self.bank.z[:size]), named.new_zeros(size))
        self.net.train()
        self.encoder.train()

    def _fill(self) -> None:
        vars(self).pop("bank", None)  # first, or features would be held thrice
        self.bank = FeatureBank(*set_features(self.net, self.access.target))

    def _named(self, features: Tensor) -> Tensor:
        return bank_probabilities(features.detach(), self.bank.z, self.bank.p, self.count)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Negative learning, contrast and the use of classes."""
        images, flip, index = batch.images, self.access.task.flip, batch.index
        weak = views.weak(images, flip=flip)
        one, other = views.strong(images, flip=flip), views.strong(images, flip=flip)
        plain = self.net.features(weak)
        p = self.net.classifier(plain).softmax(1)
        named = self._named(plain)
        with fixed_statistics(self.net):
            features = self.net.features(one)
        logits = self.net.classifier(features)
        ema_update(list(self.encoder.parameters()), list(self.net.parameters()), self.ema_decay)
        with torch.no_grad():
            key = F.normalize(self.encoder.features(other), dim=1)
        label = named.argmax(1)
        wrong = complementary_classes(label, self.k, self.negatives)
        negative = ((-normalised_entropy(named)).exp() * negative_loss(logits, wrong)).mean()
        stored, whose = self.keys.stored()
        apart = never_alike(self.labels[index], self.labels[whose])
        query = F.normalize(features, dim=1)
        # a copy: the queue changes before the gradient is computed
        contrast = instance_contrast(query, key, stored.clone(), apart, self.temperature)
        spread = self.uses[0].surprise(p) + self.uses[1].surprise(logits.softmax(1))
        self.keys.put(key, index)
        self.labels[index, self.current_epoch % self.history] = label
        self.bank.write(index, plain, p)
        loss = negative + self.contrast * contrast - self.diversity_weight * spread
        parts = {"negative": negative, "contrast": contrast, "diversity": spread}
        return self.record_losses(loss, parts)

    def calibrate(self) -> None:
        """Fill the bank with the last network's answers."""
        self._fill()

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the adapted network."""
        return Prediction(self.net(images))

    def also(self, images: Tensor) -> Mapping[str, Prediction]:
        """The neighbours' mean answer, which the authors report."""
        named = self._named(self.net.features(images))
        return {"refined": Prediction(named.clamp_min(1e-10).log())}
