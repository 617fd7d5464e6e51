"""RRDA: a head with nodes for "unknown" from made-up features, then SHOT."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import SourceFree, TargetBatch, set_features, views
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.linear_head import linear_head
from dabench.methods.functional.losses import AveragedMarginal, entropy
from dabench.methods.functional.recalled_features import groups_of, known_points, unknown_points
from dabench.methods.source_free.unknown_nodes import NodesForUnknown

#: smoothing of labels while the head is made, and while the network learns
HEAD_SMOOTHING, SMOOTHING = 0.1, 0.3
#: target features that points start from, at most, unless more points a class are asked for
MOST = 4000


class RRDA(NodesForUnknown):
    """RRDA (Nejjar et al., 2024), after the authors' code (ismailnejjar/RRDA), its form on SHOT.

    Recall: the target's features are moved until the source's head is sure of a class, and, with
    noise, until it is at a loss; the latter are clustered. A new head with a node for each cluster
    beside the K classes learns these points. Refine: that head is frozen, and the rest learns by
    SHOT's losses over all K + K' nodes. Unknown is what one of the K' later nodes is first for.
    Deviations: 100 steps of Adam ten times as long (there: 1,000), all points pass the head at
    once; of more than 4,000 features (or ``points``, where that is more) so many are drawn to start
    from, because every point has a gradient and two moments beside it; where fewer than three
    points qualify, the three best do; the use of classes is averaged over batches (``marginal`` 0
    is the published form); batches are not dropped. The form on AaD is left out.

    Args:
        lr: learning rate of backbone and bottleneck (VisDA-C: 1e-4).
        backbone_factor: learning-rate factor of the backbone.
        unknown_nodes: K'; leave out for as many as there are classes.
        steps: of Adam, for each class and for the unknown.
        points: made-up features a class, at most (VisDA-C: 10,000).
        head_epochs: epochs over them in which the head is made.
        pseudo_weight: weight of the labels' cross-entropy from the second epoch on (Office-Home:
            .1, VisDA-C: .4).
        entropy_weight: weight of the entropy.
        diversity_weight: weight of the nodes' equal use.
        marginal: share of the past kept in the averaged use of nodes.
    """

    version: ClassVar[str] = "1"

    lr: Positive = 1e-3
    backbone_factor: NonNegative = 1.0
    unknown_nodes: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] = 100
    points: Annotated[int, Field(ge=3)] = 1000
    head_epochs: Annotated[int, Field(ge=0)] = 51
    pseudo_weight: NonNegative = 0.3
    entropy_weight: NonNegative = 0.5
    diversity_weight: NonNegative = 1.0
    marginal: BelowOne = 0.9

    def begin(self, access: SourceFree) -> None:
        """Make the new head, and freeze it.

        Raises:
            ConfigError: the source's classifier is no linear layer.
        """
        super().begin(access)
        linear_head(self.net.classifier, "rrda", "its nodes are further rows", "shot")
        features = self._drawn(set_features(self.net, access.target)[0])
        points, labels = self._recall(features)
        self.append_nodes(int(labels.max()) + 1 - self.k)
        self._train_head(points, labels)
        self.net.classifier.requires_grad_(False)
        self.use = AveragedMarginal(self.marginal)

    def _drawn(self, features: Tensor) -> Tensor:
        """Return the features that points start from: of many, as many as are drawn."""
        most = max(MOST, self.points)
        if len(features) <= most:
            return features
        generator = torch.Generator().manual_seed(self.access.seed)
        rows = torch.randperm(len(features), generator=generator)[:most]
        return features[rows.to(features.device)]

    def _recall(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M, D) made-up features and their (M,) nodes."""
        head, seed = self.net.classifier, self.access.seed
        found = [
            known_points(features, head, c, self.k, steps=self.steps, most=self.points)
            for c in range(self.k)
        ]
        generator = torch.Generator().manual_seed(seed)
        unknown = unknown_points(features, head, steps=self.steps, generator=generator)
        nodes = self.k + groups_of(unknown, self.unknown_nodes or self.k, seed)
        sizes = torch.tensor([len(points) for points in found])
        known = torch.arange(self.k).repeat_interleave(sizes).to(nodes.device)
        put = self.access.recorder.put
        put("recall/known_points", 0, float(len(known)))
        put("recall/unknown_points", 0, float(len(nodes)))
        return torch.cat((*found, unknown)), torch.cat((known, nodes))

    def _train_head(self, points: Tensor, labels: Tensor) -> None:
        head = self.net.classifier
        parameters = list(head.parameters())
        sgd = torch.optim.SGD(parameters, 1e-2, momentum=0.9, weight_decay=1e-3, nesterov=True)
        generator = torch.Generator().manual_seed(self.access.seed)
        size = 2 * self.access.budget.batch_size
        with torch.enable_grad():
            for _ in range(self.head_epochs):
                order = torch.randperm(len(points), generator=generator).to(points.device)
                for rows in torch.split(order, size):
                    sgd.zero_grad()
                    logits = head(points[rows])
                    loss = F.cross_entropy(logits, labels[rows], label_smoothing=HEAD_SMOOTHING)
                    torch.autograd.backward(loss)
                    sgd.step()
        sgd.zero_grad()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with SHOT's decay on backbone and bottleneck."""
        return self.decaying_sgd(self.net.parameter_groups(self.lr, self.backbone_factor))

    def on_train_epoch_start(self) -> None:
        """Refresh the labels over all nodes."""
        features, p = set_features(self.net, self.access.target)
        self.labels = centroid_labels(features, p)
        share = float((self.labels >= self.k).float().mean())
        self.access.recorder.put("split/unknown_share", self.current_epoch, share)
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Entropy, the nodes' equal use, and labels from the second epoch on."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        p, labels = logits.softmax(1), self.labels[batch.index]
        doubt, spread = entropy(p).mean(), self.use.surprise(p)
        pseudo = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        weight = self.pseudo_weight if self.current_epoch else 0.0
        loss = self.entropy_weight * doubt - self.diversity_weight * spread + weight * pseudo
        parts = {"entropy": doubt, "diversity": spread, "pseudo": pseudo}
        return self.record_losses(loss, parts)
