"""What SHOT's open-set rule needs: known or unknown by a 2-means on the entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dabench.api import Network, OfflineMethod, Prediction, set_features
from dabench.methods.functional.divergence import normalised_entropy
from dabench.methods.functional.mixture import two_means_cut


def cut_prediction(logits: Tensor, open_set: bool, cut: float) -> Prediction:
    """Return the answer of (B, K) logits; in open sets, "unknown" where the entropy is above a cut.

    The normalised entropy is the unknown score.
    """
    if not open_set:
        return Prediction(logits)
    entropy = normalised_entropy(logits.softmax(1))
    return Prediction(logits, entropy, entropy > cut)


class EntropyCut(OfflineMethod):
    """A network that learns, and in open sets a cut on its normalised entropy."""

    net: Network

    def begin(self, access: Any) -> None:
        """Nothing is unknown yet."""
        super().begin(access)
        self.cut = float("inf")

    def _cut(self, entropy: Tensor) -> float:
        return two_means_cut(entropy.cpu().double().numpy(), seed=self.access.seed)

    def known_rows(self, p: Tensor) -> Tensor:
        """Return (N,) bool of the set's (N, K) probabilities: the lower cluster, or all."""
        if not self.access.task.open_set:
            return torch.ones(len(p), dtype=torch.bool, device=p.device)
        entropy = normalised_entropy(p)
        known = entropy <= self._cut(entropy)
        share = float((~known).float().mean())
        self.access.recorder.put("split/unknown_share", self.current_epoch, share)
        return known

    def calibrate(self) -> None:
        """Freeze the entropy cut on the adapt set."""
        if self.access.task.open_set:
            _, p = set_features(self.net, self.access.target)
            self.cut = self._cut(normalised_entropy(p))

    def predict(self, images: Tensor) -> Prediction:
        """Closed-set prediction, and "unknown" above the entropy cut."""
        return cut_prediction(self.net(images), self.access.task.open_set, self.cut)
