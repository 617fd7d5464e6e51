"""BatchNorm statistics as a running average over the stream."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.moving_norm import move_statistics, use_moving_statistics


class BNEMA(OnlineMethod):
    """BatchNorm's running statistics go on running (Schneider et al., NeurIPS 2020). No gradient.

    Every batch moves the statistics by a pass in train mode, and is answered by a second pass by
    what they then are. Unlike ``bn-adapt`` it remembers, so that single images are enough. Networks
    without BatchNorm are refused. Where a layer has one value per channel (the bottleneck, with one
    image) its statistics stay.

    Args:
        momentum: weight of the batch; .1 is torch's own, and that of the common benchmark's code.
    """

    answers: ClassVar[Literal["before", "after"]] = "after"

    momentum: Share = 0.1

    def begin(self, access: Online) -> None:
        """Exchange the BatchNorm layers.

        Raises:
            ConfigError: there are none.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        use_moving_statistics(self.net, "bn-ema")

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Move the statistics, and answer by them."""
        move_statistics(self.net, batch.images, self.momentum)
        logits: Tensor = self.net(batch.images)
        return logits

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics as they are."""
        return Prediction(self.net(images))
