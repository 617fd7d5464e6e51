"""SEAL: separation by how images adapt, and alignment along a graph of labels."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    BlackBox,
    TargetBatch,
    fixed_statistics,
    frozen_copy,
    set_probabilities,
    views,
)
from dabench.methods.black_box.student import MemoryStudent
from dabench.methods.functional import distillation, divergence, label_graph, losses, selection
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.contrastive import instance_contrast
from dabench.methods.functional.feature_queue import FeatureQueue
from dabench.methods.functional.online import ema_state


class SEAL(MemoryStudent):
    """SEAL, after the authors' code (MingxuanXia/SEAL).

    After a warm-up (DINE's distillation and instance contrast) every epoch separates the target:
    *easy* are the images with the smallest losses against the oracle's class; *confident* those of
    the rest whose answer passes their class's threshold; the others are *under-adapted*. They learn
    the oracle's class, their own answer mixed with that of the nearest prototypes, and the
    prototypes' answer; a contrast runs along a graph of labels. Deviations: distillation and
    alignment are one step on one batch, with one contrast (there: two passes), and their terms on
    the use of classes are averaged over batches; no head of 128 numbers for contrast and
    prototypes; the queue starts empty and holds at most half of the images; an empty group adds 0;
    classes without a prototype get no answer; mixed and strong images move no statistics.

    Args:
        warmup: share of the epochs, the first ones, that warm up.
        easy: share of the images that are easy.
        confidence: threshold of the surest class.
        scale: how far thresholds of other classes fall.
        queue: most keys that are kept.
        key_momentum: share of the key network kept a step (there: .999).
        prototype_momentum: share of a prototype kept an image.
        temperature: of contrast and prototypes.
        contrast_weight: weight of the contrast.
        neighbours: nearest keys that under-adapted images are drawn to, after a fifth of the run.
        graph_weight: weight of the graph's less reliable edges.
        under_weight: weight of the under-adapted images (VisDA-C: 1).
        alpha: of the alignment's mixup (the distillation's is .3).
    """

    version: ClassVar[str] = "3"

    warmup: Annotated[float, Field(gt=0, le=1)] = 0.1
    easy: Share = 0.4
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    scale: NonNegative = 0.05
    queue: Annotated[int, Field(ge=1)] = 1024
    key_momentum: BelowOne = 0.99
    prototype_momentum: BelowOne = 0.99
    temperature: Positive = 0.07
    contrast_weight: NonNegative = 0.5
    neighbours: Annotated[int, Field(ge=0)] = 5
    graph_weight: Share = 0.2
    under_weight: NonNegative = 0.2
    alpha: Positive = 4.0

    def begin(self, access: BlackBox) -> None:
        """As DINE; key network, queue, prototypes and thresholds."""
        super().begin(access)
        self.named, self.k = self.answers.argmax(1), access.task.num_classes
        self.keys = frozen_copy(self.net)
        width, size = self.net.classifier.weight.shape[1], min(self.queue, len(self.named) // 2)
        self.past = FeatureQueue(self.answers.new_zeros(size, width), self.named.new_zeros(size, 2))
        self.prototypes = self.answers.new_zeros(self.k, width)
        self.threshold = torch.full_like(self.answers[0], self.confidence)
        self.is_easy = torch.ones_like(self.named, dtype=torch.bool)
        self.is_sure = torch.zeros_like(self.is_easy)

    def on_train_epoch_start(self) -> None:
        """Refresh the memory; after the warm-up, separate the target."""
        self.refresh_bank()
        self.warm = self.current_epoch < self.first_epochs(self.warmup)
        if not self.warm:
            self.separate(set_probabilities(self.net, self.access.target))
        self.net.train()
        self.keys.train()  # as there

    def separate(self, p: Tensor) -> None:
        """Split the images by (N, K) answers; thresholds that follow from them count next time."""
        self.found = p
        loss = divergence.cross_entropy_to_label(p, self.named)
        self.is_easy = selection.smallest_share(loss, self.easy)
        sure, label = p.max(1)
        self.is_sure = ~self.is_easy & (sure > self.threshold[label])
        threshold = selection.class_thresholds(p, self.confidence, self.scale)
        self.threshold = self.threshold if threshold is None else threshold
        share = float(self.is_sure.float().mean())
        self.access.recorder.put("separation/confident", self.current_epoch, share)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Distillation, contrast and, after the warm-up, alignment."""
        flip, index = self.access.task.flip, batch.index
        weak, strong = (view(batch.images, flip=flip) for view in (views.weak, views.strong))
        features = self.net.features(weak)
        logits, q = self.net.classifier(features), F.normalize(features, dim=1)
        p, sure = logits.softmax(1), (self.is_easy | self.is_sure)[index]
        label = torch.where(self.is_easy[index], self.named[index], p.argmax(1))
        proto = label_graph.prototype_answer(q.detach(), self.prototypes, self.temperature)
        moved = (q.detach(), label, self.prototype_momentum)
        self.prototypes = label_graph.blended_prototypes(self.prototypes, *moved)
        distil = losses.kl_divergence(self.bank[index], logits).mean()
        entropy, diversity = losses.entropy(p).mean(), self.diversity(p)
        contrast = self._contrast(q, strong, label, sure)
        loss = distil + entropy - diversity + self.contrast_weight * contrast
        parts = {"distillation": distil, "diversity": diversity, "contrast": contrast}
        with fixed_statistics(self.net):
            loss = loss + distillation.mixup_consistency(self.net, weak, logits, 0.3)
            if not self.warm:
                parts["alignment"] = self._alignment(index, logits, proto, weak, strong)
                loss = loss + parts["alignment"] - diversity  # both passes of the code have it
        return self.record_losses(loss, parts)

    def _contrast(self, q: Tensor, strong: Tensor, label: Tensor, sure: Tensor) -> Tensor:
        ema_state(self.keys, self.net, self.key_momentum)
        with torch.no_grad():
            k = F.normalize(self.keys.features(strong), dim=1)
        earlier, said = (part.clone() for part in self.past.stored())
        self.past.put(k, torch.stack((label, sure.long()), 1))
        if self.warm:
            every = torch.ones(len(q), len(earlier), dtype=torch.bool, device=q.device)
            return instance_contrast(q, k, earlier, every, self.temperature)
        return label_graph.graph_contrast(
            q,
            torch.cat((k, earlier)),
            (label, torch.cat((label, said[:, 0]))),
            (sure, torch.cat((sure, said[:, 1] > 0))),
            weight=self.graph_weight,
            neighbours=self.neighbours if self.progress >= 0.2 else 0,
            temperature=self.temperature,
        )

    def _alignment(
        self, index: Tensor, logits: Tensor, proto: Tensor, weak: Tensor, strong: Tensor
    ) -> Tensor:
        easy, sure, named = self.is_easy[index], self.is_sure[index], self.named[index]
        target = label_graph.aligned_targets(named, self.found[index], proto, easy, sure)
        ce, rest = losses.soft_cross_entropy(logits, target), ~easy & ~sure
        one, two, three = (losses.mean_over(ce, m.to(ce), m) for m in (easy, sure, rest))
        weight = distillation.mixup_weight(self.alpha)
        weight, order = max(weight, 1 - weight), torch.randperm(len(weak), device=weak.device)
        mixed, changed = self.net(distillation.mix(weak, order, weight)), self.net(strong)
        mixup = losses.soft_cross_entropy(mixed, distillation.mix(target, order, weight))
        consistency = losses.soft_cross_entropy(changed, target)
        return one + two + self.under_weight * three + (mixup + consistency).mean()
