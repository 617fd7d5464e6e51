"""CoTTA: continual test-time adaptation with an averaged teacher and stochastic restoration."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import (
    Kind,
    Online,
    OnlineMethod,
    Prediction,
    TargetBatch,
    frozen_copy,
    views,
)
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import GradientStep, GradNorm, build_optimiser
from dabench.methods.functional.losses import soft_cross_entropy
from dabench.methods.functional.multi_scale import answer_at_scale, scaled_views
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.methods.functional.online import ema_update, stochastic_restore


class CoTTA(OnlineMethod):
    """CoTTA (Wang et al., CVPR 2022).

    A student learns, by cross-entropy, the answers of a teacher whose weights are its moving
    average. Where the source model is unsure of a batch (mean confidence below a threshold), the
    teacher's answer is averaged over augmented views. After each step every weight goes back to its
    source value with a small probability. The teacher's answer, from before the update, counts.
    In segmentation views are those of the authors' code for it: seven scales, each mirrored, too;
    answers are brought back to the image's frame before they are averaged.
    Deviations: views are drawn with the suite's geometry and without hue and gamma; the plain
    teacher pass is left out where its answer is not used; ``predict`` answers without views, since
    it must not draw random numbers; dropout stays off; in segmentation logits of views are averaged
    and one mean confidence decides a frame (there, .69 decides a pixel, and classes are learned).

    Args:
        optimiser: adam (small images, in the authors' code) or sgd (ImageNet, with lr .01).
        lr: learning rate.
        momentum: of sgd; the first beta of adam.
        weight_decay: L2 penalty.
        views: augmented views of a batch, one forward pass each; in segmentation at most 14.
        confident: mean confidence of the source model from which on views are left out: .92 for
            CIFAR-10, .72 for CIFAR-100, .1 for ImageNet elsewhere.
        loss: one-way (cross-entropy of the student to the teacher), or symmetric (mean of both
            directions, only the student learns: ImageNet in the authors' code).
        ema_decay: of the teacher's weights.
        restore: probability that a weight goes back, per step; .001 for ImageNet in their code.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    version: ClassVar[str] = "2"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})

    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Positive = 1e-3
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    views: Annotated[int, Field(ge=1)] = 32
    confident: Share = 0.92
    loss: Literal["one-way", "symmetric"] = "one-way"
    ema_decay: Share = 0.999
    restore: Share = 0.01
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model as student; copy it as teacher and as anchor."""
        super().begin(access)
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        self.teacher, self.anchor = frozen_copy(self.net), frozen_copy(self.net)
        optimiser = build_optimiser(
            self.optimiser,
            [p for p in self.net.parameters() if p.requires_grad],
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer by the teacher; teach the student; let the teacher follow."""
        with torch.no_grad():
            answer = self._teach(batch.images)
        self.update(self._loss(self.net(batch.images), answer))
        student = list(self.net.parameters())
        ema_update(list(self.teacher.parameters()), student, self.ema_decay)
        stochastic_restore(student, list(self.anchor.parameters()), self.restore)
        return answer

    def _loss(self, logits: Tensor, answer: Tensor) -> Tensor:
        """Cross-entropy of (B, K, ...) student's to teacher's logits, one way or both."""
        loss = soft_cross_entropy(logits, answer.softmax(1))
        if self.loss == "symmetric":
            loss = (loss + soft_cross_entropy(answer, logits.softmax(1))) / 2
        return loss.mean()

    def _teach(self, images: Tensor) -> Tensor:
        """Return the teacher's logits, over views where the source model is unsure.

        Views pass one by one, not as one large batch: BatchNorm normalises by what passes together,
        so that each view, which has a brightness and a contrast of its own, gets its statistics.
        """
        sure = self.anchor(images).softmax(1).max(1).values.mean()
        if float(sure) >= self.confident:
            plain: Tensor = self.teacher(images)
            return plain
        task = self.access.task
        if task.kind == "segmentation":
            views = scaled_views(self.views, flip=task.flip)
            answers = [answer_at_scale(self.teacher, images, *view) for view in views]
        else:
            answers = [self.teacher(augment(images, flip=task.flip)) for _ in range(self.views)]
        return torch.stack(answers).mean(0)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the teacher, without views."""
        return Prediction(self.teacher(images))


def augment(images: Tensor, *, flip: bool) -> Tensor:
    """Return one view of a batch, in the ranges of CoTTA's code as far as they go.

    As :func:`jitter`, with blur, drawn for every image, and noise.
    """
    out = views.blur(jitter(images, flip=flip), most=0.5)
    return (out + 0.005 * torch.randn_like(out)).clamp(0, 1)


def jitter(images: Tensor, *, flip: bool) -> Tensor:
    """Return a batch in other colours and places: CoTTA's view without blur and noise.

    That code shifts by up to 1/16 of a picture padded to twice its side: 1/8 of the picture.
    Brightness, contrast and saturation are drawn once for all images, so that BatchNorm takes most
    of them away; geometry is drawn for every image.
    """
    return recolour(views.affine(images, rotate=0.26, scale=0.1, translate=1 / 8, flip=flip))


def recolour(images: Tensor) -> Tensor:
    """Return a batch in other colours: :func:`jitter` without geometry."""
    spread = torch.tensor((0.4, 0.3, 0.5))
    brightness, contrast, saturation = (1 + spread * (2 * torch.rand(3) - 1)).tolist()
    out = images * brightness
    mean = out.mean(dim=(1, 2, 3), keepdim=True)
    out = mean + (out - mean) * contrast
    grey = out.mean(dim=1, keepdim=True)
    changed: Tensor = (grey + (out - grey) * saturation).clamp(0, 1)
    return changed
