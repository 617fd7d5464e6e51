"""The row ``source``: the source model as it is, with SHOT's rule for "unknown"."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dabench.api import (
    BlackBox,
    FloatArray,
    Kind,
    OfflineMethod,
    Online,
    OnlineMethod,
    Prediction,
    SourceFree,
    TargetBatch,
)
from dabench.methods.functional.divergence import js_distance, normalised_entropy, onehot
from dabench.methods.functional.mixture import fit_two_component, two_means_cut
from dabench.methods.functional.normalisation import adapt_normalisation


class Source(OfflineMethod, OnlineMethod):
    """No adaptation, offline or on a stream.

    In open sets an image is unknown where its normalised entropy lies in the upper cluster of a
    2-means over the adapt set, as SHOT tests it (tim-learn/SHOT, object/image_oda); the cut is
    frozen before anything is scored.

    Args:
        rule: how "unknown" is decided: 2-means on entropy, or the cut of a 2-component Gaussian
            mixture on the Jensen-Shannon distance to the argmax label.
    """

    grant: ClassVar[type | tuple[type, ...]] = (SourceFree, BlackBox, Online)
    trains: ClassVar[bool] = False
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})

    rule: Literal["entropy-2means", "jsd-mixture"] = "entropy-2means"

    def begin(self, access: SourceFree | BlackBox | Online) -> None:
        """Keep the source model, or the way to ask it."""
        super().begin(access)
        self.remote = isinstance(access, BlackBox)
        if not isinstance(access, BlackBox):
            self.net = access.source_model
        if isinstance(access, Online):
            adapt_normalisation(self.net.eval(), rho=0.0)  # the source's statistics in any mode
        self.cut = float("inf")

    def calibrate(self) -> None:
        """Find the cut on the adapt set."""
        if not self.access.task.open_set:
            return
        if not self.remote:
            self.net.eval()
        score = score_all(self, self.access)
        if self.rule == "entropy-2means":
            self.cut = two_means_cut(score, seed=self.access.seed)
            return
        split = fit_two_component(score, seed=self.access.seed)
        known = score[split.posterior >= 0.5]
        self.cut = float(known.max()) if len(known) and not split.degenerate else float("inf")

    def logits(self, images: Tensor) -> Tensor:
        """Return the source model's (B, K) logits, or the logarithm of its answers."""
        logits: Tensor
        if self.remote:
            logits = self.access.oracle.ask(images).clamp_min(1e-10).log()
        else:
            logits = self.net(images)
        return logits

    def statistic(self, logits: Tensor) -> Tensor:
        """Return the (B,) unknown score."""
        p = logits.softmax(1)
        if self.rule == "entropy-2means":
            return normalised_entropy(p)
        return js_distance(onehot(p.argmax(1), p.shape[1]), p)

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer a batch of a stream as the source model does."""
        logits: Tensor = self.net(batch.images)
        return logits

    def predict(self, images: Tensor) -> Prediction:
        """Closed-set prediction, and "unknown" above the cut."""
        logits = self.logits(images)
        if not self.access.task.open_set:
            return Prediction(logits)
        score = self.statistic(logits)
        return Prediction(logits, score, score > self.cut)


def score_all(method: Source, access: SourceFree | BlackBox) -> FloatArray:
    """Return the statistic of every adapt image, float64, in position order."""
    with torch.no_grad():
        found = [
            method.statistic(method.logits(batch.images.to(method.device))).cpu()
            for batch in access.target.survey()
        ]
    return np.asarray(torch.cat(found), dtype=np.float64)
