"""DUA: BatchNorm statistics that follow single images, ever more slowly."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.moving_norm import (
    cropped_and_turned,
    move_statistics,
    use_moving_statistics,
)


class DUA(OnlineMethod):
    """DUA (Mirza et al., CVPR 2022), after the authors' code. No gradient.

    Every image passes once as a batch of changed views, which move BatchNorm's running statistics
    with a momentum that falls from image to image; then the batch is answered. Images are seen one
    by one, so that the batch size does not matter to the statistics. Deviation: answers are those
    of the moment. (The authors' code measures the test error after each of 80 images, and reports
    the lowest: a choice by labels.) Networks without BatchNorm are refused.

    Args:
        views: of an image, one forward pass each: cropped, mirrored where the task allows it, and
            turned by a multiple of 90 degrees.
        momentum: at the start.
        decay: factor of the momentum, per image.
        least: added to the momentum.
        first: images of the stream that are learned from; 0 = all. The authors say that 80 do.
    """

    answers: ClassVar[Literal["before", "after"]] = "after"
    seen: Tensor

    views: Annotated[int, Field(ge=1)] = 64
    momentum: Share = 0.1
    decay: Share = 0.94
    least: Share = 0.005
    first: Annotated[int, Field(ge=0)] = 0

    def begin(self, access: Online) -> None:
        """Exchange the BatchNorm layers.

        Raises:
            ConfigError: there are none.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        use_moving_statistics(self.net, "dua")
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Let the statistics follow every image, and answer by them."""
        for image in batch.images:
            if self.first and self.seen >= self.first:
                break
            self.seen += 1
            momentum = self.momentum * self.decay ** int(self.seen) + self.least
            views = cropped_and_turned(image.expand(self.views, -1, -1, -1), self.access.task.flip)
            move_statistics(self.net, views, min(1.0, momentum))
        logits: Tensor = self.net(batch.images)
        return logits

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics as they are."""
        return Prediction(self.net(images))
