"""Which target images count as known, and which as unknown: renewed before every epoch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dabench.api import Network, Separation, SourceFree, set_features
from dabench.methods.functional import divergence
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.mixture import (
    Split,
    fit_two_component,
    keep_surest_per_class,
    two_means_cut,
)
from dabench.methods.source_free.teacher_student import TeacherStudent


class KnownUnknownSplit(TeacherStudent):
    """Separates the adapt set by a two-component mixture on a statistic of the teacher's answers.

    Args:
        criterion: statistic of the separation: Jensen-Shannon distance (jsd), cross-entropy (ce),
            normalised entropy, or 1 - max probability (confidence).
        labels: pseudo-label of an image: nearest centroid (SHOT) or argmax.
        tau_known: posterior of "known" from which an image counts as known.
        tau_unknown: posterior of "known" up to which an image counts as unknown.
        co_training: none, refine (labels refined by teacher and student), or two-way (an image is
            used only where teacher's and student's splits agree as well).
        balance: share of every pseudo-class, most certain first, that counts as known whatever the
            mixture says; 0 = the mixture alone. One mixture serves all classes, and a class that
            the source model is unsure of would lie on its unknown side as a whole.
        unknown_node: decide by the (K+1)-th node; off: by the mixture's cut on the statistic.
    """

    criterion: Literal["jsd", "ce", "entropy", "confidence"] = "jsd"
    labels: Literal["centroid", "argmax"] = "argmax"
    tau_known: Share = 0.8
    tau_unknown: Share = 0.2
    co_training: Literal["none", "refine", "two-way"] = "refine"
    balance: Share = 0.3
    unknown_node: bool = True

    def begin(self, access: SourceFree) -> None:
        """Start undecided about every image."""
        super().begin(access)
        self.posterior = torch.full((len(access.target),), 0.5, dtype=torch.float64)
        self.cut = float("inf")

    def statistic(self, p: Tensor, labels: Tensor) -> Tensor:
        """Return the (B,) statistic of (B, K) known-class probabilities; larger = less known."""
        if self.criterion == "jsd":
            return divergence.js_distance(divergence.onehot(labels, self.k), p)
        if self.criterion == "ce":
            return divergence.cross_entropy_to_label(p, labels)
        if self.criterion == "entropy":
            return divergence.normalised_entropy(p)
        return divergence.confidence_gap(p)

    def _split(self, net: Network) -> tuple[Tensor, Tensor, Split]:
        """Return pseudo-labels, statistic and mixture over the adapt set (known logits only)."""
        features, p = set_features(net, self.access.target, self.k)
        known = (self.posterior >= 0.5).to(p.device)
        labels = centroid_labels(features, p, known) if self.labels == "centroid" else p.argmax(1)
        statistic = self.statistic(p, labels)
        split = fit_two_component(statistic.cpu().double().numpy(), seed=self.access.seed)
        return labels, statistic, split

    def on_train_epoch_start(self) -> None:
        """Separate the adapt set; a degenerate mixture keeps the previous split."""
        self.pseudo, statistic, split = self._split(self.separator)
        if not split.degenerate:
            self.posterior = torch.from_numpy(split.posterior)
        self.posterior = keep_surest_per_class(
            self.posterior, statistic, self.pseudo, share=self.balance, floor=self.tau_known
        )
        self.omega = self.posterior.to(self.device, torch.float32)
        self.known = self.omega >= self.tau_known
        self.unknown = (self.omega <= self.tau_unknown) & ~self.known
        if self.co_training == "two-way" and self.teacher:
            _, _, own = self._split(self.student)
            if not own.degenerate:
                agree = torch.from_numpy(own.posterior).to(self.omega) >= 0.5
                self.known, self.unknown = self.known & agree, self.unknown & ~agree
        put, epoch = self.access.recorder.put, self.current_epoch
        put("split/known_share", epoch, float(self.known.float().mean()))
        put("split/unknown_share", epoch, float(self.unknown.float().mean()))
        known = self.posterior.numpy() >= 0.5
        found = Separation(split.values, known, split.weights, split.means, split.variances)
        put("separation", epoch, found)
        self.student.train()
        self.ema_teacher.eval()

    def calibrate(self) -> None:
        """For the ablation without the node: freeze the mixture's cut on the adapt set."""
        if self.unknown_node:
            return
        _, statistic, split = self._split(self.answering)
        inside = statistic.cpu().double().numpy()[split.posterior >= 0.5]
        values = statistic.cpu().double().numpy()
        usable = len(inside) and not split.degenerate
        self.cut = float(inside.max()) if usable else two_means_cut(values, self.access.seed)
