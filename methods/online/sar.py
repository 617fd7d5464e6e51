"""SAR: sharpness-aware and reliable entropy minimisation."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from dabench.api import Network, Online, OnlineMethod, Prediction, TargetBatch, trunk_stages
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import GradientStep, GradNorm
from dabench.methods.functional.losses import UNCERTAINTY, Uncertainty
from dabench.methods.functional.normalisation import (
    NORMS,
    adapt_normalisation,
    norm_layers,
    train_only_norms,
)
from dabench.methods.functional.online import ascent_step, restore_values


class SAR(OnlineMethod):
    """SAR (Niu et al., ICLR 2023).

    Entropy of reliable samples is minimised at the worst point nearby (SAM): gradient, ascent,
    second forward pass and filter, then the step from where it started. Normalisation parameters
    are trained except those of the top. When the moving average of the second loss falls below a
    threshold, weights and momentum go back to the start. Two forward passes a batch.
    Deviations: the top is the last quarter of the backbone's stages and whatever follows (layer4 of
    a ResNet, blocks 9-11 and the last norm of a ViT, as published; and the bottleneck); the rate
    does not follow the batch size; after a reset the average starts anew and momentum is dropped
    (the authors' code keeps it); the threshold of a reset is a share of log K: .2 nats, published
    for 1,000 classes, is more than a sure source model of ten classes loses on clear images, so
    that it would be reset at every step.

    Args:
        lr: learning rate of SGD; 1e-3 is published for ViT at batch 64.
        momentum: of SGD.
        weight_decay: L2 penalty.
        limit: entropy below which a sample is reliable, as a share of log K.
        radius: length of the ascent.
        decay: of the moving average of the loss.
        reset_below: average loss, as a share of log K, below which everything is reset; 0 = never.
            The published .2 nats are .029 log 1000.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the second gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
        loss: entropy (the paper), or come, which takes its place everywhere: in both limits and
            the loss (Zhang et al., ICLR 2025).
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"loss"})
    start: Tensor
    average: Tensor
    resets: Tensor

    lr: Positive = 2.5e-4
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    limit: Share = 0.4
    radius: Positive = 0.05
    decay: Share = 0.9
    reset_below: Share = 0.029
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0
    loss: Uncertainty = "entropy"

    def begin(self, access: Online) -> None:
        """Take the source model; train the normalisation layers below the top."""
        super().begin(access)
        scale = math.log(access.task.num_classes)
        self.entropy_limit, self.reset_limit = self.limit * scale, self.reset_below * scale
        self.net = access.source_model.eval()
        adapt_normalisation(self.net, self.rho)
        self.trained = train_only_norms(self.net, below_top(self.net))
        self.register_buffer("start", nn.utils.parameters_to_vector(self.trained).detach().clone())
        self.register_buffer("average", self.start.new_full((), math.nan))  # nan = none so far
        self.register_buffer("resets", self.start.new_zeros((), dtype=torch.int64))
        optimiser = torch.optim.SGD(
            self.trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer from the first forward pass; step on what is reliable in both passes."""
        logits: Tensor = self.net(batch.images)
        h = UNCERTAINTY[self.loss](logits)
        reliable = h.detach() < self.entropy_limit
        if not bool(reliable.any()):
            self.net.cost.uncount_backward(len(logits))
            return logits.detach()
        gradients = torch.autograd.grad(h[reliable].mean(), self.trained, materialize_grads=True)
        origin = ascent_step(self.trained, gradients, self.radius)
        second = UNCERTAINTY[self.loss](self.net(batch.images))
        reliable &= second.detach() < self.entropy_limit
        if bool(reliable.any()):
            loss = second[reliable].mean()
            self.update.backward(loss)
            restore_values(self.trained, origin)
            self.update.step()
            self._watch(loss.detach())
        else:
            self.net.cost.uncount_backward(len(logits))
            restore_values(self.trained, origin)
        return logits.detach()

    def _watch(self, loss: Tensor) -> None:
        """Move the average loss; reset where it has collapsed."""
        first = bool(self.average.isnan())
        self.average.copy_(loss if first else torch.lerp(loss, self.average, self.decay))
        if float(self.average) < self.reset_limit:
            with torch.no_grad():
                nn.utils.vector_to_parameters(self.start.clone(), self.trained)
            self.update.reset_optimiser()
            self.average.fill_(math.nan)
            self.resets += 1
            self.access.recorder.put("sar/resets", self.update.steps, float(self.resets))

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))


def below_top(net: Network) -> list[nn.Module]:
    """Return the normalisation layers below the last quarter of the backbone's stages.

    Only what is trainable counts: stages and layers that are frozen are left out. Where fewer than
    two stages remain (the trunk is frozen almost to its end), or they hold less than half of the
    layers or more than nine tenths (the backbone shows its trunk as one stage), the first three
    quarters of the network's layers, the bottleneck's included, are returned; at least one.
    """
    layers = norm_layers(net)
    stages = trunk_stages(net.backbone)
    large = [i for i, s in enumerate(stages) if not isinstance(s, NORMS) and norm_layers(s)]
    if len(large) > 1:
        first = large[-max(1, round(len(large) / 4))]
        below = [layer for stage in stages[:first] for layer in norm_layers(stage)]
        if 0.5 <= len(below) / len(layers) <= 0.9:
            return below
    return layers[: max(1, len(layers) * 3 // 4)]
