"""CABB: curriculum-guided black-box adaptation with two co-trained branches (reconstruction)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, Prediction, TargetBatch, views
from dabench.methods.black_box.branches import Branches
from dabench.methods.functional import distillation, divergence, losses
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.clean_noisy import (
    clean_noisy_terms,
    label_disagreement,
    refine_or_guess,
)
from dabench.methods.functional.mixture import fit_two_component, per_class_posterior


class CABB(Branches):
    """CABB (arXiv 2308.00956), **a reconstruction** from its abstract and its ancestors.

    Two branches learn from the answers of a black box, which are asked once. Before every epoch
    the Jensen-Shannon divergence between label and prediction splits the target into clean and
    noisy labels by a two-component mixture, a branch for the other one. Clean labels are refined,
    noisy ones guessed by both branches; a curriculum moves the weight from clean to noisy. No
    warm-up and no fine-tuning stage. What the abstract does not state is ours or an ancestor's
    (DivideMix, UNICON, DINE, BETA); docs/methods.md lists it.

    Args:
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
    reconstruction: ClassVar[bool] = True

    criterion: Literal["jsd", "ce"] = "jsd"
    label_side: Literal["hard", "soft"] = "hard"
    mixture: Literal["global", "class"] = "class"
    tau: Share = 0.5
    branches: Literal["dual", "single"] = "dual"
    curriculum: bool = True
    gamma_end: Share = 0.5
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    temperature: Positive = 0.5
    alpha: NonNegative = 1.0
    power: NonNegative = 0.75
    memory: Share = 0.6
    noisy_loss: Literal["mse", "ce"] = "mse"
    label_views: Literal["strong", "both"] = "both"
    im_weight: NonNegative = 1.0

    def begin(self, access: BlackBox) -> None:
        """Ask the oracle once about every target image, and build the branches."""
        super().begin(access)
        self.k = access.task.num_classes
        self.answers = access.oracle.ask_all(access.target)
        # a class without a probability says nothing of how sure the model is
        mass = None if access.oracle.gives_probabilities else 0.9
        self.labels = distillation.adaptive_smoothing(self.answers, mass)
        self.build_networks(access, 2 if self.branches == "dual" else 1, len(self.answers))

    # -- separation ---------------------------------------------------------------------------

    def statistic(self, reference: Tensor) -> Tensor:
        """Return the (N,) disagreement of labels and (N, K) reference predictions."""
        side = self.labels
        # at the start a soft label is the reference itself with another tail
        if self.label_side == "hard" or not self.current_epoch:
            side = divergence.onehot(self.labels.argmax(1), self.k)
        return label_disagreement(side, reference, self.criterion)

    def on_train_epoch_start(self) -> None:
        """Refresh the labels now and then, and split the adapt set for each branch."""
        epoch = self.current_epoch
        self.answers, self.labels = self.answers.to(self.device), self.labels.to(self.device)
        # at the start the branches' heads are random: the oracle's own answers say which labels
        # are doubtful, and no warm-up is needed
        found = self.survey_branches() if epoch else [self.answers]
        references = found if epoch else found * len(self.nets)
        if epoch in distillation.refresh_epochs(self.trainer.max_epochs or 1):
            mean = torch.stack(found).mean(0)
            self.labels = self.memory * self.labels + (1 - self.memory) * mean
        for b, reference in enumerate(references):
            self._split(b, self.statistic(reference), epoch)
        self.train()

    def _split(self, b: int, statistic: Tensor, epoch: int) -> None:
        """Fit the mixture and keep the posterior of "clean"; a degenerate fit changes nothing."""
        values, classes = np.asarray(statistic.cpu().double()), self.labels.argmax(1).cpu().numpy()
        split = fit_two_component(values, seed=self.access.seed)
        if epoch < self.warmup_epochs or split.degenerate:
            posterior = self.posterior[b].cpu().double().numpy()
        else:
            posterior = split.posterior
            if self.mixture == "class":
                posterior = per_class_posterior(values, classes, posterior, seed=self.access.seed)
        self.posterior[b] = torch.from_numpy(posterior).to(self.device, torch.float32)
        clean = posterior >= self.tau
        self.record_split(b, split, clean, classes)

    # -- training -----------------------------------------------------------------------------

    def gamma(self) -> float:
        """Weight of the clean term: linear from 1 to ``gamma_end``."""
        return 1 + (self.gamma_end - 1) * self.progress if self.curriculum else 0.5

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Sum of the branches' losses on one batch."""
        flip, index = self.access.task.flip, batch.index
        weak = [self.nets[b](views.weak(batch.images, flip=flip)) for b in range(len(self.nets))]
        p = [logits.softmax(1) for logits in weak]
        guess = torch.stack([each.detach() for each in p]).mean(0)
        total = weak[0].new_zeros(())
        parts: dict[str, Tensor] = {}
        for b, net in enumerate(self.networks):
            omega = self.posterior[len(self.nets) - 1 - b][index]  # the other branch's split
            clean = (omega >= self.tau).float()
            labels = self.labels[index].argmax(1)
            target = refine_or_guess(labels, omega, clean, p[b].detach(), guess)
            target = losses.sharpen(target, self.temperature)
            logits, mixed = self.mixup_of_strong_views(net, batch.images, target, self.alpha)
            l_clean, l_noisy = clean_noisy_terms(logits, mixed, clean, self.noisy_loss)
            if self.label_views == "both":
                on_weak = clean_noisy_terms(weak[b], target, clean, self.noisy_loss)
                l_clean, l_noisy = (l_clean + on_weak[0]) / 2, (l_noisy + on_weak[1]) / 2
            entropy, diversity = losses.information_maximisation(p[b])
            gamma = self.gamma()
            total = total + gamma * l_clean + (1 - gamma) * l_noisy
            total = total + self.im_weight * (entropy - diversity)
            found = {"clean": l_clean, "noisy": l_noisy, "entropy": entropy}
            parts |= {f"{name}-{b + 1}": value for name, value in found.items()}
        return self.record_losses(total, parts)

    def predict(self, images: Tensor) -> Prediction:
        """Mean probability of the branches."""
        p = torch.stack([net(images).softmax(1) for net in self.networks]).mean(0)
        return Prediction(p.clamp_min(1e-10).log())
