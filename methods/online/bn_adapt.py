"""BatchNorm adaptation: the source model under the statistics of the batch that it sees."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import ConfigError, Kind, Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.normalisation import adapt_normalisation


class BNAdapt(OnlineMethod):
    """Prediction-time BatchNorm (Nado et al., 2020; Schneider et al., NeurIPS 2020). No gradient.

    Every BatchNorm layer normalises by rho * batch + (1 - rho) * source statistics, of each batch
    by itself: nothing is carried from batch to batch. In segmentation a batch may be one image,
    whose pixels give the statistics. Networks without BatchNorm (transformers
    with a plain head) have nothing to adapt and are refused; of a transformer with a bottleneck the
    bottleneck's one layer is adapted.

    Args:
        rho: weight of the batch's statistics; 1 = batch alone. Schneider et al. have n / (n + N)
            for batches of n images and a source that counts as N.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})
    trains: ClassVar[bool] = False

    rho: Annotated[float, Field(gt=0, le=1)] = 1.0

    def begin(self, access: Online) -> None:
        """Exchange the BatchNorm layers.

        Raises:
            ConfigError: there are none.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        if not adapt_normalisation(self.net, self.rho):
            raise ConfigError(
                "bn-adapt: the source model has no BatchNorm layer, so there are no statistics to "
                "adapt; choose a model with such layers, or tent, which adapts LayerNorm too"
            )

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer; there is nothing to update."""
        logits: Tensor = self.net(batch.images)
        return logits

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
