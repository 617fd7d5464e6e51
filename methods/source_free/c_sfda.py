"""C-SFDA: labels that several views agree on first, the others little by little."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import (
    OfflineMethod,
    Prediction,
    SourceFree,
    TargetBatch,
    fixed_statistics,
    frozen_copy,
    views,
)
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.contrastive import view_contrast
from dabench.methods.functional.losses import mean_over
from dabench.methods.functional.online import ema_state
from dabench.methods.functional.reliable_selection import (
    balanced_by_class,
    curriculum_factor,
    reliable_rows,
    view_agreement,
)
from dabench.methods.functional.semi_supervised import squared_difference


class CSFDA(OfflineMethod):
    """C-SFDA (Karim et al., CVPR 2023), after the authors' code (nazmul-karim170/C-SFDA).

    An averaged teacher answers several views of an image; their mean logits name its class.
    Reliable are images that are surer and steadier over the views than the batch, after a second
    look at the others and a balance of classes. They learn their class; the others learn the
    teacher's logits, with a weight that grows from 0, and to know their own two views. No bank.
    Deviations: the optimiser is that of the code for Office (classifier frozen, SHOT's decay), the
    teacher and the choice that for VisDA-C; the contrast's second view is a weak one, and the only
    one that moves BatchNorm's statistics; the teacher keeps .99 of itself a step (there .999, over
    many times as many steps); a class that was let in counts as reliable alone (there: in both
    losses). As there, the balance lets in more than the choice kept where a batch has fewer than
    two images a class.

    Args:
        lr: learning rate of the bottleneck.
        backbone_factor: learning-rate factor of the backbone.
        views: of an image that the teacher answers: the image itself, then weak and strong ones in
            turn (Office: 33).
        ema_decay: teacher momentum per step (VisDA-C: .999, Office: 0).
        curriculum: rate at which weight moves to the unreliable labels, more while images are
            unsure (VisDA-C: 2.5e-3, Office: 1e-5).
        contrast: weight of the contrast at the start.
        contrast_decay: rate at which it falls, per step (Office: 1e-5).
        temperature: of the contrast.
    """

    version: ClassVar[str] = "3"

    lr: Positive = 1e-2
    backbone_factor: NonNegative = 0.1
    views: Annotated[int, Field(ge=2)] = 5
    ema_decay: Share = 0.99
    curriculum: Share = 1e-3
    contrast: NonNegative = 0.5
    contrast_decay: NonNegative = 1e-4
    temperature: Positive = 0.07

    def begin(self, access: SourceFree) -> None:
        """Take the source model, freeze its classifier, and copy it as teacher."""
        super().begin(access)
        self.net = access.source_model
        self.net.classifier.requires_grad_(False)
        self.teacher = frozen_copy(self.net)
        self.gamma = 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with SHOT's decay on backbone and bottleneck."""
        return self.decaying_sgd(self.net.parameter_groups(self.lr, self.backbone_factor))

    def on_train_epoch_start(self) -> None:
        """Switch the modes; the teacher's frozen stages, too, keep the source's statistics."""
        self.net.train()
        self.teacher.train()

    @torch.no_grad()
    def _answers(self, images: Tensor) -> Tensor:
        """Return the teacher's (V, B, K) logits of the views, by the batch's statistics."""
        flip = self.access.task.flip
        with fixed_statistics(self.teacher):
            found = [self.teacher(images)]
            for number in range(1, self.views):
                view = views.weak if number % 2 else views.strong
                found.append(self.teacher(view(images, flip=flip)))
        return torch.stack(found)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Reliable labels, the teacher's logits, and two views of the others."""
        images, flip = batch.images, self.access.task.flip
        target, confidence, spread = view_agreement(self._answers(images))
        sure, label = target.softmax(1).max(1)
        chosen = reliable_rows(target, confidence, spread)
        kept, rarity = balanced_by_class(label, sure, chosen, target.shape[1])
        other = self.net.features(views.weak(images, flip=flip))
        with fixed_statistics(self.net):
            features = self.net.features(views.strong(images, flip=flip))
        logits = self.net.classifier(features)
        self.gamma *= curriculum_factor(spread, confidence, self.curriculum)
        share, away = kept.to(logits), squared_difference(logits, target)
        if bool(kept.any()):
            reliable = F.cross_entropy(logits[kept], label[kept], rarity)
        else:
            reliable = away.mean()  # nobody to learn a class from: as for the unreliable
        unreliable = mean_over(away, 1 - share, 1 - share)
        contrast = logits.sum() * 0.0
        if not bool(kept.all()):
            pairs = torch.stack((features[~kept], other[~kept]), 1)
            contrast = view_contrast(pairs, self.temperature)
        falling = self.contrast * math.exp(-self.contrast_decay * (self.trainer.global_step + 1))
        loss = self.gamma * reliable + (1 - self.gamma) * unreliable + falling * contrast
        put, step = self.access.recorder.put, self.trainer.global_step
        put("curriculum/reliable_share", step, float(share.mean()))
        put("curriculum/weight", step, self.gamma)
        parts = {"reliable": reliable, "unreliable": unreliable, "contrast": contrast}
        return self.record_losses(loss, parts)

    @torch.no_grad()
    def on_train_batch_end(self, *args: object) -> None:
        """Move the teacher towards the network."""
        ema_state(self.teacher, self.net, self.ema_decay)

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the adapted network."""
        return Prediction(self.net(images))
