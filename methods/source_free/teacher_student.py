"""A student with a node for "unknown", and its averaged teacher."""

from __future__ import annotations

from typing import Literal

import torch

from dabench.api import Network, OfflineMethod, SourceFree, frozen_copy
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.online import ema_state


class TeacherStudent(OfflineMethod):
    """A (K+1)-way student that starts from the source model, and a teacher that follows it.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone.
        ema_decay: teacher momentum per step.
        teacher: separate with the EMA teacher (off: with the student itself, no consistency).
        inference: the network that predicts (both are allowed by the paper's claim).
    """

    lr: Positive = 1e-2
    backbone_factor: NonNegative = 0.1
    ema_decay: Share = 0.95
    teacher: bool = True
    inference: Literal["teacher", "student"] = "teacher"

    def begin(self, access: SourceFree) -> None:
        """Append the unknown node and copy the student into the teacher."""
        super().begin(access)
        self.k = access.task.num_classes
        self.student = access.source_model
        self.student.append_class(torch.Generator().manual_seed(access.seed))
        self.ema_teacher: Network = frozen_copy(self.student)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SHOT's two groups with the decaying rate; the classifier learns too (the node must)."""
        return self.decaying_sgd(self.student.parameter_groups(self.lr, self.backbone_factor))

    @property
    def separator(self) -> Network:
        """The network that judges the target: the teacher, or the student in the ablation."""
        return self.ema_teacher if self.teacher else self.student

    @property
    def answering(self) -> Network:
        """The network that predicts."""
        return self.separator if self.inference == "teacher" else self.student

    def adapted_network(self) -> Network:
        """Return the network that predicts, with its node for "unknown"."""
        return self.answering

    @torch.no_grad()
    def on_train_batch_end(self, *args: object) -> None:
        """Move the teacher (weights and BatchNorm statistics) towards the student."""
        if self.teacher:
            ema_state(self.ema_teacher, self.student, self.ema_decay)
