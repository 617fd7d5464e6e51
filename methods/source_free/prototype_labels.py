"""What GLC and LEAD share: labels from prototypes before every epoch, and a bank of neighbours."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    OfflineMethod,
    Prediction,
    SourceFree,
    set_features,
)
from dabench.methods.entropy_cut import cut_prediction
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.losses import soft_cross_entropy
from dabench.methods.functional.neighbours import FeatureBank, within_class
from dabench.methods.functional.prototypes import count_clusters, likeliest_rows

#: fewest images behind a class's prototype
LEAST = 3


class PrototypeLabels(OfflineMethod):
    """A frozen classifier, and labels that say a known class or none of them.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        neighbours: images whose mean stored answer is learned beside the label.
        label_weight: weight of the labels' cross-entropy.
        target_clusters: number of classes in the target: by the silhouette of its clusters, as in
            the source, or a number of 2 and more. Without a silhouette above 0: as in the source.
        cut: normalised entropy above which an image is unknown.
    """

    #: numbers of the target's classes that are tried, as multiples of K
    multiples: ClassVar[tuple[float, ...]]

    lr: Positive = 1e-3
    backbone_factor: NonNegative = 0.1
    neighbours: Annotated[int, Field(ge=1)] = 4
    label_weight: NonNegative = 0.3
    target_clusters: Literal["silhouette", "source"] | Annotated[int, Field(ge=2)] = "silhouette"
    cut: Share = 0.55

    def begin(self, access: SourceFree) -> None:
        """Take the source model and freeze its classifier."""
        super().begin(access)
        self.net = access.source_model
        self.net.classifier.requires_grad_(False)
        self.k = access.task.num_classes
        self.count = within_class(self.neighbours, len(access.target), self.k)
        self.note("neighbours", self.count)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with SHOT's decay on backbone and bottleneck."""
        return self.decaying_sgd(self.net.parameter_groups(self.lr, self.backbone_factor))

    def counts_again(self) -> bool:
        """Whether the target's classes are counted before this epoch."""
        return self.current_epoch == 0

    def _classes(self, z: Tensor) -> int:
        if isinstance(self.target_clusters, int):
            return self.target_clusters
        if self.target_clusters == "source":
            return max(2, self.k)
        tried = [max(2, int(self.k * times)) for times in self.multiples]
        found = count_clusters(z, tried, seed=self.access.seed)
        if found is None:
            self.note("silhouette-fallback")
        return max(2, self.k) if found is None else found

    def on_train_epoch_start(self) -> None:
        """Fill the bank anew, count the target's classes, and label every image."""
        vars(self).pop("bank", None)  # first: no more than two copies of the features are held
        self.bank = FeatureBank(*set_features(self.net, self.access.target))
        z, p = self.bank.z, self.bank.p
        if self.counts_again():
            self.clusters = self._classes(z)
        rows = likeliest_rows(p, max(LEAST, len(z) // self.clusters))
        self.targets, self.known = self.label(z, p, rows)
        put, epoch = self.access.recorder.put, self.current_epoch
        put("split/unknown_share", epoch, float((~self.known).float().mean()))
        self.note("target-classes", self.clusters)
        self.net.train()

    @abstractmethod
    def label(self, z: Tensor, p: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, K) targets and (N,) bool, known, of the whole set.

        Args:
            z: (N, D) features of unit length.
            p: (N, K) probabilities.
            rows: (K, n) places of the classes' likeliest images.
        """

    def consult(self, index: Tensor, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Renew the bank's rows of a batch.

        Returns:
            The mean cross-entropy with the neighbours' mean answer, and their (B, k) places; both
            from before the bank was renewed.
        """
        near = self.bank.nearest(index, self.count, features)
        target = self.bank.p[near].mean(1)
        self.bank.write(index, features, logits.softmax(1))
        return soft_cross_entropy(logits, target).mean(), near

    def unit_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, D) features of unit length, and (B, K) logits."""
        features = self.net.features(images)
        return F.normalize(features, dim=1), self.net.classifier(features)

    def predict(self, images: Tensor) -> Prediction:
        """Closed-set prediction, and "unknown" above the fixed cut."""
        return cut_prediction(self.net(images), self.access.task.open_set, self.cut)
