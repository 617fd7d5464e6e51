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
    Photometric,
    Prediction,
    TargetBatch,
    Warp,
)
from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive, Share
from dabench.methods.functional.consistency import consistency
from dabench.methods.functional.gradient_step import GradientStep, GradNorm
from dabench.methods.functional.normalisation import Trained, adapt_normalisation, choose_trained
from dabench.methods.functional.online import flatten_all, restore_values
from dabench.methods.online.transfer_source import Natural, TransferSource


class TransAdapt(TransferSource):
    """TransAdapt (Das et al., ICASSP 2023), **a reconstruction** from its abstract and patents.

    On source images, before the stream, a copy of the classifier is fine-tuned by an unsupervised
    loss alone, and a transformer module learns to turn its logits into the labels by a matrix that
    it predicts from the image's feature map (the extra ``source-parts``). On the stream the module
    is frozen. Each image moves the network by an unsupervised loss on that head's output, by
    invariance to a photometric view and by equivariance to a geometric one; then it is answered by
    the module's matrix on the head's new logits. Losses are taken at the places of the feature map;
    answers have the image's size. ``steps=0`` is the module without adaptation,
    ``module=false`` the losses without the module. Where each choice comes from: docs/methods.md.

    Args:
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: L2 penalty.
        steps: updates an image, each with views of its own; 0 = none.
        unsup_weight: weight of the unsupervised loss; 0 leaves it out.
        invariance_weight: weight of the photometric view; 0 leaves the view out.
        equivariance_weight: weight of the geometric view; 0 leaves the view out.
        targets: soft probabilities, or hard classes where they are sure.
        threshold: probability from which on a class is sure, for hard targets.
        adapt: what learns: norms (weight and bias of the normalisation layers), the head with them,
            or all of the network.
        rho: weight of the image in BatchNorm statistics; 0 = the source's alone.
        episodic: go back to the source model after every image.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

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
    targets: Literal["soft", "hard"] = "soft"
    threshold: Share = 0.9
    adapt: Trained = "norms+head"
    rho: Share = 0.6
    episodic: bool = False
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
        self.sure_from = self.threshold if self.targets == "hard" else None
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
        adapt_normalisation(self.net, self.rho)
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
        if self.episodic:
            self.register_buffer("start", flatten_all(p.detach() for p in self.trained).clone())

    def step(self, batch: TargetBatch) -> Tensor:
        """Learn from the image, and answer."""
        for _ in range(self.steps):
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
        with torch.set_grad_enabled(bool(self.unsup_weight)):
            p = self.head_logits(images).softmax(1)
        losses: dict[str, Tensor] = {}
        if self.unsup_weight:
            losses["unsupervised"] = self.unsup_weight * self.objective(p).mean()
        target = p.detach()
        if self.invariance_weight:
            losses["invariance"] = self.invariance_weight * self._invariance(images, target)
        if self.equivariance_weight:
            losses["equivariance"] = self.equivariance_weight * self._equivariance(images, target)
        if self.update.steps % 10 == 0:
            for name, loss in losses.items():
                self.access.recorder.put(f"loss/{name}", self.update.steps, float(loss.detach()))
        self.update(torch.stack(list(losses.values())).sum())

    def _invariance(self, images: Tensor, target: Tensor) -> Tensor:
        """Return how far the answer to a photometric view is from the target."""
        view = Photometric.draw(len(images), device=images.device).apply(images)
        return consistency(target, self.head_logits(view), threshold=self.sure_from)

    def _equivariance(self, images: Tensor, target: Tensor, warp: Warp | None = None) -> Tensor:
        """Return how far the answer to a geometric view is from the view of the target."""
        if warp is None:
            flip = self.access.task.flip
            warp = Warp.draw(len(images), flip=flip, device=images.device)
        logits = self.head_logits(warp.apply(images))
        valid = warp.valid((logits.shape[-2], logits.shape[-1]))
        return consistency(warp.apply(target), logits, valid, self.sure_from)

    def predict(self, images: Tensor) -> Prediction:
        """Answer as the network stands, by the statistics of these images."""
        return Prediction(self.transferred_logits(images))
