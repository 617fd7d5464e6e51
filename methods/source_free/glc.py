"""GLC: global and local clustering, and GLC++ with its contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from dabench.api import SourceFree, TargetBatch, views
from dabench.methods.functional.bounds import NonNegative, Share
from dabench.methods.functional.losses import soft_cross_entropy
from dabench.methods.functional.prototypes import hard_negative_similarity, one_vs_all_targets
from dabench.methods.source_free.prototype_labels import PrototypeLabels


class GLC(PrototypeLabels):
    """GLC (Qu et al., CVPR 2023), after the authors' code (ispc-lab/GLC, ispc-lab/GLC-plus).

    Before every epoch each class is set against clusters of all images that are not surely its own;
    an image that its nearest class does not accept learns the uniform answer. Beside that it learns
    the mean answer of its neighbours. ``contrast`` 1 is GLC++ (Qu et al., 2024): features are drawn
    to those of the neighbours and away from hard negatives of the batch.
    Deviations: the target's classes are counted by silhouettes on principal components (there:
    t-SNE), and are at least 2; others are clustered by cosine (there: Euclidean distance); a class
    has at least 3 images behind its prototype; no more neighbours than a class has images on
    average; an image's own row is left out by its place; clusters go on from those of the epoch
    before (there: anew); logarithms of softmax (there: p + 1e-5).

    Args:
        label_weight: weight of the labels' cross-entropy (Office-31, VisDA-C: .3; Office-Home,
            DomainNet: 1.5).
        rho: least weight of a class's prototype against the clusters of others.
        contrast: weight of GLC++'s contrast; 0 = GLC.
    """

    version: ClassVar[str] = "1"
    multiples: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 3.0)

    rho: Share = 0.75
    contrast: NonNegative = 0.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model; there are no clusters yet."""
        super().begin(access)
        self.centres: Sequence[Tensor] | None = None

    def label(self, z: Tensor, p: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Each class against clusters of the others, which go on from the epoch before."""
        options = {"rho": self.rho, "seed": self.access.seed, "before": self.centres}
        targets, known, self.centres = one_vs_all_targets(z, p, rows, self.clusters, **options)
        return targets, known

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Labels, neighbours' answers, and the contrast."""
        z, logits = self.unit_features(views.weak(batch.images, flip=self.access.task.flip))
        label = soft_cross_entropy(logits, self.targets[batch.index]).mean()
        neighbours, near = self.consult(batch.index, z, logits)
        loss, parts = self.label_weight * label + neighbours, {"label": label, "near": neighbours}
        if self.contrast:
            stored = self.bank.z[near]
            parts["contrast"] = hard_negative_similarity(z, stored, self.clusters).mean()
            loss = loss + self.contrast * parts["contrast"]
        return self.record_losses(loss, parts)
