"""SHOT++: SHOT beside a task of rotations, then a stage that learns from its own sure answers."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import (
    ConfigError,
    SourceFree,
    TargetBatch,
    fixed_statistics,
    set_probabilities,
    views,
)
from dabench.methods.functional import distillation, losses
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive
from dabench.methods.functional.divergence import onehot
from dabench.methods.functional.semi_supervised import squared_difference, surest_of_each_class
from dabench.methods.source_free.rotation_task import RotationHead
from dabench.methods.source_free.shot import Shot
from dabench.methods.source_free.unknown_nodes import set_weight


class ShotPlusPlus(Shot):
    """SHOT++ (Liang et al., TPAMI 2021), after the authors' code (tim-learn/SHOT-plus, uda/).

    First SHOT, and beside it a linear head that tells from the features of an image and of the same
    image turned by how many quarters it was turned; that head is trained on the source model's
    features beforehand. Then MixMatch: the surest images of every class are labelled by their
    answer, the others by what two views of them say, and a new classifier learns with the rest.
    Deviations: both stages share the epochs of the budget, and sure and other images come in one
    shuffled batch (there: two loaders); the head is trained on plain images, its last state counts
    (there: its best by its own task); turned and mixed images move no running statistics, and the
    plain features serve both tasks in one pass (there: they do move them, and there are two);
    mixed images pass together (there: in interleaved batches); the last epoch counts (there, also:
    the one with the lowest entropy, which can choose collapse). And those of ``shot``.

    Args:
        rotation: weight of the rotation task; 0 = none.
        head_epochs: epochs in which the rotation head is trained beforehand.
        second_stage: share of the epochs, the last ones, with MixMatch; 0 = none.
        new_classifier: begin the second stage with a classifier from nothing, as the authors do.
        temperature: sharpening of guessed labels.
        alpha: of mixup's Beta distribution.
        unlabelled_weight: weight of guessed labels at the end, risen from 0 (there: 100).
    """

    version: ClassVar[str] = "1"

    rotation: NonNegative = 0.6
    head_epochs: Annotated[int, Field(ge=0)] = 15
    second_stage: BelowOne = 0.5
    new_classifier: bool = True
    temperature: Positive = 0.5
    alpha: Positive = 0.75
    unlabelled_weight: NonNegative = 100.0

    def begin(self, access: SourceFree) -> None:
        """Take the source model, and draw the rotation head."""
        super().begin(access)
        height, width = access.task.shape
        if self.rotation and height != width:
            raise ConfigError(
                f"shot++: its rotation task turns square images, and these have {height} x {width} "
                "pixels; expected equal sides, or --method.rotation 0"
            )
        self.generator = torch.Generator().manual_seed(access.seed)
        self.rotation_head = RotationHead(self.net.classifier.weight.shape[1], self.generator)

    def first_epochs(self) -> int:
        """Epochs of the first stage, at least one."""
        return distillation.distillation_epochs(self.trainer.max_epochs or 1, self.second_stage)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser; what a stage does not train has no gradient in it, and stays."""
        self.net.classifier.requires_grad_(True)
        groups = self.net.parameter_groups(self.lr, self.backbone_factor)
        self.net.classifier.requires_grad_(False)
        groups.append({"params": list(self.rotation_head.parameters()), "lr": self.lr})
        self.first = self.first_epochs() / (self.trainer.max_epochs or 1)
        decay = partial(distillation.two_stage_factor, first=self.first, power=0.75, restart=0.0)
        return self.decaying_sgd(groups, factor=decay)

    def on_train_epoch_start(self) -> None:
        """Begin a stage, or refresh SHOT's labels."""
        epoch, second = self.current_epoch, self.first_epochs()
        self.matching = epoch >= second
        if epoch == 0 and self.rotation:
            size = self.access.budget.batch_size
            self.rotation_head.prepare(
                *(self.net, self.access.target),
                **{"epochs": self.head_epochs, "batch_size": size, "lr": self.lr},
            )
        if epoch < second:
            super().on_train_epoch_start()
        elif epoch == second:
            self._divide()
        self.net.train()

    def _divide(self) -> None:
        """Label the surest images of every class, and free the classifier."""
        p = set_probabilities(self.net, self.access.target)
        self.sure, self.labels = surest_of_each_class(p), p.argmax(1)
        share = float(self.sure.float().mean())
        self.access.recorder.put("split/labelled_share", self.current_epoch, share)
        head = self.net.classifier.requires_grad_(True)
        if self.new_classifier:
            fresh = torch.empty(head.weight.shape)
            nn.init.xavier_normal_(fresh, generator=self.generator)
            set_weight(head, fresh)
            if head.bias is not None:
                nn.init.zeros_(head.bias)
        self.trainer.optimizers[0].state.clear()  # no momentum from the other stage

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """SHOT's losses and the rotation task, or MixMatch."""
        if self.matching:
            return self._match(batch)
        images = views.weak(batch.images, flip=self.access.task.flip)
        features = self.net.features(images)
        loss, parts = self.losses(self.net.classifier(features), batch.index)
        if self.rotation:
            parts["rotation"] = self.rotation_head.loss(self.net, images, features)
            loss = loss + self.rotation * parts["rotation"]
        return self.record_losses(loss, parts)

    def _match(self, batch: TargetBatch) -> Tensor:
        """Mix sure images with their labels, and others with what two views of them say."""
        one, two = (views.weak(batch.images, flip=self.access.task.flip) for _ in range(2))
        with torch.no_grad():
            mean = (self.net(one).softmax(1) + self.net(two).softmax(1)) / 2
        guess = losses.sharpen(mean, self.temperature)
        sure = self.sure[batch.index]
        label = onehot(self.labels[batch.index], guess.shape[1]).to(guess)
        target = torch.cat((torch.where(sure[:, None], label, guess), guess[~sure]))
        images = torch.cat((one, two[~sure]))
        order = torch.randperm(len(images), device=images.device)
        share = distillation.mixup_weight(self.alpha)
        share = max(share, 1 - share)
        with fixed_statistics(self.net):
            logits = self.net(distillation.mix(images, order, share))
        target = distillation.mix(target, order, share)
        known = torch.cat((sure, sure[~sure])).to(logits)
        ce = losses.mean_over(losses.soft_cross_entropy(logits, target), known, known)
        apart = squared_difference(logits.softmax(1), target)
        guessed = losses.mean_over(apart, 1 - known, 1 - known)
        rise = (self.progress - self.first) / (1 - self.first)
        loss = ce + self.unlabelled_weight * rise * guessed
        return self.record_losses(loss, {"labelled": ce, "guessed": guessed})
