"""``tta-aug``: the mean answer over changed views of an image, brought back to its frame."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Kind, Online, OnlineMethod, Photometric, Prediction, TargetBatch, Warp
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.losses import EPS
from dabench.methods.functional.normalisation import adapt_normalisation


class TTAAug(OnlineMethod):
    """Test-time augmentation: the control of ``transadapt`` that sees its views and learns nothing.

    The answer is the mean of the source model's probabilities over the image itself and pairs of
    views, one photometric and one geometric, from the ranges of ``transadapt``. Geometric views are
    undone; where they do not show a pixel, the others alone are averaged. The views are drawn once
    and serve every image. No gradient.

    Args:
        pairs: pairs of views; three cost seven forward passes (one step of ``transadapt``: six
            and three backward ones).
        rho: weight of the image in BatchNorm statistics; 0 = the source's alone.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"segmentation"})
    trains: ClassVar[bool] = False
    drawn: Tensor

    pairs: Annotated[int, Field(ge=1)] = 3
    rho: Share = 0.0

    def begin(self, access: Online) -> None:
        """Take the source model; fix the views."""
        super().begin(access)
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        self.register_buffer("drawn", torch.tensor(access.seed))

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer; there is nothing to update."""
        return self._answer(batch.images)

    def _answer(self, images: Tensor) -> Tensor:
        """Return (B, K, H, W) logarithms of the mean probabilities."""
        generator = torch.Generator().manual_seed(int(self.drawn))
        shape = (images.shape[-2], images.shape[-1])
        count, flip = len(images), self.access.task.flip
        total = self.net(images).softmax(1)
        seen = torch.ones_like(total[:, :1])
        for _ in range(self.pairs):
            colours = Photometric.draw(count, generator=generator, device=images.device)
            total = total + self.net(colours.apply(images)).softmax(1)
            warp = Warp.draw(count, flip=flip, generator=generator, device=images.device)
            back = warp.inverse()
            shown = back.valid(shape)[:, None]
            total = total + back.apply(self.net(warp.apply(images)).softmax(1)) * shown
            seen = seen + 1.0 + shown
        mean: Tensor = total / seen
        return mean.clamp_min(EPS).log()

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the same views."""
        return Prediction(self._answer(images))
