"""Which target images count as known, and which as unknown: renewed before every epoch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import Separation, SourceFree, set_features
from dabench.methods.functional import divergence
from dabench.methods.functional.bounds import BelowOne, Share
from dabench.methods.functional.clusters import cluster_posterior
from dabench.methods.functional.memory import blend
from dabench.methods.functional.mixture import fit_two_component
from dabench.methods.functional.neighbours import nearest_neighbours, neighbourhood_mean
from dabench.methods.source_free.teacher_student import TeacherStudent

#: numbers of clusters, as multiples of the number of known classes
CLUSTERS = {"several": (1.5, 2.0, 2.5, 3.0), "double": (2.0,)}


class KnownUnknownSplit(TeacherStudent):
    """Separates the adapt set by a two-component mixture on a statistic of the teacher.

    Args:
        criterion: statistic of the separation. ``cluster``: Jensen-Shannon distance between the
            clusters' posterior and the prediction, both summed to known and unknown (the
            prediction is known altogether); ``cluster-classes``: the same over the K + 1 classes,
            so that another class counts as well; ``cluster+neighbours``: mean of that distance to
            the neighbourhood's prediction, and the normalised entropy of this; ``jsd``: distance
            between one-hot pseudo-label and prediction; ``entropy``: normalised entropy.
        clusters: numbers of clusters of the target's features: ``several`` (1.5 to 3 times the
            known classes), or ``double``. How many private classes there are stays unknown.
        bank: share of the clusters' posterior that is kept from the epochs before; 0 = none.
        neighbours: images that speak for an image beside itself.
        tau_known: posterior of "known" from which an image counts as known.
        tau_unknown: posterior of "known" up to which an image counts as unknown.
        co_training: none (the teacher's argmax is the label), or refine (labels from clusters and
            prediction together, refined by teacher and student).
    """

    criterion: Literal["cluster", "cluster-classes", "cluster+neighbours", "jsd", "entropy"] = (
        "cluster"
    )
    clusters: Literal["several", "double"] = "several"
    bank: BelowOne = 0.5
    neighbours: Annotated[int, Field(ge=1)] = 15
    tau_known: Share = 0.8
    tau_unknown: Share = 0.2
    co_training: Literal["none", "refine"] = "refine"

    def begin(self, access: SourceFree) -> None:
        """Start undecided about every image."""
        super().begin(access)
        self.posterior = torch.full((len(access.target),), 0.5, dtype=torch.float64)
        self.remembered: Tensor | None = None

    def _evidence(self) -> tuple[Tensor, Tensor]:
        """Return the (N,) statistic, larger = less known, and the (N,) pseudo-labels."""
        features, p = set_features(self.separator, self.access.target, self.k)
        if self.criterion == "entropy":
            return divergence.normalised_entropy(p), p.argmax(1)
        if self.criterion == "jsd":
            labels = p.argmax(1)
            return divergence.js_distance(divergence.onehot(labels, self.k).to(p), p), labels
        z = F.normalize(features, dim=1)
        counts = [round(self.k * times) for times in CLUSTERS[self.clusters]]
        q = cluster_posterior(z, p, counts, seed=self.access.seed + self.current_epoch)
        if self.remembered is not None:
            q = blend(self.remembered.to(q), q, self.bank)
        self.remembered = q
        labels = (q[:, : self.k] + p).argmax(1) if self.co_training == "refine" else p.argmax(1)
        if self.criterion == "cluster":
            known = torch.stack((1 - q[:, self.k], q[:, self.k]), 1)
            return divergence.js_distance(known, known.new_tensor([[1.0, 0.0]])), labels
        if self.criterion == "cluster-classes":
            return divergence.js_distance(q, F.pad(p, (0, 1))), labels
        near = neighbourhood_mean(p, nearest_neighbours(z, self.neighbours))
        distance = divergence.js_distance(q, F.pad(near, (0, 1)))
        return (distance + divergence.normalised_entropy(near)) / 2, labels

    def on_train_epoch_start(self) -> None:
        """Separate the adapt set; a degenerate mixture keeps the previous split."""
        statistic, self.pseudo = self._evidence()
        split = fit_two_component(statistic.cpu().double().numpy(), seed=self.access.seed)
        if split.degenerate:
            self.note("degenerate-mixture")
        else:
            self.posterior = torch.from_numpy(split.posterior)
        self.omega = self.posterior.to(self.device, torch.float32)
        self.known = self.omega >= self.tau_known
        self.unknown = (self.omega <= self.tau_unknown) & ~self.known
        put, epoch = self.access.recorder.put, self.current_epoch
        put("split/known_share", epoch, float(self.known.float().mean()))
        put("split/unknown_share", epoch, float(self.unknown.float().mean()))
        known = self.posterior.numpy() >= 0.5
        found = Separation(split.values, known, split.weights, split.means, split.variances)
        put("separation", epoch, found)
        self.student.train()
        self.ema_teacher.eval()
