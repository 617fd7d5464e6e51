"""COFA: features averaged with that of the image before, on streams that change slowly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.normalisation import adapt_normalisation


class COFA(OnlineMethod):
    """COFA, the filter of UniTTA (Du et al., 2024), after the authors' code. No gradient.

    Every feature is averaged with that of the image before it, also across batches; the average
    answers where it is surer than the feature itself. A gain only where neighbours on the stream
    are likely to be of one class; works with batches of one. BatchNorm keeps the source's
    statistics. ``predict`` answers its images as if they came next.

    Args:
        rho: weight of the batch in BatchNorm statistics; 0 = the source's alone.
    """

    last: Tensor

    rho: Share = 0.0

    def begin(self, access: Online) -> None:
        """Take the source model; no image has come so far."""
        super().begin(access)
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        width = self.net.classifier.weight.shape[1]
        self.register_buffer("last", self.net.mean.new_full((1, width), math.nan))  # nan = none

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer, and remember the last feature."""
        features, logits = self._answer(batch.images)
        self.last.copy_(features[-1:])
        return logits

    def _answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, D) features and (B, K) logits."""
        features = self.net.features(images)
        first = features[:1] if bool(self.last.isnan().any()) else self.last
        averaged = (features + torch.cat((first, features[:-1]))) / 2
        alone, both = self.net.classifier(features), self.net.classifier(averaged)
        surer = both.softmax(1).amax(1) > alone.softmax(1).amax(1)
        return features, torch.where(surer[:, None], both, alone)

    def predict(self, images: Tensor) -> Prediction:
        """Answer these images as if they came next."""
        return Prediction(self._answer(images)[1])
