"""TransAdapt: a transfer module from source training, and test-time losses (reconstruction)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dabench.api import (
    ConfigError,
    Kind,
    Online,
    Prediction,
    TargetBatch,
    frozen_copy,
)
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.gradient_step import GradientStep, GradNorm
from dabench.methods.functional.normalisation import Trained, choose_trained
from dabench.methods.functional.online import flatten_all, restore_values
from dabench.methods.online.transfer_source import Natural
from dabench.methods.online.transfer_views import TransferViews


class TransAdapt(TransferViews):
    """TransAdapt (Das et al., ICASSP 2023), **a reconstruction** from its abstract and patents.

    On source images, before the stream, a copy of the classifier is fine-tuned by an unsupervised
    loss alone, and a transformer module learns to turn its logits into the labels by a matrix that
    it predicts from the image's feature map (the extra ``source-parts``). On the stream the module
    is frozen. BatchNorm takes an image's statistics as far as the image is out of what is usual
    among source images, and one that is hardly so teaches nothing. Others move the network by an
    unsupervised loss on that head's output, by invariance to a photometric view and equivariance
    to a geometric one, both towards the source weights' answer; then the module's matrix on the
    head's new logits answers. Losses are taken at the places of the feature map; answers have the
    image's size. ``steps=0`` is the module without adaptation, ``module=false`` the losses without
    the module. Where each choice comes from: docs/reconstructions.md.

    Args:
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: L2 penalty.
        steps: updates an image, each with views of its own; 0 = none.
        unsup_weight: weight of the unsupervised loss; 0 leaves it out.
        invariance_weight: weight of the photometric view; 0 leaves the view out.
        equivariance_weight: weight of the geometric view; 0 leaves the view out.
        adapt: what learns: norms (weight and bias of the normalisation layers), the head with them,
            or all of the network.
        episodic: go back to the source model after every image.
        gate: least shift of an image that is learned from (:class:`ImageShift`, 0 to 1); 0 = all
            images are.
        anchored: both views learn the answer of the source weights (under the image's statistics);
            else that of the network as it stands, which drifts.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    version: ClassVar[str] = "3"
    reconstruction: ClassVar[bool] = True
    answers: ClassVar[Literal["before", "after"]] = "after"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"segmentation"})
    start: Tensor

    lr: Positive = 1e-3
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    steps: Natural = 1
    unsup_weight: NonNegative = 0.1
    invariance_weight: NonNegative = 1.0
    equivariance_weight: NonNegative = 1.0
    adapt: Trained = "norms+head"
    episodic: bool = False
    gate: Share = 0.2
    anchored: bool = True
    grad_norm: GradNorm = "none"
    max_norm: Positive = 1.0

    def check_options(self) -> None:
        """Refuse weights under which nothing is learned, and say what follows from the options."""
        super().check_options()
        weights = (self.unsup_weight, self.invariance_weight, self.equivariance_weight)
        if self.steps and not any(weights):
            raise ConfigError(
                "transadapt: all three weights are 0, so there is nothing to learn; set "
                "--method.steps 0 for the module without adaptation, or a weight above 0"
            )
        self.trains = self.steps > 0  # type: ignore[misc]

    def begin(self, access: Online) -> None:
        """Take the source model with the head in its place, and freeze the module.

        Raises:
            AccessError: the protocol does not grant what was trained on source data.
            ConfigError: the network has no normalisation layer to adapt.
        """
        super().begin(replace(access, extras={}))
        self.net = access.source_model.eval()
        self.take_source_parts(access)
        if not self.steps:
            self.net.requires_grad_(False)
            return
        self.trained = choose_trained(self.net, self.net.classifier, self.adapt)
        optimiser = torch.optim.SGD(
            self.trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        self.update = GradientStep(
            self.net, optimiser, access.recorder.put, self.grad_norm, self.max_norm
        )
        if self.anchored:
            self.anchor = frozen_copy(self.net)
        if self.episodic:
            self.register_buffer("start", flatten_all(p.detach() for p in self.trained).clone())

    def step(self, batch: TargetBatch) -> Tensor:
        """Learn from the image, and answer."""
        nets = (self.net, self.anchor) if self.steps and self.anchored else (self.net,)
        shift = self.shift.weigh(batch.images, *nets) if self.shift else 1.0
        for _ in range(self.steps if shift >= self.gate else 0):
            self._learn(batch.images)
        with torch.no_grad():
            answer = self.transferred_logits(batch.images)
        if self.steps and self.episodic:
            values = torch.split(self.start, [p.numel() for p in self.trained])
            pairs = zip(values, self.trained, strict=True)
            restore_values(self.trained, [value.view_as(p) for value, p in pairs])
            self.update.reset_optimiser()
        return answer

    def _learn(self, images: Tensor) -> None:
        """Make one update."""
        teacher = self.anchor if self.anchored else self.net
        own = bool(self.unsup_weight) and not self.anchored
        with torch.set_grad_enabled(own):
            p = self.head_logits(images, teacher).softmax(1)
        target = p.detach()
        losses: dict[str, Tensor] = {}
        if self.unsup_weight:
            p = p if own else self.head_logits(images).softmax(1)
            losses["unsupervised"] = self.unsup_weight * self.objective(p).mean()
        if self.invariance_weight:
            losses["invariance"] = self.invariance_weight * self.invariance(images, target)
        if self.equivariance_weight:
            losses["equivariance"] = self.equivariance_weight * self.equivariance(images, target)
        if self.update.steps % 10 == 0:
            for name, loss in losses.items():
                self.access.recorder.put(f"loss/{name}", self.update.steps, float(loss.detach()))
        self.update(torch.stack(list(losses.values())).sum())

    def predict(self, images: Tensor) -> Prediction:
        """Answer as the network stands, by the statistics of these images."""
        if self.shift:
            self.shift.weigh(images, self.net)  # no state: every pass of a batch sets it anew
        return Prediction(self.transferred_logits(images))
