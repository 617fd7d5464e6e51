"""DIGA: an image's share in BatchNorm statistics, and classes by prototypes; no gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from dabench.api import (
    ConfigError,
    Kind,
    Online,
    OnlineMethod,
    Prediction,
    TargetBatch,
    upsample,
)
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.losses import EPS
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.methods.functional.online import as_samples
from dabench.methods.functional.pixel_prototypes import (
    class_means,
    moved_prototypes,
    prototype_probabilities,
    sure_labels,
)


class DIGA(OnlineMethod):
    """DIGA, dynamically instance-guided adaptation (Wang et al., CVPR 2023). No gradient.

    Distribution: BatchNorm normalises by a blend of the source's statistics and the image's.
    Semantics: the features of sure pixels, averaged by predicted class, are prototypes of this
    image; their moving average is the stream's. Each pixel is compared with both, and the answer is
    a blend of the classifier's probabilities and the two kinds of prototypes'.
    Deviations: the authors' code moves the stream's prototypes by the **true** classes of the
    image's pixels; here they are the predicted ones, so that figures differ from published ones.
    Features are the maps in front of the last convolution (there: the backbone's). Where an image
    has no sure pixel the stream's prototypes serve alone, and where there are none either, the
    classifier; the authors' code divides by 0. Without BatchNorm the semantic part alone is left.

    Args:
        rho: weight of the image in BatchNorm statistics; the paper's lambda is 1 - rho.
        confident: probability from which on a pixel is sure.
        rate: weight of the image in the stream's prototypes.
        stream_weight: weight of the stream's prototypes against the image's.
        prototype_weight: weight of the prototypes' answer against the classifier's.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"segmentation"})
    answers: ClassVar[Literal["before", "after"]] = "after"
    prototypes: Tensor
    known: Tensor

    rho: Share = 0.2
    confident: Share = 0.9
    rate: Share = 0.1
    stream_weight: Share = 0.8
    prototype_weight: Share = 0.8

    def begin(self, access: Online) -> None:
        """Take the source model; there are no prototypes yet.

        Raises:
            ConfigError: a network that does not end in a convolution of feature maps.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        if not isinstance(self.net.classifier, nn.Conv2d):
            raise ConfigError(
                "diga: prototypes are feature maps in front of the source model's last "
                "convolution, and this model does not end in one (or does more behind it than "
                "resize); tent takes it"
            )
        adapt_normalisation(self.net, self.rho)
        k, width = self.net.classifier.weight.shape[:2]
        self.register_buffer("prototypes", self.net.mean.new_zeros(k, width))
        self.register_buffer("known", torch.zeros(k, dtype=torch.bool, device=self.net.mean.device))

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Let the stream's prototypes follow the image, and answer by them."""
        maps = self.net.features(batch.images)
        means, present = self._image_prototypes(maps)
        moved, known = moved_prototypes(self.prototypes, self.known, means, present, self.rate)
        self.prototypes.copy_(moved)
        self.known.copy_(known)
        return self._answer(maps, means, present, batch.images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Answer by these images' prototypes and the stream's as they are."""
        maps = self.net.features(images)
        return Prediction(self._answer(maps, *self._image_prototypes(maps), images))

    def _image_prototypes(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (K, D) prototypes of (B, D, h, w) maps, and (K,) bool: there is one."""
        p = as_samples(self.net.classifier(maps)).softmax(1)
        labels, sure = sure_labels(p, self.confident)
        return class_means(as_samples(maps)[sure], labels[sure], p.shape[1])

    def _answer(self, maps: Tensor, means: Tensor, present: Tensor, images: Tensor) -> Tensor:
        """Return the (B, K, H, W) logarithm of the blended probabilities."""
        p = self.net.classifier(maps).softmax(1)
        stream, shown = bool(self.known.any()), bool(present.any())
        if stream or shown:
            weight = self.stream_weight if stream and shown else float(stream)
            features = as_samples(maps)
            of_stream = prototype_probabilities(features, self.prototypes, self.known)
            of_image = prototype_probabilities(features, means, present)
            blend = torch.lerp(of_image, of_stream, weight)
            by_class = blend.view(len(p), *p.shape[2:], p.shape[1]).movedim(-1, 1)
            p = torch.lerp(p, by_class, self.prototype_weight)
        # as the authors' code, probabilities are brought to the images' size, and not logits
        return upsample(p, (images.shape[-2], images.shape[-1])).clamp_min(EPS).log()
