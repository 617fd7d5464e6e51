"""ROID: weighted soft likelihood ratios, consistency, weight ensembling, prior correction."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from dabench.api import ConfigError, Kind, Online, Prediction, TargetBatch
from dabench.methods.functional.bounds import Positive, Share
from dabench.methods.functional.certainty_diversity import (
    certainty_diversity_weights,
    smoothed_prior,
    soft_likelihood_ratio,
    symmetric_cross_entropy,
)
from dabench.methods.functional.losses import EPS
from dabench.methods.functional.online import as_samples
from dabench.methods.online.cotta import jitter, recolour
from dabench.methods.online.norm_affine import NormAffine


class ROID(NormAffine):
    """ROID (Marsden et al., WACV 2024), after the authors' code.

    Images whose answer differs from the average one enter the loss, the surer the more: a soft
    likelihood ratio, and the symmetric cross-entropy to a changed view. After each step weights go
    a little way back to the source's, and the answer is multiplied by the batch's smoothed prior.
    In segmentation (a dense port of ours) every pixel is a sample; the view has other colours and
    may be a mirror image, which is undone; and no prior is multiplied: the classes of a frame's
    pixels are unequal by nature.
    Deviations: views have the suite's geometry, and brightness, contrast and saturation drawn once
    for all images; where a batch is one image, or all its answers are equal, it counts fully (the
    authors' code divides by 0). A batch counts as backwarded in full, and so do the views made.

    Args:
        temperature: of the weights.
        decay: of the average prediction.
        source_decay: share of the weights that is kept each step; the rest is the source's.
        prior: what the smoothed prior multiplies: logits (the authors' code), probabilities, or
            nothing (none); in segmentation always nothing.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})
    start: Tensor
    mean_p: Tensor

    temperature: Positive = 1 / 3
    decay: Share = 0.9
    source_decay: Share = 0.99
    prior: Literal["logits", "probabilities", "none"] = "logits"

    def begin(self, access: Online) -> None:
        """Take the source model; remember its weights; take all classes as equally common.

        Raises:
            ConfigError: a prior in segmentation, or a network with nothing to adapt.
        """
        if self.prior == "probabilities" and access.task.kind == "segmentation":
            raise ConfigError(
                "--method.prior probabilities: in segmentation there is no prior of a batch; "
                "leave the option out"
            )
        super().begin(access)
        k = access.task.num_classes
        self.register_buffer("start", self.trained_values())
        self.register_buffer("mean_p", self.start.new_full((k,), 1 / k))

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer; step on the diverse samples and their views; go back a little."""
        logits: Tensor = self.net(batch.images)
        samples = as_samples(logits)
        p = samples.detach().softmax(1)
        weights = certainty_diversity_weights(p, self.mean_p, self.temperature)
        kept = weights != 0
        self.mean_p.copy_(torch.lerp(p.mean(0), self.mean_p, self.decay))
        views, own = self._changed(batch.images, kept), samples[kept]
        losses = soft_likelihood_ratio(own.softmax(1)) + symmetric_cross_entropy(views, own)
        # the nominal size: a smaller batch makes a smaller step
        nominal = self.access.batch_size * len(samples) // len(logits)
        self.update((weights[kept] * losses).sum() / nominal)
        self.restrain()
        return self.correct(logits.detach())

    def _changed(self, images: Tensor, kept: Tensor) -> Tensor:
        """Return the (n, K) logits of the n kept samples in changed views of their images."""
        task = self.access.task
        if task.kind == "classification":
            of_views: Tensor = self.net(jitter(images[kept], flip=task.flip))
            return of_views
        mirrored = task.flip and bool(torch.rand(()) < 0.5)
        view = recolour(images)
        logits = self.net(view.flip(-1) if mirrored else view)
        return as_samples(logits.flip(-1) if mirrored else logits)[kept]

    def restrain(self) -> None:
        """Bring the trained weights back towards the source's."""
        self.set_trained_values(torch.lerp(self.start, self.trained_values(), self.source_decay))

    def correct(self, logits: Tensor) -> Tensor:
        """Return (B, K, ...) logits under the smoothed prior of the batch, if there is one."""
        if self.access.task.kind == "segmentation":
            return logits
        p = logits.softmax(1)
        if self.prior == "logits":
            return logits * smoothed_prior(p)
        if self.prior == "probabilities":
            return (p.clamp_min(EPS) * smoothed_prior(p)).log()
        return logits

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the statistics and the prior of these images."""
        return Prediction(self.correct(self.net(images)))
