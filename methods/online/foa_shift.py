"""FOA-shift: features moved back to where the source's were."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.methods.online.source_statistics import STATISTICS, source_statistics


class FOAShift(OnlineMethod):
    """FOA's activation shifting (Niu et al., ICML 2024), after the authors' code. No gradient.

    Features are shifted by the mean of the source's less the moving mean of the stream's, and the
    classifier answers. One forward pass; nothing is trained, so a quantised network will do. The
    moving mean is that of earlier batches; the first is answered unshifted. Published for vision
    transformers, whose feature is the last CLS token; here it is whatever the classifier is given.
    (A linear bottleneck makes no difference: a shift before it is one behind it.) The prompts that
    FOA learns beside it are left out. BatchNorm keeps the source's statistics. Extra: the mean of
    the source's features.

    Args:
        decay: of the moving mean.
    """

    extras: ClassVar[frozenset[str]] = frozenset({STATISTICS})
    source_mean: Tensor
    moving_mean: Tensor

    decay: Share = 0.9

    def begin(self, access: Online) -> None:
        """Take the source model.

        Raises:
            AccessError: the protocol does not grant the mean of the source's features.
        """
        super().begin(access)
        statistics = source_statistics(access, "foa-shift")
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, 0.0)
        mean = statistics.mean.to(self.net.mean)
        self.register_buffer("source_mean", mean)
        self.register_buffer("moving_mean", torch.full_like(mean, torch.nan))  # nan = none so far

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer by the shift so far, and move it."""
        features = self.net.features(batch.images)
        logits = self._answer(features)
        mean = features.mean(0)
        first = bool(self.moving_mean.isnan().any())
        self.moving_mean.copy_(mean if first else torch.lerp(mean, self.moving_mean, self.decay))
        return logits

    def _answer(self, features: Tensor) -> Tensor:
        """Return (B, K) logits of shifted features."""
        shift = (self.source_mean - self.moving_mean).nan_to_num()
        logits: Tensor = self.net.classifier(features + shift)
        return logits

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the shift as it is."""
        return Prediction(self._answer(self.net.features(images)))
