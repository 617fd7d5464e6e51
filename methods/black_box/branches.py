"""Networks that learn side by side from the answers of a black box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dabench.api import (
    BlackBox,
    Ensemble,
    Network,
    OfflineMethod,
    Prediction,
    Separation,
    fixed_statistics,
    inverse_decay,
    joint_groups,
    set_probabilities,
    views,
)
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.class_use import ClassPrior
from dabench.methods.functional.distillation import branch_quality, mix, mixup_weight
from dabench.methods.functional.mixture import Split


class Branches(OfflineMethod):
    """Fresh target networks, one optimiser for all, and the choice of one without labels.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone; leave out for .1 where it is
            pretrained and 1 where it starts from nothing.
        diversity_prior: how classes are expected to occur: all alike (uniform), as in the mean of
            the oracle's answers (oracle-mean), or no such term (none), for partial targets.
    """

    grant: ClassVar[type | tuple[type, ...]] = BlackBox
    access: BlackBox
    #: what of the networks' answers is averaged
    averaged: ClassVar[Literal["logits", "probabilities"]]
    #: power of the learning-rate decay, an option of the methods
    power: float

    lr: Positive = 1e-2
    backbone_factor: NonNegative | None = None
    diversity_prior: ClassPrior = "uniform"

    def build_networks(self, access: BlackBox, count: int, images: int) -> None:
        """Build ``count`` networks; all ``images`` labels count as right until they are split."""
        self.nets = nn.ModuleList(access.new_network(b) for b in range(count))
        self.posterior = [torch.ones(images) for _ in self.nets]
        self.best = 0

    @property
    def networks(self) -> list[Network]:
        """The branches."""
        return [net for net in self.nets if isinstance(net, Network)]

    def decay(self) -> Callable[[float], float]:
        """Return the learning-rate factor by progress."""
        return partial(inverse_decay, power=self.power)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser: the branches' losses share no parameter."""
        groups = joint_groups(self.networks, self.lr, self.backbone_factor)
        return self.decaying_sgd(groups, factor=self.decay())

    def survey_branches(self) -> list[Tensor]:
        """Return each branch's (N, K) probabilities of the adapt set."""
        return [set_probabilities(net, self.access.target) for net in self.networks]

    def mixup_of_strong_views(
        self, net: Network, images: Tensor, target: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor]:
        """Return a branch's logits of mixed strong views, and the targets mixed alike.

        A row stays mostly itself. ``alpha``: of mixup's Beta distribution; 0 = no mixup.
        """
        strong = views.strong(images, flip=self.access.task.flip)
        order = torch.randperm(len(strong), device=strong.device)
        weight = mixup_weight(alpha) if alpha else 1.0
        weight = max(weight, 1 - weight)
        # BatchNorm's running statistics come from weak views: those are what the user asks about
        with fixed_statistics(net):
            logits: Tensor = net(mix(strong, order, weight))
        return logits, mix(target, order, weight)

    def record_split(self, b: int, split: Split, right: np.ndarray, labels: np.ndarray) -> None:
        """Record how branch ``b`` splits the adapt set into right and doubtful labels."""
        found = Separation(split.values, right, split.weights, split.means, split.variances, labels)
        self.access.recorder.put(f"separation/branch-{b + 1}", self.current_epoch, found)
        if split.degenerate:
            self.note(f"degenerate-mixture-{b + 1}")

    def calibrate(self) -> None:
        """Name the branch that is sure and diverse on the adapt set, for ``also``."""
        self.best = int(np.argmax([branch_quality(p) for p in self.survey_branches()]))

    def adapted_network(self) -> Ensemble:
        """Return the networks as one."""
        return Ensemble(self.networks, self.averaged)

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the mean of the networks' answers."""
        return Prediction(self.adapted_network()(images))

    def also(self, images: Tensor) -> Mapping[str, Prediction]:
        """The branch that the label-free rule prefers, alone."""
        if len(self.nets) < 2:
            return {}
        return {"single-branch": Prediction(self.networks[self.best](images))}
