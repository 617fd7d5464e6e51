"""EATA: entropy minimisation on reliable, novel samples, with weights that must not forget."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.api import AccessError, Kind, Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import GradientStep, GradNorm, build_optimiser
from dabench.methods.functional.losses import UNCERTAINTY, Uncertainty
from dabench.methods.functional.normalisation import adapt_normalisation, train_only_norms
from dabench.methods.functional.online import (
    as_samples,
    fisher_information,
    fisher_penalty,
    flatten_all,
    is_novel,
    reliability_weights,
)

FISHER = "fisher-images"


class EATA(OnlineMethod):
    """EATA (Niu et al., ICML 2022).

    As Tent, but only samples with low entropy (reliable) whose prediction differs from the moving
    average (novel) enter the loss, weighted by exp(limit - entropy); and a Fisher penalty holds the
    normalisation parameters near the source's. The Fisher matrix comes from unlabelled clear images
    of the source's hold-out or training part, as the protocol grants (an extra), with the model's
    own argmax as labels; they are used in ``begin`` and not kept.
    In segmentation (a dense port of ours) every pixel is a sample; the answers of a frame's pixels
    are averaged before the moving average takes them in.
    Deviation: the margin scales with the number of classes; Fisher weight, optimiser and rate are
    ImageNet's (ten classes are elsewhere run with Adam, 1e-3, margin .4 and weight 1). A batch with
    a chosen sample counts as backwarded in full, since all its rows go through the same graph; one
    without, not at all.

    Args:
        optimiser: sgd, or adam with ``momentum`` as its first beta.
        lr: its learning rate.
        momentum: of SGD.
        weight_decay: L2 penalty.
        limit: entropy below which a sample is reliable, as a share of log K.
        margin: |cosine| to the average prediction below which a sample is novel; leave out for
            .05 * sqrt(1000 / K), the published .05 at the published 1000 classes: one-hot and even
            predictions have the cosine 1 / sqrt(K).
        decay: of the average prediction.
        fisher_weight: of the penalty; 0 leaves the Fisher matrix out.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
        loss: entropy (the paper), or come, which takes its place everywhere: in the limit, the
            weights and the loss (Zhang et al., ICLR 2025).
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"loss", "optimiser"})
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})
    extras: ClassVar[frozenset[str]] = frozenset({FISHER})
    fisher: Tensor
    start: Tensor
    mean_p: Tensor

    optimiser: Literal["adam", "sgd"] = "sgd"
    lr: Positive = 2.5e-4
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    limit: Share = 0.4
    margin: Share | None = None
    decay: Share = 0.9
    fisher_weight: NonNegative = 2000.0
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0
    loss: Uncertainty = "entropy"

    def begin(self, access: Online) -> None:
        """Take the source model, and estimate the Fisher matrix.

        Raises:
            AccessError: the protocol does not grant the images that this needs.
        """
        # the images serve here and nowhere else, so the grant is kept without them
        super().begin(replace(access, extras={}))
        if FISHER in self.extras and FISHER not in access.extras:
            raise AccessError(
                f"EATA needs the extra '{FISHER}' (unlabelled clear source images), which this "
                "protocol does not grant; use tent, or a protocol that grants it"
            )
        k = access.task.num_classes
        self.entropy_limit = self.limit * math.log(k)
        usual = min(1.0, 0.05 * math.sqrt(1000 / k))
        self.novelty_margin = usual if self.margin is None else self.margin
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        self.trained = train_only_norms(self.net)
        start = flatten_all(p.detach() for p in self.trained)
        fisher = torch.zeros_like(start)
        if self.fisher_weight:
            losses = self._own_losses(access.extras[FISHER].to(start.device))
            fisher = fisher_information(losses, self.trained, start)
        self.register_buffer("start", start)
        self.register_buffer("fisher", fisher)
        self.register_buffer("mean_p", start.new_zeros(k))
        optimiser = build_optimiser(
            self.optimiser,
            self.trained,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )

    def _own_losses(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the cross-entropy of every batch with the model's own answers."""
        for part in torch.split(images, self.access.batch_size):
            logits = self.net(part)
            yield F.cross_entropy(logits, logits.argmax(1))

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer, and step on the reliable and novel samples, if there are any."""
        logits: Tensor = self.net(batch.images)
        samples = as_samples(logits)
        p = samples.softmax(1)
        h = UNCERTAINTY[self.loss](samples)
        weights = reliability_weights(h, self.entropy_limit)
        weights = weights * is_novel(p.detach(), self.mean_p, self.novelty_margin)
        chosen = weights > 0
        if bool(chosen.any()):
            loss = (weights * h).sum() / chosen.sum()
            if self.fisher_weight:
                penalty = fisher_penalty(self.trained, self.start, self.fisher)
                loss = loss + self.fisher_weight * penalty
            self.update(loss)
            self._remember(p.detach()[chosen].mean(0))
        else:
            self.net.cost.uncount_backward(len(logits))
        return logits.detach()

    def _remember(self, p: Tensor) -> None:
        """Move the average prediction; the first one replaces the zeros."""
        seen = bool(self.mean_p.any())
        self.mean_p.copy_(torch.lerp(p, self.mean_p, self.decay) if seen else p)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
