"""The two views of an image that TransAdapt learns from, and how far their answers are off."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dabench.api import Photometric, Warp
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.consistency import consistency
from dabench.methods.online.transfer_source import TransferSource


class TransferViews(TransferSource):
    """A photometric and a geometric view, drawn anew for every step.

    Args:
        targets: soft probabilities, or hard classes where they are sure.
        threshold: probability from which on a class is sure, for hard targets.
    """

    targets: Literal["soft", "hard"] = "soft"
    threshold: Share = 0.9

    def check_options(self) -> None:
        """Say what follows from the options."""
        super().check_options()
        self.sure_from = self.threshold if self.targets == "hard" else None

    def invariance(self, images: Tensor, target: Tensor) -> Tensor:
        """Return how far the answer to a photometric view is from the target."""
        view = Photometric.draw(len(images), device=images.device).apply(images)
        return consistency(target, self.head_logits(view), threshold=self.sure_from)

    def equivariance(self, images: Tensor, target: Tensor, warp: Warp | None = None) -> Tensor:
        """Return how far the answer to a geometric view is from the view of the target."""
        if warp is None:
            flip = self.access.task.flip
            warp = Warp.draw(len(images), flip=flip, device=images.device)
        logits = self.head_logits(warp.apply(images))
        valid = warp.valid((logits.shape[-2], logits.shape[-1]))
        return consistency(warp.apply(target), logits, valid, self.sure_from)
