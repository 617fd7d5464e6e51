"""The row ``target-supervised``: what labels would buy; no competitor."""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar, TypeGuard

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dabench import views
from dabench.contract.access import BlackBox, Online, SourceFree, TargetBatch
from dabench.contract.method import OfflineMethod, OnlineMethod
from dabench.contract.types import IGNORE, IntArray, Kind, Prediction
from dabench.errors import AccessError
from dabench.networks.batchnorm import batch_statistics


class _Learn(nn.Module):
    """An optimiser whose state is part of ``state_dict()``."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        super().__init__()
        self.optimiser = optimiser

    def forward(self, loss: Tensor) -> None:
        """Step on a scalar loss."""
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimiser's state."""
        return self.optimiser.state_dict()

    def set_extra_state(self, state: Any) -> None:
        """Take over a state; nothing is shared with it."""
        self.optimiser.load_state_dict(copy.deepcopy(state))


class TargetSupervised(OfflineMethod, OnlineMethod):
    """Upper bound: the source model fine-tuned with the target labels of the adapt set.

    A (K+1)-way network in open sets; cross-entropy on the strong view, same epochs and batches as
    every method. Its ``all`` scores are training accuracy; ``held-out`` is the honest bound. On a
    stream it answers before it learns each batch's labels, with the batch's own statistics.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone (a fresh one: 1).
        label_smoothing: share of the target mass spread over all classes.
    """

    grant: ClassVar[type | tuple[type, ...]] = (SourceFree, BlackBox, Online)
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})

    lr: Annotated[float, Field(gt=0)] = 1e-2
    backbone_factor: Annotated[float, Field(ge=0)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def reveal(self, truth: IntArray) -> None:
        """Receive (N,) truth, K = private: of the adapt set before ``begin``, or of a stream's
        next batch before it is pushed; for segmentation (N, H, W) masks.
        """
        self.truth = torch.from_numpy(truth)

    def begin(self, access: SourceFree | BlackBox | Online) -> None:
        """Take the source model (black box: a fresh network); a node for "unknown" in open sets."""
        super().begin(access)
        if not isinstance(access, BlackBox):
            self.net = access.source_model.eval()
        else:
            self.net = access.new_network(0)
            self.backbone_factor = 0.1 if self.net.pretrained else 1.0
        if isinstance(access, Online):
            groups = self.net.parameter_groups(self.lr, self.backbone_factor)
            self.learn = _Learn(torch.optim.SGD(groups, momentum=0.9))
        if access.task.open_set:
            self.net.append_class(torch.Generator().manual_seed(access.seed))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SHOT's two groups with the decaying rate."""
        return self.decaying_sgd(self.net.parameter_groups(self.lr, self.backbone_factor))

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Cross-entropy with the truth."""
        logits = self.net(views.strong(batch.images, flip=self.access.task.flip))
        truth = self._known()[batch.index.cpu()].to(logits.device)
        loss = F.cross_entropy(logits, truth, label_smoothing=self.label_smoothing)
        return self.record_losses(loss, {"supervised": loss})

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer a stream's batch, then learn its labels."""
        logits = self._logits(batch.images)
        truth = self._known().to(logits.device, torch.int64)
        ignored = IGNORE if self.dense else -100  # a class of an image may have any number
        if (truth != ignored).any():
            loss = F.cross_entropy(
                logits, truth, ignore_index=ignored, label_smoothing=self.label_smoothing
            )
            self.learn(loss)
        return logits.detach()

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the fine-tuned network; on a stream in the batch's own statistics."""
        if not isinstance(self.access, Online):
            return split_unknown(self.net(images), self.access.task.num_classes)
        return Prediction(self._logits(images))

    @property
    def dense(self) -> bool:
        """Whether every pixel has a class."""
        kind: Kind = self.access.task.kind
        return kind == "segmentation"

    def _known(self) -> Tensor:
        """Return the truth, where there is any: who inherits from this class is shown none."""
        truth: Tensor | None = getattr(self, "truth", None)
        if truth is None:
            raise AccessError(
                f"{type(self).__name__} is handed no labels: target-supervised alone is, and none "
                "that inherits from it"
            )
        return truth

    def _logits(self, images: Tensor) -> Tensor:
        """Return logits by the batch's own statistics."""
        with batch_statistics(self.net, images, dense=self.dense):
            logits: Tensor = self.net(images)
        return logits


def sees_labels(method: OfflineMethod | OnlineMethod) -> TypeGuard[TargetSupervised]:
    """Return whether a method is handed labels: this class, and none that inherits from it."""
    return type(method) is TargetSupervised


def split_unknown(logits: Tensor, num_known: int) -> Prediction:
    """Turn (B, K) or (B, K+1) logits into a prediction; node K+1 is "unknown"."""
    if logits.shape[1] == num_known:
        return Prediction(logits)
    probability = logits.softmax(1)
    unknown = logits.argmax(1) == num_known
    return Prediction(logits[:, :num_known], probability[:, num_known], unknown)
