"""USD: unknown sample discovery for source-free open-set adaptation (reconstruction)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Init, Prediction, TargetBatch, fixed_statistics, views
from dabench.methods.functional import divergence, losses
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.source_free.known_unknown import KnownUnknownSplit


class USD(KnownUnknownSplit):
    """USD (arXiv 2312.03767, CVPRW 2024), **a reconstruction** from its abstract and its ancestors.

    An exponential-moving-average teacher separates known from unknown target images: a
    two-component Gaussian mixture on the Jensen-Shannon distance between the prediction over the
    known classes and what the clusters of the target's own features say. A (K+1)-way student learns
    both sides, with temporal consistency to the teacher and a curriculum from known to unknown; one
    image can be classified on its own afterwards. Every loss and default that the abstract does not
    state is ours; docs/reconstructions.md lists them with where each comes from.

    Args:
        curriculum: move weight from the known to the unknown term during training (off: 0.5).
        gamma_start: weight of the known term at the start of the curriculum.
        gamma_end: weight of the known term at its end.
        smoothing: label smoothing of the targets.
        temperature: sharpening of refined labels.
        tc_weight: weight of the temporal consistency.
        im_weight: weight of information maximisation over the known classes.
    """

    version: ClassVar[str] = "3"
    reconstruction: ClassVar[bool] = True
    default_init: ClassVar[Init | Literal["auto"]] = "auto"

    curriculum: bool = True
    gamma_start: Share = 0.7
    gamma_end: Share = 0.5
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    temperature: Positive = 0.5
    tc_weight: NonNegative = 0.3
    im_weight: NonNegative = 0.3

    def gamma(self) -> float:
        """Weight of the known term: linear from ``gamma_start`` to ``gamma_end``."""
        if not self.curriculum:
            return 0.5
        return self.gamma_start + (self.gamma_end - self.gamma_start) * self.progress

    def targets(self, index: Tensor, p_teacher: Tensor, p_student: Tensor) -> Tensor:
        """Return (B, K+1) smoothed targets of known images, refined where co-training is on."""
        y = divergence.onehot(self.pseudo[index], self.k + 1).to(p_teacher)
        if self.co_training != "none":
            w = self.omega[index, None]
            mean = (p_teacher + p_student) / 2 if self.teacher else p_student
            y = losses.sharpen(w * y + (1 - w) * mean, self.temperature)
        return losses.smooth_labels(y, self.smoothing)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Known, unknown, consistency and information-maximisation terms of one batch."""
        flip, index = self.access.task.flip, batch.index
        weak, strong = views.weak(batch.images, flip=flip), views.strong(batch.images, flip=flip)
        # BatchNorm's running statistics come from weak views alone: those are what the teacher and
        # the user ask about; with strong views mixed in, UNK jumped by .3 between epochs
        with torch.no_grad():
            logits_weak = self.student(weak)
        with fixed_statistics(self.student):
            logits = self.student(strong)
        with torch.no_grad():
            p_teacher = (self.ema_teacher(weak) if self.teacher else logits_weak).softmax(1)
        p_student = logits_weak.softmax(1)
        known, unknown = self.known[index].to(logits), self.unknown[index].to(logits)
        w_known, w_unknown = known * self.omega[index], unknown * (1 - self.omega[index])

        target = self.targets(index, p_teacher, p_student)
        node = torch.zeros_like(target)
        node[:, self.k] = 1.0
        l_known = losses.mean_over(losses.soft_cross_entropy(logits, target), w_known, known)
        l_unknown = losses.mean_over(
            losses.soft_cross_entropy(logits, losses.smooth_labels(node, self.smoothing)),
            w_unknown,
            unknown,
        )
        l_tc = losses.kl_divergence(p_teacher, logits).mean() * float(self.teacher)
        p_known = logits[:, : self.k].softmax(1)
        entropy, diversity = losses.information_maximisation(p_known, self.omega[index], w_known)
        gamma = self.gamma()
        loss = (
            gamma * l_known
            + (1 - gamma) * l_unknown
            + self.tc_weight * l_tc
            + self.im_weight * (entropy - diversity)
        )
        parts = {"known": l_known, "unknown": l_unknown, "consistency": l_tc}
        return self.record_losses(loss, parts | {"entropy": entropy, "diversity": diversity})

    def predict(self, images: Tensor) -> Prediction:
        """Argmax over K+1: no threshold, no target set."""
        logits = self.answering(images)
        if not self.access.task.open_set:
            return Prediction(logits[:, : self.k])
        unknown = logits.argmax(1) == self.k
        return Prediction(logits[:, : self.k], logits.softmax(1)[:, self.k], unknown)
