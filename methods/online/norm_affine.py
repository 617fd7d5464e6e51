"""What methods share that train weight and bias of the normalisation layers by one optimiser."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dabench.api import Online, OnlineMethod, Prediction
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import GradientStep, GradNorm, build_optimiser
from dabench.methods.functional.normalisation import adapt_normalisation, train_only_norms
from dabench.methods.functional.online import flatten_all


class NormAffine(OnlineMethod):
    """Weight and bias of BatchNorm, LayerNorm and GroupNorm layers are trained, all else is frozen.

    BatchNorm normalises by the batch. A method adds its ``step``.

    Args:
        optimiser: adam (small images, in the papers) or sgd (ImageNet).
        lr: learning rate; 2.5e-4 is usual with sgd (``pl``, ``rpl`` on ImageNet: 5e-4).
        momentum: of sgd; the first beta of adam.
        weight_decay: L2 penalty.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Positive = 1e-3
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    rho: Share = 1.0
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model and freeze all but its normalisation layers.

        Raises:
            ConfigError: a network with nothing to adapt.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        self.exchange_norms()
        self.learn(train_only_norms(self.net, self.layers()))

    def exchange_norms(self) -> None:
        """Exchange the network's BatchNorm layers."""
        adapt_normalisation(self.net, self.rho)

    def learn(self, parameters: list[Tensor], beside: nn.Module | None = None) -> None:
        """Let the optimiser hold these parameters, and no others.

        Args:
            parameters: of the network, and of a module ``beside`` it.
            beside: tells which of its parameters are one layer.
        """
        optimiser = build_optimiser(
            self.optimiser,
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        whole = self.net if beside is None else nn.ModuleList((self.net, beside))
        self.update = GradientStep(
            whole, optimiser, self.access.recorder.put, self.grad_norm, self.max_norm
        )

    def layers(self) -> list[nn.Module] | None:
        """Return the normalisation layers of the network that learn; None = all."""
        return None

    def trained_values(self) -> Tensor:
        """Return a copy of all trained parameters as one (P,) vector."""
        return flatten_all(self.update.held).detach().clone()

    @torch.no_grad()
    def set_trained_values(self, values: Tensor) -> None:
        """Set all trained parameters from one (P,) vector."""
        nn.utils.vector_to_parameters(values.clone(), self.update.held)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics of these images."""
        return Prediction(self.net(images))
