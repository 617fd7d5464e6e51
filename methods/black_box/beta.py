"""BETA: divide to adapt, with two networks that refine each other's labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, TargetBatch, fixed_statistics, views
from dabench.methods.black_box.branches import Branches
from dabench.methods.functional import distillation, divergence, losses
from dabench.methods.functional.bounds import BelowOne, NonNegative, Share
from dabench.methods.functional.class_use import held_to
from dabench.methods.functional.memory import blend
from dabench.methods.functional.mixture import fit_two_component


class BETA(Branches):
    """BETA (Yang et al., 2022, "Divide to adapt"), after the authors' code (xyupeng/BETA).

    Two networks distill as DINE does. After a warm-up, each fits a two-component mixture to the
    cross-entropy of the classes that the oracle named; the easy part, refined with the other
    network's posterior, is learned with mixup over the whole batch; a penalty keeps the class
    prior of the easy part uniform. Deviations: distillation and division are one step on one batch,
    where the code has two loops; one weak and one strong view; refinement looks at the weak one;
    fine-tuning shares the epochs of the budget and trains both networks; the rate falls at every
    step, from progress 0 (there: once an epoch, counted from 1); the memory is refreshed at most
    nine times, after tenths of the run (there: ten times, an epoch earlier); mixed images move no
    running statistics (there: they do); logarithms clamp p at 1e-10 (there: p + 1e-5).

    Args:
        warmup_epochs: epochs of distillation alone.
        tau: posterior of "easy" from which a label is learned (.8 for small sets, .5 for VisDA-C).
        temperature: sharpening of refined labels.
        alpha: of the division's mixup.
        distil_alpha: of the distillation's mixup.
        power: of the distillation's learning-rate decay.
        memory: share of the old label kept at a refresh.
        im_weight: weight of information maximisation in the distillation.
        prior_weight: weight of the uniform-prior penalty, which ``diversity_prior`` uniform has.
        marginal: share of the past kept in the averaged use of classes; 0 = that of the batch, as
            there, which does not see classes that a small batch has no room for.
        fine_tune: share of the epochs, the last ones, with information maximisation alone.
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"marginal", "diversity_prior"})
    version: ClassVar[str] = "2"
    needs_probabilities: ClassVar[bool] = True
    averaged: ClassVar[Literal["logits", "probabilities"]] = "logits"

    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    tau: Share = 0.8
    temperature: Annotated[float, Field(gt=0)] = 0.5
    alpha: Annotated[float, Field(gt=0)] = 1.0
    distil_alpha: Annotated[float, Field(gt=0)] = 0.3
    power: NonNegative = 1.5
    memory: Share = 0.6
    im_weight: NonNegative = 1.0
    prior_weight: NonNegative = 1.0
    marginal: BelowOne = 0.0
    fine_tune: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def begin(self, access: BlackBox) -> None:
        """Ask once, and build both networks."""
        super().begin(access)
        answers = access.oracle.ask_all(access.target)
        self.bank, self.named = distillation.adaptive_smoothing(answers), answers.argmax(1)
        self.build_networks(access, 2, len(self.bank))
        answers = answers.to(self.networks[0].mean.device)
        self.uses = [held_to(self.diversity_prior, answers, self.marginal) for _ in self.nets]

    def decay(self) -> Callable[[float], float]:
        """DINE's two-stage factor; fine-tuning begins at the full rate again."""
        share = self.distillation_epochs / (self.trainer.max_epochs or 1)
        return partial(distillation.two_stage_factor, first=share, power=self.power, restart=0.0)

    @property
    def distillation_epochs(self) -> int:
        """Epochs before fine-tuning."""
        return distillation.distillation_epochs(self.trainer.max_epochs or 1, self.fine_tune)

    def on_train_epoch_start(self) -> None:
        """Refresh the memory at every tenth, and divide the adapt set by each network's loss."""
        epoch = self.current_epoch
        self.bank, self.named = self.bank.to(self.device), self.named.to(self.device)
        self.distilling = epoch < self.distillation_epochs
        self.divided = [False, False]
        if self.distilling and epoch:
            found = self.survey_branches()
            if epoch in distillation.refresh_epochs(self.distillation_epochs):
                mean = distillation.mean_of_logits(found)
                self.bank = blend(self.bank, mean, self.memory)
            if epoch >= self.warmup_epochs:
                for b, p in enumerate(found):
                    self._divide(b, p)
                self.divided = [self._is_divided(b) for b in range(2)]
        self.train()

    def _divide(self, b: int, p: Tensor) -> None:
        statistic = divergence.cross_entropy_to_label(p, self.named)
        split = fit_two_component(statistic.cpu().double().numpy(), seed=self.access.seed)
        if not split.degenerate:
            self.posterior[b] = torch.from_numpy(split.posterior).float()
        easy = self.posterior[b].numpy() >= self.tau
        self.record_split(b, split, easy, self.named.cpu().numpy())

    def _is_divided(self, b: int) -> bool:
        """Whether network ``b`` has easy and hard images, and the other doubts to refine by."""
        easy, doubted = self.posterior[b] >= self.tau, self.posterior[1 - b] < 1
        return bool(easy.any() and not easy.all() and doubted.any())

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Distillation of both networks, and after the warm-up the division."""
        flip, index = self.access.task.flip, batch.index
        total = batch.images.new_zeros(())
        parts: dict[str, Tensor] = {}
        images = [views.weak(batch.images, flip=flip) for _ in self.nets]
        logits = [net(x) for net, x in zip(self.nets, images, strict=True)]
        for b, net in enumerate(self.networks):
            p, use = logits[b].softmax(1), self.uses[b]
            entropy, diversity = losses.information_maximisation(p)
            if use is not None:
                diversity = use.surprise(p)
            total = total + self.im_weight * (entropy - diversity)
            if self.distilling:
                distil = losses.kl_divergence(self.bank[index], logits[b]).mean()
                with fixed_statistics(net):
                    mixup = distillation.mixup_consistency(
                        net, images[b], logits[b], self.distil_alpha
                    )
                total = total + distil + mixup
                parts[f"distillation-{b + 1}"] = distil
            if self.divided[b]:
                easy = self._easy(b, batch, [each.detach() for each in logits])
                total = total + easy
                parts[f"easy-{b + 1}"] = easy
        return self.record_losses(total, parts)

    def _easy(self, b: int, batch: TargetBatch, logits: list[Tensor]) -> Tensor:
        """Cross-entropy on the easy part of mixed strong views, and the prior penalty."""
        net, index = self.networks[b], batch.index.cpu()
        mean = torch.stack([each.softmax(1) for each in logits]).mean(0)
        easy = (self.posterior[b][index] >= self.tau).to(mean)
        w = self.posterior[1 - b][index].to(mean)[:, None]
        y = divergence.onehot(self.named[batch.index], mean.shape[1]).to(mean)
        refined = w * y + (1 - w) * logits[b].softmax(1)
        target = losses.sharpen(torch.where(easy[:, None] > 0, refined, mean), self.temperature)
        mixed, mixed_target = self.mixup_of_strong_views(net, batch.images, target, self.alpha)
        ce = losses.soft_cross_entropy(mixed, mixed_target)
        if not easy.any():
            return ce.sum() * 0.0
        penalty = distillation.prior_penalty(mixed.softmax(1)[easy > 0])
        weight = self.prior_weight if self.diversity_prior == "uniform" else 0.0
        return (ce * easy).sum() / easy.sum() + weight * penalty
