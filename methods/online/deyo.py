"""DeYO: entropy minimisation on samples whose answer hangs on the shape of things."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import ConfigError, Online, TargetBatch
from dabench.methods.functional.bounds import Positive, Share
from dabench.methods.functional.destroyed_views import (
    Destruction,
    destroyed_view,
    pseudo_label_drop,
)
from dabench.methods.functional.losses import entropy
from dabench.methods.online.norm_affine import NormAffine
from dabench.methods.online.sar import below_top


class DeYO(NormAffine):
    """DeYO (Lee et al., ICLR 2024), after the authors' code.

    Of the samples with low entropy those count whose predicted class loses probability when the
    image's shapes are destroyed (PLPD): their answer does not hang on colour and texture alone.
    Their entropy is weighted by both. Normalisation parameters are trained except those of the top.
    Deviations: the top is found as in ``sar``; limits are shares of log K, where the code has
    log 1000; the rate does not follow the batch size. A batch counts as backwarded in full; without
    a sample that counts not at all.

    Args:
        limit: entropy below which a sample is looked at, as a share of log K.
        scale: entropy at which a sample has the weight 1, as a share of log K.
        drop: fall of the predicted class's probability above which a sample counts: .3 is published
            for BatchNorm, .2 for GroupNorm and ViT and for wild streams, .5 for Waterbirds.
        destroy: patches (shuffled), occlusion (of the middle) or pixels (shuffled).
        grid: patches a side.
    """

    optimiser: Literal["adam", "sgd"] = "sgd"
    lr: Positive = 2.5e-4
    limit: Share = 0.5
    scale: Share = 0.4
    drop: Share = 0.3
    destroy: Destruction = "patches"
    grid: Annotated[int, Field(ge=2)] = 4

    def begin(self, access: Online) -> None:
        """Take the source model; train the normalisation layers below the top.

        Raises:
            ConfigError: images with fewer pixels than patches a side, or nothing to adapt.
        """
        side = access.task.image_size
        if self.destroy == "patches" and side < self.grid:
            raise ConfigError(
                f"--method.grid {self.grid}: images of {side} pixels have no {self.grid} patches a "
                "side; give a smaller one"
            )
        super().begin(access)
        self.log_k = math.log(access.task.num_classes)

    def layers(self) -> list[nn.Module]:
        """Return those below the top."""
        return below_top(self.net)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer, and step on the samples whose answer hangs on shapes, if there are any."""
        logits: Tensor = self.net(batch.images)
        p = logits.softmax(1)
        h = entropy(p)
        sure = h.detach() < self.limit * self.log_k
        if not bool(sure.any()):
            self.net.cost.uncount_backward(len(logits))
            return logits.detach()
        with torch.no_grad():
            views = destroyed_view(batch.images[sure], self.destroy, self.grid)
            fall = pseudo_label_drop(p[sure], self.net(views).softmax(1))
        counts = fall > self.drop
        if bool(counts.any()):
            kept, fall = h[sure][counts], fall[counts]
            weights = (self.scale * self.log_k - kept.detach()).exp() + fall.exp()
            self.update((weights * kept).mean())
        else:
            self.net.cost.uncount_backward(len(logits))
        return logits.detach()
