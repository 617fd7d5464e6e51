"""CABB: curriculum-guided black-box adaptation with two co-trained branches (reconstruction)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, Network, TargetBatch, set_features, views
from dabench.methods.black_box.branches import Branches
from dabench.methods.functional import clean_noisy, distillation, divergence, losses
from dabench.methods.functional import label_refinement as refinement
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.class_use import averaged_use, rebalanced
from dabench.methods.functional.memory import blend
from dabench.methods.functional.mixture import fit_two_component


class CABB(Branches):
    """CABB (arXiv 2308.00956), **a reconstruction** from its abstract and its ancestors.

    Two branches learn from the answers of a black box, which are asked once. Labels come first:
    before every epoch the classes' centroids in a branch's own features refine the soft labels, and
    the *other* branch's bank of labels moves towards them. Networks that start from nothing have no
    features to trust before the first epoch: their first labels are the answers, brought to the
    expected use of classes. The Jensen-Shannon divergence between a label and the mean label of its
    neighbours in the other branch's features then splits the target into clean and noisy labels by
    a two-component mixture. Every row learns its bank from the first step on; a curriculum moves
    weight from clean to noisy rows. No warm-up and no fine-tuning stage. What the abstract does not
    state is ours or an ancestor's (DivideMix, UNICON, SHOT, DINE, BETA); docs/reconstructions.md
    lists it.

    Args:
        refine: refine labels by centroids; off: the bank has first labels and branches' answers.
        start: labels of the first epoch: by centroids, the answers rebalanced, or the answers as
            they are; leave out for centroids where the networks are pretrained, and else
            rebalanced (to uniform use alone). Rebalanced ones stand for the answers to the end.
        criterion: statistic of the separation: Jensen-Shannon divergence, cross-entropy, or none
            (no separation: all labels count as clean).
        neighbours: whose mean label a label is compared with; 0 = the answer about the image.
        branches: dual or single.
        co_training: take labels and neighbours from the other branch; off: from one's own.
        curriculum: let the weight of noisy rows rise to 1; off: it is 1 throughout.
        noisy_start: weight of noisy rows at the start of the curriculum.
        harden: share of the smoothed class in the target of a row that is surely clean.
        mix_weight: weight of the mixed strong views beside the weak ones; 0 = no strong views.
        power: of the learning-rate decay.
        memory: share of the old label kept when labels are refreshed before an epoch.
        temperature: of the centroids' softmax.
        prior: power of the oracle's answer beside the centroids; 0 = centroids alone.
        im_weight: weight of information maximisation.
        marginal: share of the past kept in the averaged class marginal.
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"diversity_prior"})
    version: ClassVar[str] = "4"
    reconstruction: ClassVar[bool] = True
    averaged: ClassVar[Literal["logits", "probabilities"]] = "probabilities"

    refine: bool = True
    start: Literal["centroids", "rebalanced", "answers"] | None = None
    criterion: Literal["jsd", "ce", "none"] = "jsd"
    neighbours: Annotated[int, Field(ge=0)] = 10
    branches: Literal["dual", "single"] = "dual"
    co_training: bool = True
    curriculum: bool = True
    noisy_start: Share = 0.3
    harden: Share = 1.0
    mix_weight: NonNegative = 0.5
    power: NonNegative = 0.75
    memory: Share = 0.7
    temperature: Positive = 0.07
    prior: Share = 0.5
    im_weight: NonNegative = 0.1
    marginal: BelowOne = 0.9

    def begin(self, access: BlackBox) -> None:
        """Ask the oracle once about every target image, and build the branches."""
        super().begin(access)
        self.k = access.task.num_classes
        answers = access.oracle.ask_all(access.target)
        self.build_networks(access, 2 if self.branches == "dual" else 1, len(answers))
        if not access.oracle.gives_probabilities:
            # a class without a probability says nothing of how sure the model is
            answers = distillation.adaptive_smoothing(answers, 0.9)
        self.answers = answers.to(self.networks[0].mean.device)
        usual = "centroids" if self.networks[0].pretrained else "rebalanced"
        self.first_labels = self.start or usual
        if self.first_labels == "rebalanced":
            self.answers = rebalanced(self.diversity_prior, self.answers)
        self.banks = [self.answers for _ in self.nets]
        prior = self.diversity_prior, self.answers, self.marginal
        self.uses = [averaged_use(*prior) for _ in self.nets]

    def on_train_epoch_start(self) -> None:
        """Refresh each branch's labels, and split the adapt set for it."""
        surveys = [self._survey(net) for net in self.networks]
        found = [self._labels(b, z, p) for b, (z, p) in enumerate(surveys)]
        partners = list(range(len(self.nets)))[:: -1 if self.co_training else 1]
        kept = self.memory if self.current_epoch else 0.0
        for b, partner in enumerate(partners):
            self.banks[b] = blend(self.banks[b], found[partner], kept)
            witness = surveys[b][1] if self.current_epoch else self.answers
            if self.neighbours:
                z, bank = surveys[partner][0], self.banks[b]
                witness = refinement.neighbours_answer(z, bank, self.neighbours)
            if self.criterion != "none":
                side = divergence.onehot(self.banks[b].argmax(1), self.k).to(witness)
                self._split(b, clean_noisy.label_disagreement(side, witness, self.criterion))
        self.train()

    def _survey(self, net: Network) -> tuple[Tensor, Tensor]:
        """Return a branch's centred (N, D) features of unit length, and (N, K) probabilities."""
        features, p = set_features(net, self.access.target)
        return refinement.centred_unit(features), p

    def _labels(self, b: int, z: Tensor, p: Tensor) -> Tensor:
        """Return what a branch makes of the labels; at first its head is random and has no say."""
        first = not self.current_epoch
        p = self.banks[b] if first else (p + self.banks[b]) / 2
        if not self.refine or (first and self.first_labels != "centroids"):
            return p
        return refinement.centroid_posterior(
            z, p, self.answers, 3 if first else 2, self.temperature, self.prior
        )

    def _split(self, b: int, statistic: Tensor) -> None:
        """Fit the mixture and keep the posterior of "clean"; a degenerate fit changes nothing."""
        values = statistic.cpu().double().numpy()
        classes = self.banks[b].argmax(1).cpu().numpy()
        split = fit_two_component(values, seed=self.access.seed)
        if not split.degenerate:
            self.posterior[b] = torch.from_numpy(split.posterior).to(self.device, torch.float32)
        self.record_split(b, split, self.posterior[b].cpu().numpy() >= 0.5, classes)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Sum of the branches' losses on one batch."""
        flip, index = self.access.task.flip, batch.index
        total = batch.images.new_zeros(())
        parts: dict[str, Tensor] = {}
        noisy = self.noisy_start + (1 - self.noisy_start) * self.progress
        for b, net in enumerate(self.networks):
            omega = self.posterior[b].to(self.device)[index]
            target = clean_noisy.harden_clean(self.banks[b][index], omega, self.harden)
            weight = omega + (1 - omega) * (noisy if self.curriculum else 1.0)
            logits = net(views.weak(batch.images, flip=flip))
            label = (weight * losses.soft_cross_entropy(logits, target)).mean()
            p = logits.softmax(1)
            entropy = (omega * losses.entropy(p)).mean()
            total = total + label + self.im_weight * (entropy - self.uses[b].surprise(p))
            if self.mix_weight:
                rows = weight[:, None] * target
                mixed, rows = self.mixup_of_strong_views(net, batch.images, rows, alpha=1.0)
                total = total + self.mix_weight * losses.soft_cross_entropy(mixed, rows).mean()
            parts |= {f"label-{b + 1}": label, f"entropy-{b + 1}": entropy}
        return self.record_losses(total, parts)
