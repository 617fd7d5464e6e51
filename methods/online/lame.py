"""LAME: the batch's answers are corrected, and the network is left alone."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import NonNegative, Share
from dabench.methods.functional.laplacian import Affinity, affinity_matrix, agreeing_assignments
from dabench.methods.functional.normalisation import adapt_normalisation


class LAME(OnlineMethod):
    """LAME (Boudiaf et al., CVPR 2022), after the authors' code. No gradient, no state.

    Images of a batch whose features are near each other shall have one answer: the probabilities
    are moved to assignments that agree between neighbours (Laplacian adjusted maximum likelihood).
    Made for streams in which a class comes in runs, with batches of 64 and more; on shuffled
    streams it does harm, since neighbours of another class outnumber those of one's own. In a batch
    of one, and where all features are equal, an image keeps its class (the authors' code divides
    by 0). Answers are logarithms of the assignments. BatchNorm keeps the source's statistics.

    Args:
        affinity: rbf, knn or linear; the authors choose among them on a validation stream.
        neighbours: of an image, itself counted with rbf (1: no other class, but surer
            answers); the authors choose among 1, 3 and 5.
        weight: of the agreement against the network's own answer.
        rho: weight of the batch in BatchNorm statistics; 0 = the source's alone.
    """

    trains: ClassVar[bool] = False

    affinity: Affinity = "rbf"
    neighbours: Annotated[int, Field(ge=1)] = 5
    weight: NonNegative = 1.0
    rho: Share = 0.0

    def begin(self, access: Online) -> None:
        """Take the source model."""
        super().begin(access)
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer; there is nothing to update."""
        return self._answer(batch.images)

    def _answer(self, images: Tensor) -> Tensor:
        """Return (B, K) logarithms of the assignments."""
        features = self.net.features(images)
        p = self.net.classifier(features).softmax(1)
        w = affinity_matrix(features, self.affinity, self.neighbours)
        y = agreeing_assignments(p, w, self.weight)
        return y.clamp_min(torch.finfo(y.dtype).tiny).log()

    def predict(self, images: Tensor) -> Prediction:
        """Answer these images as one batch."""
        return Prediction(self._answer(images))
