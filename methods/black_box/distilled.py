"""Plain distillation: the oracle's answers as they are, or smoothed, and nothing else."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from dabench.api import BlackBox, TargetBatch, views
from dabench.methods.black_box.student import Student
from dabench.methods.functional import distillation, losses


class KD(Student):
    """Distillation (Hinton et al., 2015): divergence from the oracle's answers, on weak views.

    The answers never change. Source: the baseline ``kd`` in IterLNL's code (zhjscut/IterLNL).
    Hard-label distillation is ``pseudo-label``.
    """

    needs_probabilities: ClassVar[bool] = True

    def begin(self, access: BlackBox) -> None:
        """Ask once; the labels are the answers."""
        super().begin(access)
        self.labels = self.answers

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Divergence from the labels."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        loss = losses.kl_divergence(self.labels[batch.index], logits).mean()
        return self.record_losses(loss, {"distillation": loss})


class LabelSmoothingKD(KD):
    """As ``kd``, from DINE's labels: the top answer as it is, the rest spread evenly.

    DINE's distillation without its memory, mixup and information maximisation (Liang et al., CVPR
    2022). ``pseudo-label`` smooths every named class alike; here each image has its own amount.
    """

    def begin(self, access: BlackBox) -> None:
        """Ask once, and smooth."""
        super().begin(access)
        self.labels = distillation.adaptive_smoothing(self.answers)
