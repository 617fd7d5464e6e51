"""CABB: curriculum-guided black-box adaptation with two co-trained branches (reconstruction)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import (
    BlackBox,
    DecayingSGD,
    Network,
    OfflineMethod,
    Prediction,
    Separation,
    TargetBatch,
    fixed_statistics,
    inverse_decay,
    joint_groups,
    set_probabilities,
    views,
)
from dabench.methods.functional import distillation, divergence, losses
from dabench.methods.functional.mixture import fit_two_component, per_class_posterior

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class CABB(OfflineMethod):
    """CABB (arXiv 2308.00956), **a reconstruction** from its abstract and its ancestors.

    Two branches learn from the answers of a black box, which are asked once. Before every epoch
    the Jensen-Shannon divergence between label and prediction splits the target into clean and
    noisy labels by a two-component mixture, a branch for the other one. Clean labels are refined,
    noisy ones guessed by both branches; a curriculum moves the weight from clean to noisy. No
    warm-up and no fine-tuning stage. What the abstract does not state is ours or an ancestor's
    (DivideMix, UNICON, DINE, BETA); docs/methods.md lists it.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone; leave out for .1 where it is
            pretrained and 1 where it starts from nothing.
        criterion: statistic of the separation: Jensen-Shannon divergence or cross-entropy.
        label_side: what predictions are compared with: the label's class (hard) or, from the
            second epoch on, the stored distribution (soft).
        mixture: one mixture for all images (global), or one a pseudo-class (class), so that a
            class about which the oracle is never sure keeps clean rows.
        tau: posterior of "clean" from which a label counts as clean.
        branches: dual, each taking the other's split; or single, taking its own.
        curriculum: move weight from the clean to the noisy term (off: both the weight .5).
        gamma_end: weight of the clean term at the end of the curriculum, which starts at 1.
        warmup_epochs: epochs in which all labels count as clean.
        temperature: sharpening of refined and guessed labels.
        alpha: of mixup's Beta distribution; 0 = no mixup.
        power: of the learning-rate decay.
        memory: share of the old label kept when labels are refreshed by the branches.
        noisy_loss: squared error (mse) or cross-entropy (ce) on noisy labels.
        label_views: learn labels on the mixed strong view alone (strong), or half on the weak view
            (both), the one that information maximisation works on.
        im_weight: weight of information maximisation.
    """

    version: ClassVar[str] = "2"
    grant: ClassVar[type | tuple[type, ...]] = BlackBox
    reconstruction: ClassVar[bool] = True
    access: BlackBox

    def __init__(
        self,
        *,
        lr: Positive = 1e-2,
        backbone_factor: NonNegative | None = None,
        criterion: Literal["jsd", "ce"] = "jsd",
        label_side: Literal["hard", "soft"] = "hard",
        mixture: Literal["global", "class"] = "class",
        tau: Share = 0.5,
        branches: Literal["dual", "single"] = "dual",
        curriculum: bool = True,
        gamma_end: Share = 0.5,
        warmup_epochs: Annotated[int, Field(ge=0)] = 0,
        temperature: Positive = 0.5,
        alpha: NonNegative = 1.0,
        power: NonNegative = 0.75,
        memory: Share = 0.6,
        noisy_loss: Literal["mse", "ce"] = "mse",
        label_views: Literal["strong", "both"] = "both",
        im_weight: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.lr, self.backbone_factor = lr, backbone_factor
        self.criterion, self.label_side = criterion, label_side
        self.mixture, self.tau = mixture, tau
        self.dual = branches == "dual"
        self.curriculum, self.gamma_end = curriculum, gamma_end
        self.warmup_epochs = warmup_epochs
        self.power, self.temperature = power, temperature
        self.alpha, self.memory = alpha, memory
        self.noisy_loss, self.im_weight = noisy_loss, im_weight
        self.label_views = label_views

    def begin(self, access: BlackBox) -> None:
        """Ask the oracle once about every target image, and build the branches."""
        super().begin(access)
        self.k = access.task.num_classes
        self.answers = access.oracle.ask_all(access.target)
        # a class without a probability says nothing of how sure the model is
        mass = None if access.oracle.gives_probabilities else 0.9
        self.labels = distillation.adaptive_smoothing(self.answers, mass)
        count = 2 if self.dual else 1
        self.branches = nn.ModuleList(access.new_network(b) for b in range(count))
        self.posterior = [torch.ones(len(self.answers)) for _ in self.branches]
        self.best = 0

    @property
    def networks(self) -> list[Network]:
        """The branches."""
        return [net for net in self.branches if isinstance(net, Network)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser: the branches' losses share no parameter."""
        groups = joint_groups(self.networks, self.lr, self.backbone_factor)
        steps = int(self.trainer.estimated_stepping_batches)
        factor = partial(inverse_decay, power=self.power)
        return DecayingSGD(groups, total_steps=steps, factor=factor)

    # -- separation ---------------------------------------------------------------------------

    def _surveys(self) -> list[Tensor]:
        """Return each branch's (N, K) probabilities of the adapt set."""
        return [set_probabilities(net, self.access.target) for net in self.networks]

    def statistic(self, reference: Tensor) -> Tensor:
        """Return the (N,) disagreement of labels and (N, K) reference predictions."""
        side = self.labels
        # at the start a soft label is the reference itself with another tail
        if self.label_side == "hard" or not self.current_epoch:
            side = divergence.onehot(self.labels.argmax(1), self.k)
        if self.criterion == "jsd":
            return divergence.jsd(side, reference)
        return -(side * reference.clamp_min(1e-10).log()).sum(1)

    def on_train_epoch_start(self) -> None:
        """Refresh the labels now and then, and split the adapt set for each branch."""
        epoch = self.current_epoch
        self.answers, self.labels = self.answers.to(self.device), self.labels.to(self.device)
        # at the start the branches' heads are random: the oracle's own answers say which labels
        # are doubtful, and no warm-up is needed
        found = self._surveys() if epoch else [self.answers]
        references = found if epoch else found * len(self.branches)
        if epoch in distillation.refresh_epochs(self.trainer.max_epochs or 1):
            mean = torch.stack(found).mean(0)
            self.labels = self.memory * self.labels + (1 - self.memory) * mean
        for b, reference in enumerate(references):
            self._split(b, self.statistic(reference), epoch)
        self.train()

    def _split(self, b: int, statistic: Tensor, epoch: int) -> None:
        """Fit the mixture and keep the posterior of "clean"; a degenerate fit changes nothing."""
        values, classes = np.asarray(statistic.double().cpu()), self.labels.argmax(1).cpu().numpy()
        split = fit_two_component(values, seed=self.access.seed)
        if epoch < self.warmup_epochs or split.degenerate:
            posterior = self.posterior[b].double().cpu().numpy()
        else:
            posterior = split.posterior
            if self.mixture == "class":
                posterior = per_class_posterior(values, classes, posterior, seed=self.access.seed)
        self.posterior[b] = torch.from_numpy(posterior).to(self.device, torch.float32)
        clean = posterior >= self.tau
        found = Separation(
            split.values, clean, split.weights, split.means, split.variances, classes
        )
        self.access.recorder.put(f"separation/branch-{b + 1}", epoch, found)

    # -- training -----------------------------------------------------------------------------

    def gamma(self) -> float:
        """Weight of the clean term: linear from 1 to ``gamma_end``."""
        return 1 + (self.gamma_end - 1) * self.progress if self.curriculum else 0.5

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Sum of the branches' losses on one batch."""
        flip, index = self.access.task.flip, batch.index
        weak = [self.branches[b](views.weak(batch.images, flip=flip)) for b in self._each]
        p = [logits.softmax(1) for logits in weak]
        guess = torch.stack([each.detach() for each in p]).mean(0)
        total = weak[0].new_zeros(())
        parts: dict[str, Tensor] = {}
        for b, net in enumerate(self.networks):
            omega = self.posterior[-1 - b if self.dual else b][index]  # the other branch's split
            clean = (omega >= self.tau).float()
            target = self._targets(index, omega, clean, p[b].detach(), guess)
            l_clean, l_noisy = self._mixed(net, batch.images, target, clean)
            if self.label_views == "both":
                on_weak = self._terms(weak[b], target, clean)
                l_clean, l_noisy = (l_clean + on_weak[0]) / 2, (l_noisy + on_weak[1]) / 2
            entropy, diversity = losses.information_maximisation(p[b])
            gamma = self.gamma()
            total = total + gamma * l_clean + (1 - gamma) * l_noisy
            total = total + self.im_weight * (entropy - diversity)
            found = {"clean": l_clean, "noisy": l_noisy, "entropy": entropy}
            parts |= {f"{name}-{b + 1}": value for name, value in found.items()}
        return self.record_losses(total, parts)

    @property
    def _each(self) -> range:
        return range(len(self.branches))

    def _targets(
        self, index: Tensor, omega: Tensor, clean: Tensor, own: Tensor, guess: Tensor
    ) -> Tensor:
        """Return (B, K) labels: refined where clean, guessed by both branches where noisy."""
        y = divergence.onehot(self.labels[index].argmax(1), self.k).to(own)
        refined = omega[:, None] * y + (1 - omega[:, None]) * own
        chosen = torch.where(clean[:, None] > 0, refined, guess)
        return losses.sharpen(chosen, self.temperature)

    def _mixed(
        self, net: Network, images: Tensor, target: Tensor, clean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the clean and the noisy term on mixed strong views."""
        strong = views.strong(images, flip=self.access.task.flip)
        order = torch.randperm(len(images), device=images.device)
        weight = distillation.mixup_weight(self.alpha) if self.alpha else 1.0
        weight = max(weight, 1 - weight)  # a row stays mostly itself, clean or noisy
        y = distillation.mix(target, order, weight)
        # BatchNorm's running statistics come from weak views: those are what the user asks about
        with fixed_statistics(net):
            logits = net(distillation.mix(strong, order, weight))
        return self._terms(logits, y, clean)

    def _terms(self, logits: Tensor, y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means over clean and over noisy rows."""
        l_clean = losses.soft_cross_entropy(logits, y)
        l_noisy = l_clean
        if self.noisy_loss == "mse":
            l_noisy = (logits.softmax(1) - y).square().sum(1)
        noisy = 1 - clean
        return (
            (l_clean * clean).sum() / clean.sum().clamp(min=1),
            (l_noisy * noisy).sum() / noisy.sum().clamp(min=1),
        )

    # -- inference ----------------------------------------------------------------------------

    def calibrate(self) -> None:
        """Name the branch that is sure and diverse on the adapt set, for ``also``."""
        quality = [distillation.branch_quality(p) for p in self._surveys()]
        self.best = int(np.argmax(quality))

    def predict(self, images: Tensor) -> Prediction:
        """Mean probability of the branches."""
        p = torch.stack([net(images).softmax(1) for net in self.networks]).mean(0)
        return Prediction(p.clamp_min(1e-10).log())

    def also(self, images: Tensor) -> Mapping[str, Prediction]:
        """The branch that the label-free rule prefers, alone."""
        if not self.dual:
            return {}
        return {"single-branch": Prediction(self.networks[self.best](images))}
