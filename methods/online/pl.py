"""PL: pseudo-labels, the oldest baseline of test-time adaptation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dabench.api import TargetBatch
from dabench.methods.online.norm_affine import NormAffine


class PL(NormAffine):
    """Pseudo-labels (Lee, 2013) at test time: cross-entropy with the network's own hard label.

    By Tent's rules otherwise: weight and bias of the normalisation layers, one step a batch, all
    images, answers from before the step.
    """

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer, and learn the answer."""
        logits: Tensor = self.net(batch.images)
        self.update(self.objective(logits).mean())
        return logits.detach()

    def objective(self, logits: Tensor) -> Tensor:
        """Return the (N,) losses of (N, K) logits."""
        return F.cross_entropy(logits, logits.argmax(1), reduction="none")
