"""DINE: distill and fine-tune from a black box."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import (
    BlackBox,
    OfflineMethod,
    Prediction,
    TargetBatch,
    fixed_statistics,
    set_probabilities,
    views,
)
from dabench.methods.functional import distillation, losses
from dabench.methods.functional.bounds import BelowOne, NonNegative
from dabench.methods.functional.class_use import ClassPrior, held_to
from dabench.methods.functional.memory import blend


class DINE(OfflineMethod):
    """DINE (Liang et al., CVPR 2022), after the authors' code (tim-learn/DINE).

    Stage 1 distills the oracle's smoothed answers, kept in a memory that is refreshed at every
    tenth, with mixup consistency and information maximisation. Stage 2 (``fine_tune``) is
    information maximisation alone, with a decay of its own. Deviations: the two stages share the
    epochs of the budget, in place of 30 + 30, and stage 2 does not stop early; mixup and
    distillation are one backward pass; views are the suite's weak policy; the rate's decay starts
    at step 0 (there: 1); the memory is refreshed between epochs alone (there: within them too);
    mixed images move no running statistics (there: they do); logarithms clamp p at 1e-10 (there:
    p + 1e-5).

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone; leave out for .1 where it is
            pretrained and 1 where it starts from nothing.
        power: of stage 1's learning-rate decay.
        memory: share of the old label kept at a refresh.
        alpha: of mixup's Beta distribution.
        mix_weight: weight of the mixup consistency.
        im_weight: weight of information maximisation.
        marginal: share of the past kept in the averaged use of classes; 0 = that of the batch, as
            there, which does not see classes that a small batch has no room for.
        diversity_prior: how classes are expected to occur: all alike (uniform), as in the mean of
            the oracle's answers (oracle-mean), or no such term (none), for partial targets.
        fine_tune: share of the epochs, the last ones, that are stage 2; 0 = no fine-tuning.
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"marginal", "diversity_prior"})
    grant: ClassVar[type | tuple[type, ...]] = BlackBox
    needs_probabilities: ClassVar[bool] = True
    access: BlackBox

    lr: Annotated[float, Field(gt=0)] = 1e-2
    backbone_factor: NonNegative | None = None
    power: Annotated[float, Field(ge=0)] = 1.5
    memory: Annotated[float, Field(ge=0, le=1)] = 0.6
    alpha: Annotated[float, Field(gt=0)] = 0.3
    mix_weight: NonNegative = 1.0
    im_weight: NonNegative = 1.0
    marginal: BelowOne = 0.0
    diversity_prior: ClassPrior = "uniform"
    fine_tune: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def begin(self, access: BlackBox) -> None:
        """Ask once, and build the target network."""
        super().begin(access)
        answers = access.oracle.ask_all(access.target)
        self.bank = distillation.adaptive_smoothing(answers)
        self.net = access.new_network(0)
        self.use = held_to(self.diversity_prior, answers.to(self.net.mean.device), self.marginal)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD; each stage decays by itself."""
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        share = self.distillation_epochs / (self.trainer.max_epochs or 1)
        factor = partial(distillation.two_stage_factor, first=share, power=self.power, restart=1.0)
        return self.decaying_sgd(groups, factor=factor)

    @property
    def distillation_epochs(self) -> int:
        """Epochs of stage 1."""
        return distillation.distillation_epochs(self.trainer.max_epochs or 1, self.fine_tune)

    def on_train_epoch_start(self) -> None:
        """Move the memory towards the network's predictions, at every tenth of stage 1."""
        epoch = self.current_epoch
        self.bank = self.bank.to(self.device)
        self.distilling = epoch < self.distillation_epochs
        if self.distilling and epoch in distillation.refresh_epochs(self.distillation_epochs):
            found = set_probabilities(self.net, self.access.target)
            self.bank = blend(self.bank, found, self.memory)
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Distillation, mixup consistency and information maximisation; or the last alone."""
        images = views.weak(batch.images, flip=self.access.task.flip)
        logits = self.net(images)
        p = logits.softmax(1)
        entropy, diversity = losses.information_maximisation(p)
        if self.use is not None:
            diversity = self.use.surprise(p)
        loss = self.im_weight * (entropy - diversity)
        parts = {"entropy": entropy, "diversity": diversity}
        if self.distilling:
            distil = losses.kl_divergence(self.bank[batch.index], logits).mean()
            # DINE's code means to keep BatchNorm's running statistics out of the mixed images
            with fixed_statistics(self.net):
                consistency = distillation.mixup_consistency(self.net, images, logits, self.alpha)
            loss = loss + distil + self.mix_weight * consistency
            parts |= {"distillation": distil, "mixup": consistency}
        return self.record_losses(loss, parts)

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the target network."""
        return Prediction(self.net(images))
