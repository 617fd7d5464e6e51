"""MEMO: many views of one image shall have one sure answer; then all is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from dabench.api import Kind, Online, OnlineMethod, Photometric, Prediction, TargetBatch, Warp
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import (
    GradNorm,
    layer_numbers,
    learnable,
    normalise_gradients,
)
from dabench.methods.functional.many_views import (
    augmix_views,
    marginal_entropy,
    pixel_marginal_entropy,
)
from dabench.methods.functional.normalisation import adapt_normalisation


class MEMO(OnlineMethod):
    """MEMO (Zhang et al., NeurIPS 2022), after the authors' code.

    For every image by itself: the entropy of the mean prediction over AugMix views is minimised by
    a step of gradient descent on all weights, the image is answered, and the weights go back to the
    source's. So the batch does not matter, and nothing is remembered. An image costs as many
    passes, forward and backward, as it has views: give it a short stream.
    In segmentation (a dense port of ours) a view has other colours and is turned, scaled and
    mirrored, in the ranges of ``tta-aug``; its answer is brought back, a pixel's mean is over the
    views that show it, and the loss is the mean over the pixels that some view shows.
    Deviations: shifts up to an eighth of the side in place of ImageNet's random crops; continuous
    strengths of the operations; grey beyond an image's edge (there Pillow takes 128 for dark red);
    the numbers behind the views are drawn from the seed and are the same for every image, so that
    ``predict`` answers as ``step`` does; the gradient passes BatchNorm's share of the views'
    statistics; only SGD, without momentum.

    Args:
        views: of an image, which pass as one batch; 64 on ImageNet, 6 in a benchmark's form for
            segmentation.
        lr: learning rate; 2.5e-4 on ImageNet, and for segmentation there.
        steps: on the same views.
        weight_decay: L2 penalty; 5e-4 for segmentation there.
        rho: weight of the views' BatchNorm statistics, and then of the image's own; the rest is
            the source's.
        grad_norm: normalisation of the gradient before the step.
        max_norm: norm c of ``grad_norm``.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})
    # no answer depends on what came earlier
    trains: ClassVar[bool] = False
    drawn: Tensor
    skipped: Tensor

    views: Annotated[int, Field(ge=1)] = 32
    lr: Positive = 0.005
    steps: Annotated[int, Field(ge=1)] = 1
    weight_decay: NonNegative = 0.0
    rho: Share = 1 / 17
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model, whose weights are never written to."""
        super().begin(access)
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        self.learned: dict[str, Tensor] = dict(learnable(self.net))
        self.layers = layer_numbers(self.net, list(self.learned.values()))
        self.register_buffer("drawn", torch.tensor(access.seed))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer every image by weights of its own."""
        found = [self._adapted(image) for image in batch.images]
        self.skipped += sum(skipped for _, skipped in found)
        return torch.cat([logits for logits, _ in found])

    def _adapted(self, image: Tensor) -> tuple[Tensor, int]:
        """Return the (1, K, ...) logits of one (3, H, W) image, and how many steps were left out.

        A gradient that is zero everywhere, or not finite, makes no step.
        """
        views, loss_of = self._views(image)
        skipped = 0
        weights = {name: p.detach().requires_grad_(True) for name, p in self.learned.items()}
        for _ in range(self.steps):
            with torch.enable_grad():
                loss = loss_of(functional_call(self.net, weights, (views,)))
            values = list(weights.values())
            gradients = list(torch.autograd.grad(loss, values, materialize_grads=True))
            norm = torch.nn.utils.get_total_norm(gradients)
            if not (bool(norm.isfinite()) and float(norm) > 0):
                skipped += 1
                continue
            normalise_gradients(gradients, self.grad_norm, self.max_norm, self.layers, norm)
            with torch.no_grad():
                for name, gradient in zip(weights, gradients, strict=True):
                    kept = 1 - self.lr * self.weight_decay
                    weights[name] = (weights[name] * kept - self.lr * gradient).requires_grad_(True)
        with torch.no_grad():
            logits: Tensor = functional_call(self.net, weights, (image[None],))
        return logits, skipped

    def _views(self, image: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the (V, 3, H, W) views of one image, and the loss of their logits."""
        generator, task = torch.Generator().manual_seed(int(self.drawn)), self.access.task
        if task.kind == "classification":
            made = augmix_views(image, self.views, flip=task.flip, generator=generator)
            return made, marginal_entropy
        colours = Photometric.draw(self.views, generator=generator, device=image.device)
        warp = Warp.draw(self.views, flip=task.flip, generator=generator, device=image.device)
        made = warp.apply(colours.apply(image.expand(self.views, *image.shape)))
        back = warp.inverse()
        shown = back.valid((image.shape[-2], image.shape[-1]))
        return made, lambda logits: pixel_marginal_entropy(back.apply(logits.softmax(1)), shown)

    def predict(self, images: Tensor) -> Prediction:
        """Answer as ``step`` does."""
        return Prediction(torch.cat([self._adapted(image)[0] for image in images]))
