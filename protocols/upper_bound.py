"""The row ``target-supervised``: what labels would buy; no competitor."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.contract.access import BlackBox, SourceFree, TargetBatch
from dabench.contract.method import DecayingSGD, OfflineMethod
from dabench.contract.types import IntArray, Prediction
from dabench.engine import views


class UpperBound(OfflineMethod):
    """A row that is allowed to see the adapt set's labels; lives beside the protocols."""

    grant: ClassVar[type | tuple[type, ...]] = (SourceFree, BlackBox)

    def reveal(self, truth: IntArray) -> None:
        """Receive the (N,) truth of the adapt set, K = private; called before ``begin``."""
        self.truth = torch.from_numpy(truth)


class TargetSupervised(UpperBound):
    """Upper bound: the source model fine-tuned with the target labels of the adapt set.

    A (K+1)-way network in open sets; cross-entropy on the strong view, same epochs and batches as
    every method. Its ``all`` scores are training accuracy; ``held-out`` is the honest bound.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone (a fresh one: 1).
        label_smoothing: share of the target mass spread over all classes.
    """

    def __init__(
        self,
        *,
        lr: Annotated[float, Field(gt=0)] = 1e-2,
        backbone_factor: Annotated[float, Field(ge=0)] = 0.1,
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.backbone_factor = backbone_factor
        self.label_smoothing = label_smoothing

    def begin(self, access: SourceFree | BlackBox) -> None:
        """Take the source model (black box: a fresh network); a node for "unknown" in open sets."""
        super().begin(access)
        if isinstance(access, SourceFree):
            self.net = access.source_model
        else:
            self.net = access.new_network(0)
            self.backbone_factor = 0.1 if self.net.pretrained else 1.0
        if access.task.open_set:
            self.net.append_class(torch.Generator().manual_seed(access.seed))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SHOT's two groups with the decaying rate."""
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        return DecayingSGD(groups, total_steps=int(self.trainer.estimated_stepping_batches))

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Cross-entropy with the truth."""
        logits = self.net(views.strong(batch.images, flip=self.access.task.flip))
        truth = self.truth[batch.index.cpu()].to(logits.device)
        loss = F.cross_entropy(logits, truth, label_smoothing=self.label_smoothing)
        return self.record_losses(loss, {"supervised": loss})

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the fine-tuned network."""
        return split_unknown(self.net(images), self.access.task.num_classes)


def split_unknown(logits: Tensor, num_known: int) -> Prediction:
    """Turn (B, K) or (B, K+1) logits into a prediction; node K+1 is "unknown"."""
    if logits.shape[1] == num_known:
        return Prediction(logits)
    probability = logits.softmax(1)
    unknown = logits.argmax(1) == num_known
    return Prediction(logits[:, :num_known], probability[:, num_known], unknown)
