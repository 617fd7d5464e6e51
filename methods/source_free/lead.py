"""LEAD: what a feature has outside the space that the source's head sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.api import ConfigError, Prediction, SourceFree, TargetBatch, views
from dabench.methods.functional import feature_spaces
from dabench.methods.functional.divergence import onehot
from dabench.methods.functional.losses import soft_cross_entropy
from dabench.methods.functional.prototypes import class_prototypes
from dabench.methods.source_free.prototype_labels import PrototypeLabels


class LEAD(PrototypeLabels):
    """LEAD (Qu et al., CVPR 2024), after the authors' code (ispc-lab/LEAD).

    A feature of unit length is split into a part within the space of the source head's weights and
    the rest. Before every epoch an image is called unknown whose rest is long, by a boundary of its
    own between what is usual in its class and the upper mean of a two-component mixture; images
    near their boundary weigh little. Beside labels and neighbours, the two norms themselves learn.
    Deviations: as ``glc`` in counting the target's classes, neighbours and logarithms; the mixture
    is fitted to values cut to their 1-99 % quantiles, with several starts, and one that separates
    nothing keeps the previous mean (at the start: nothing is unknown); the target's classes are
    counted anew after every fifth of a run (there: every ten of 50 epochs). As in the code, and not
    as it reads, no weight is set to 1 beyond the means.

    Args:
        label_weight: weight of the labels' cross-entropy (Office-31: .3, VisDA-C: 1, Office-Home:
            2).
    """

    version: ClassVar[str] = "1"
    multiples: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)

    def begin(self, access: SourceFree) -> None:
        """Split the feature space by the head's weights."""
        super().begin(access)
        self.anchors: Tensor = self.net.classifier.weight.detach().clone()
        classes, width = self.anchors.shape
        if width <= classes:
            raise ConfigError(
                f"lead: the source model's head has {classes} classes over features of {width} "
                "numbers, so that nothing lies outside its space; expected more numbers than "
                "classes (twice as many at best): use glc, or a network with a bottleneck"
            )
        self.basis = feature_spaces.head_basis(self.anchors)
        self.upper: float | None = None

    def counts_again(self) -> bool:
        """After every fifth of the run."""
        return self.current_epoch % max(1, round((self.trainer.max_epochs or 1) / 5)) == 0

    def label(self, z: Tensor, p: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unknown is what lies beyond its own boundary."""
        self.anchors, self.basis = self.anchors.to(z), self.basis.to(z)
        rest = feature_spaces.space_norms(z, self.basis)[:, 1]
        found = feature_spaces.upper_mean(rest, self.access.seed)
        if found is None:
            self.note("degenerate-mixture")
        self.upper = self.upper if found is None else found
        score = feature_spaces.common_score(z, class_prototypes(z, rows), self.anchors)
        label, bounds = feature_spaces.instance_boundary(score, rest[rows].mean(1), self.upper)
        known = rest < bounds
        self.weight = feature_spaces.boundary_weight(rest, bounds)
        uniform = torch.full_like(p, 1 / self.k)
        return torch.where(known[:, None], onehot(label, self.k).to(p), uniform), known

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Labels, norms and neighbours' answers."""
        z, logits = self.unit_features(views.weak(batch.images, flip=self.access.task.flip))
        index, weight = batch.index, self.weight[batch.index]
        label = (weight * soft_cross_entropy(logits, self.targets[index])).mean()
        norms = feature_spaces.space_norms(z, self.basis)
        side = F.cross_entropy(norms, (~self.known[index]).long(), reduction="none")
        spaces = (weight * side).mean()
        neighbours, _ = self.consult(index, z, logits)
        parts = {"label": label, "spaces": spaces, "near": neighbours}
        return self.record_losses(self.label_weight * label + spaces + neighbours, parts)

    def also(self, images: Tensor) -> Mapping[str, Prediction]:
        """The same decisions, with the norm outside the head's space as the unknown score."""
        if not self.access.task.open_set:
            return {}
        answer = self.predict(images)
        z = F.normalize(self.net.features(images), dim=1)
        rest = feature_spaces.space_norms(z, self.basis.to(z))[:, 1]
        return {"residual": Prediction(answer.logits, rest, answer.is_unknown)}
