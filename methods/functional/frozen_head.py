"""What methods with SHOT's frozen classifier share on a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from dabench.methods.functional.gradient_step import GradientStep, GradNorm, learnable
from dabench.methods.functional.normalisation import adapt_normalisation


@dataclass(frozen=True, kw_only=True)
class FrozenHead:
    """How everything but the classifier learns: SGD at constant rates, adapted normalisation.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        momentum: of SGD, in [0, 1); Nesterov's, unless it is 0.
        weight_decay: L2 penalty.
        rho: weight of the batch in BatchNorm statistics; 1 = batch alone.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.

    Source: the optimiser and the frozen classifier are SHOT's (Liang et al., ICML 2020).
    """

    lr: float
    backbone_factor: float
    momentum: float
    weight_decay: float
    rho: float
    grad_norm: GradNorm
    max_norm: float

    @classmethod
    def from_options(cls, method: Any) -> FrozenHead:
        """Read the settings from a method that has options of the same names."""
        return cls(**{field.name: getattr(method, field.name) for field in fields(cls)})

    def start(
        self,
        net: nn.Module,
        classifier: nn.Module,
        groups: Callable[[float, float], list[dict[str, Any]]],
        put: Callable[[str, int, float], None],
    ) -> GradientStep:
        """Freeze the classifier, adapt the normalisation, and return the update.

        Args:
            net: the whole network, changed in place.
            classifier: its last layer.
            groups: (lr, backbone_factor) -> parameter groups of what is trainable.
            put: recorder of (name, step, value).

        Raises:
            ConfigError: all the rest is frozen, too.
        """
        classifier.requires_grad_(False)
        learnable(net)
        adapt_normalisation(net, self.rho)
        optimiser = torch.optim.SGD(
            groups(self.lr, self.backbone_factor),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )
        return GradientStep(net, optimiser, put, self.grad_norm, self.max_norm)
