"""PeTTA: RoTTA that looks how far it has strayed, and adapts the more slowly for it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from dabench.api import Online, TargetBatch, frozen_copy
from dabench.methods.functional.bounds import NonNegative, Share
from dabench.methods.functional.certainty_diversity import symmetric_cross_entropy
from dabench.methods.functional.class_statistics import (
    divergence,
    move_class_means,
    weight_similarity,
)
from dabench.methods.functional.losses import entropy, soft_cross_entropy
from dabench.methods.functional.moving_norm import robust_statistics
from dabench.methods.online.cotta import augment
from dabench.methods.online.rotta import RoTTA
from dabench.methods.online.source_statistics import STATISTICS, source_statistics


class PeTTA(RoTTA):
    """PeTTA, persistent test-time adaptation (Hoang et al., NeurIPS 2024), after the authors' code.

    Memory, statistics and teacher are ``rotta``'s, with a step at every batch. Means of the
    teacher's features by predicted class are held against the source's: the further they have
    strayed, the more the weights are pulled back to the source's, and the less the teacher follows.
    The student also learns the source model's answers to the memory. Extras: means and variances of
    the source's features by class; the memory.
    Deviations: those of ``rotta``; the source's classes are by label (there: as predicted); classes
    of which the source has fewer than two images have no say in how far it strayed; no true labels
    of the stream are stored (the authors' code keeps them for a log).

    Args:
        loss: sce (both ways, on the images and on their views) or ce (the teacher's answer on the
            views alone; ImageNet and DomainNet).
        follow_rate: share of the student's weights that the teacher takes over, at no divergence.
        pull: weight of the way back, at full divergence; 1 on DomainNet.
        anchor_weight: of the source model's answers.
        mean_decay: share of the class means that is kept.
    """

    extras: ClassVar[frozenset[str]] = frozenset({"buffer", STATISTICS})
    fixed_options: ClassVar[frozenset[str]] = frozenset({"every", "ema_decay"})
    means: Tensor
    source_means: Tensor
    source_var: Tensor
    known: Tensor

    loss: Literal["sce", "ce"] = "sce"
    follow_rate: Share = 1e-3
    pull: NonNegative = 10.0
    anchor_weight: NonNegative = 1.0
    mean_decay: Share = 0.95

    def begin(self, access: Online) -> None:
        """Take the source model as student; copy it as teacher and as anchor.

        Raises:
            AccessError: the protocol does not grant class means and variances.
            ConfigError: a network with nothing to adapt.
        """
        statistics = source_statistics(access, "petta")
        super().begin(access)
        self.anchor = frozen_copy(self.net)
        like = self.net.mean
        self.register_buffer("source_means", statistics.class_mean.to(like))
        self.register_buffer("source_var", statistics.class_var.to(like))
        self.register_buffer("means", self.source_means.clone())
        self.register_buffer("known", (statistics.count > 1).to(like.device))

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer by the teacher; take the images in; learn from the memory."""
        with torch.no_grad():
            features = self.teacher.features(batch.images)
            answer: Tensor = self.teacher.classifier(features)
        p = answer.softmax(1)
        labels = p.argmax(1)
        self.stored.offer(batch.images, labels, entropy(p))
        seen = (labels.bincount(minlength=len(self.known)) > 0) & self.known
        classes = seen.nonzero()[:, 0]
        strayed = divergence(self.means, self.source_means, self.source_var, classes)
        self.means.copy_(move_class_means(self.means, features, labels, self.mean_decay))
        self.access.recorder.put("petta/divergence", self.update.steps, strayed)
        self.update(self._memory_loss() - strayed * self.pull * self._similarity())
        self.follow(1 - (1 - strayed) * self.follow_rate)
        return answer

    def _similarity(self) -> Tensor:
        """Return how near the trained weights are to the source's."""
        pairs = zip(self.net.parameters(), self.anchor.parameters(), strict=True)
        trained, start = zip(*((p, s) for p, s in pairs if p.requires_grad), strict=True)
        return weight_similarity(list(trained), list(start))

    def _memory_loss(self) -> Tensor:
        """Return the loss on the memory: the teacher's and the source model's answers."""
        images, _ = self.recall()
        with robust_statistics(self.teacher, self.net, self.anchor):
            with torch.no_grad():
                taught, anchor = self.teacher(images), self.anchor(images)
            # where its answer has no part in the loss, its pass moves the student's statistics
            with torch.set_grad_enabled(self.loss == "sce"):
                plain = self.net(images)
            changed = self.net(augment(images, flip=self.access.task.flip))
        losses = self.anchor_weight * soft_cross_entropy(changed, anchor.softmax(1))
        if self.loss == "ce":
            losses = losses + soft_cross_entropy(changed, taught.softmax(1))
        else:
            pairs = (symmetric_cross_entropy(one, taught) for one in (plain, changed))
            losses = losses + sum(pairs) / 2
        return losses.mean()
