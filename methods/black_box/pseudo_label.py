"""Plain distillation from a black box: the least that one can do with its answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, DecayingSGD, OfflineMethod, Prediction, TargetBatch, views
from dabench.methods.functional import divergence, losses


class PseudoLabel(OfflineMethod):
    """Cross-entropy with the class that the oracle names, on weak views; labels never change.

    Source: pseudo-labels (Lee, 2013); the row "NLL" of black-box papers is its refined cousin.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone; leave out for .1 where it is
            pretrained and 1 where it starts from nothing.
        smoothing: label smoothing.
    """

    grant: ClassVar[type | tuple[type, ...]] = BlackBox
    access: BlackBox

    lr: Annotated[float, Field(gt=0)] = 1e-2
    backbone_factor: Annotated[float, Field(ge=0)] | None = None
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def begin(self, access: BlackBox) -> None:
        """Ask once, and build the target network."""
        super().begin(access)
        named = access.oracle.ask_all(access.target).argmax(1)
        hard = divergence.onehot(named, access.task.num_classes)
        self.labels = losses.smooth_labels(hard, self.smoothing)
        self.net = access.new_network(0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the suite's decay."""
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        return DecayingSGD(groups, total_steps=int(self.trainer.estimated_stepping_batches))

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Cross-entropy with the stored labels."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        target = self.labels.to(logits)[batch.index]
        loss = losses.soft_cross_entropy(logits, target).mean()
        return self.record_losses(loss, {"distillation": loss})

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the target network."""
        return Prediction(self.net(images))
