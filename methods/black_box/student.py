"""A target network that learns from answers that were asked for once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from dabench.api import (
    BlackBox,
    OfflineMethod,
    Prediction,
    inverse_decay,
    set_probabilities,
)
from dabench.methods.functional import distillation
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.class_use import ClassPrior, ClassUse
from dabench.methods.functional.memory import blend


class Student(OfflineMethod):
    """One fresh network, SGD with a decaying rate, and the oracle's answers.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone; leave out for .1 where it is
            pretrained and 1 where it starts from nothing.
        power: of the learning-rate decay.
    """

    grant: ClassVar[type | tuple[type, ...]] = BlackBox
    access: BlackBox

    lr: Positive = 1e-2
    backbone_factor: NonNegative | None = None
    power: NonNegative = 0.75

    def begin(self, access: BlackBox) -> None:
        """Ask once about every image, and build the target network."""
        super().begin(access)
        self.net = access.new_network(0)
        self.answers = access.oracle.ask_all(access.target).to(self.net.mean.device)

    def decay(self) -> Callable[[float], float]:
        """Return the learning-rate factor by progress."""
        return partial(inverse_decay, power=self.power)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD on all layers."""
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        return self.decaying_sgd(groups, factor=self.decay())

    def first_epochs(self, share: float) -> int:
        """Return how many epochs a first stage has, of a share of the run: at least one."""
        return distillation.distillation_epochs(self.trainer.max_epochs or 1, 1 - share)

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the target network."""
        return Prediction(self.net(images))


class DiverseStudent(Student):
    """A student that is held to use the classes as they are expected to occur.

    A batch smaller than the number of classes cannot show all of them, so the use of classes is an
    average over batches; the gradient passes the batch's part alone.

    Args:
        diversity_prior: how classes are expected to occur: all alike (uniform), as in the mean of
            the oracle's answers (oracle-mean), or no such term (none). Where the target lacks
            classes, uniform is wrong.
        marginal: share of the past kept in the averaged use of classes; 0 = that of the batch.
    """

    diversity_prior: ClassPrior = "uniform"
    marginal: BelowOne = 0.9

    def begin(self, access: BlackBox) -> None:
        """As a student; the average starts where it is to be."""
        super().begin(access)
        self.use = ClassUse(self.diversity_prior, self.answers, self.marginal)

    def diversity(self, p: Tensor) -> Tensor:
        """Return how far (B, K) answers go towards classes that are used too little; a scalar."""
        return self.use.surprise(p)


class MemoryStudent(DiverseStudent):
    """A student of smoothed answers in a memory that follows its own predictions, as in DINE.

    Args:
        memory: share of the old label kept at a refresh, which comes after every tenth of the run.
    """

    needs_probabilities: ClassVar[bool] = True

    power: NonNegative = 1.5
    memory: Share = 0.6

    def begin(self, access: BlackBox) -> None:
        """As a student; the memory holds the smoothed answers."""
        super().begin(access)
        self.bank = distillation.adaptive_smoothing(self.answers)

    def refresh_bank(self) -> bool:
        """Move the memory towards the network's predictions, after every tenth; True if so."""
        due = self.current_epoch in distillation.refresh_epochs(self.trainer.max_epochs or 1)
        if due:
            found = set_probabilities(self.net, self.access.target)
            self.bank = blend(self.bank, found, self.memory)
        return due
