"""Plain distillation from a black box: the least that one can do with its answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, TargetBatch, views
from dabench.methods.black_box.student import Student
from dabench.methods.functional import divergence, losses


class PseudoLabel(Student):
    """Cross-entropy with the class that the oracle names, on weak views; labels never change.

    Source: pseudo-labels (Lee, 2013); the row "NLL" of black-box papers is its refined cousin.

    Args:
        smoothing: label smoothing.
    """

    fixed_options: ClassVar[frozenset[str]] = frozenset({"power"})

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def begin(self, access: BlackBox) -> None:
        """As a student; the labels are the classes that the answers name."""
        super().begin(access)
        hard = divergence.onehot(self.answers.argmax(1), access.task.num_classes)
        self.labels = losses.smooth_labels(hard, self.smoothing)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Cross-entropy with the stored labels."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        target = self.labels.to(logits)[batch.index]
        loss = losses.soft_cross_entropy(logits, target).mean()
        return self.record_losses(loss, {"distillation": loss})
