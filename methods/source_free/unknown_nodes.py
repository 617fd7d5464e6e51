"""What OneRing and RRDA share: a network whose last outputs stand for "unknown"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dabench.api import OfflineMethod, Prediction, SourceFree


class NodesForUnknown(OfflineMethod):
    """A network with nodes for "unknown" behind those of the K classes."""

    def begin(self, access: SourceFree) -> None:
        """Take the source model."""
        super().begin(access)
        self.net = access.source_model
        self.k = access.task.num_classes

    def append_nodes(self, count: int) -> None:
        """Append nodes of random direction, drawn from the run's seed."""
        generator = torch.Generator().manual_seed(self.access.seed)
        for _ in range(count):
            self.net.append_class(generator)

    def predict(self, images: Tensor) -> Prediction:
        """Unknown is what a later node is first for: one image at a time, no threshold."""
        logits = self.net(images)
        known = logits[:, : self.k]
        if not self.access.task.open_set:
            return Prediction(known)
        unknown = logits.softmax(1)[:, self.k :].sum(1)
        return Prediction(known, unknown, logits.argmax(1) >= self.k)


def set_row(head: nn.Linear, row: int, weight: Tensor, bias: Tensor) -> None:
    """Write a row of a linear layer, weight-normalised or not."""
    with torch.no_grad():
        changed = head.weight.detach().clone()
        changed[row] = weight
        set_weight(head, changed)
        head.bias[row] = bias


def set_weight(head: nn.Linear, weight: Tensor) -> None:
    """Write a linear layer's (K, D) weight, weight-normalised or not."""
    with torch.no_grad():
        if hasattr(head, "parametrizations"):  # weight normalisation takes it apart
            head.weight = weight.to(head.weight)
        else:
            head.weight.copy_(weight)
