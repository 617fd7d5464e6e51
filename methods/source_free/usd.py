"""USD: unknown sample discovery for source-free open-set adaptation (reconstruction)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import (
    DecayingSGD,
    Init,
    Network,
    OfflineMethod,
    Prediction,
    Separation,
    SourceFree,
    TargetBatch,
    fixed_statistics,
    frozen_copy,
    views,
)
from dabench.methods.functional import divergence, losses
from dabench.methods.functional.centroids import centroid_labels
from dabench.methods.functional.mixture import (
    Split,
    fit_two_component,
    lift_surest,
    two_means_cut,
)

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class USD(OfflineMethod):
    """USD (arXiv 2312.03767, CVPRW 2024), **a reconstruction** from its abstract and its ancestors.

    An exponential-moving-average teacher separates known from unknown target images: a
    two-component Gaussian mixture on the Jensen-Shannon distance between pseudo-label and
    prediction over the known classes. A (K+1)-way student learns both sides, with temporal
    consistency to the teacher and a curriculum from known to unknown; one image can be classified
    on its own afterwards. Every loss and default that the abstract does not state is ours;
    docs/methods.md lists them with where each comes from.

    Args:
        lr: learning rate of bottleneck and classifier.
        backbone_factor: learning-rate factor of the backbone.
        ema_decay: teacher momentum per step.
        criterion: statistic of the separation: Jensen-Shannon distance (jsd), cross-entropy (ce),
            normalised entropy, or 1 - max probability (confidence).
        labels: pseudo-label of an image: nearest centroid (SHOT) or argmax.
        tau_known: posterior of "known" from which an image counts as known.
        tau_unknown: posterior of "known" up to which an image counts as unknown.
        teacher: separate with the EMA teacher (off: with the student itself, no consistency).
        curriculum: move weight from the known to the unknown term during training (off: 0.5).
        gamma_start: weight of the known term at the start of the curriculum.
        gamma_end: weight of the known term at its end.
        co_training: none, refine (labels refined by teacher and student), or two-way (an image is
            used only where teacher's and student's splits agree as well).
        unknown_node: decide by the (K+1)-th node; off: by the mixture's cut on the statistic.
        inference: the network that predicts (both are allowed by the paper's claim).
        smoothing: label smoothing of the targets.
        temperature: sharpening of refined labels.
        tc_weight: weight of the temporal consistency.
        im_weight: weight of information maximisation over the known classes.
        balance: share of every pseudo-class, most certain first, that counts as known whatever the
            mixture says; 0 = the mixture alone. One mixture serves all classes, and a class that
            the source model is unsure of would lie on its unknown side as a whole.
    """

    version: ClassVar[str] = "2"
    reconstruction: ClassVar[bool] = True
    default_init: ClassVar[Init] = "bn-target"

    def __init__(
        self,
        *,
        lr: Positive = 1e-2,
        backbone_factor: NonNegative = 0.1,
        ema_decay: Share = 0.95,
        criterion: Literal["jsd", "ce", "entropy", "confidence"] = "jsd",
        labels: Literal["centroid", "argmax"] = "argmax",
        tau_known: Share = 0.8,
        tau_unknown: Share = 0.2,
        teacher: bool = True,
        curriculum: bool = True,
        gamma_start: Share = 0.7,
        gamma_end: Share = 0.5,
        co_training: Literal["none", "refine", "two-way"] = "refine",
        unknown_node: bool = True,
        inference: Literal["teacher", "student"] = "teacher",
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        temperature: Positive = 0.5,
        tc_weight: NonNegative = 0.3,
        im_weight: NonNegative = 0.3,
        balance: Share = 0.3,
    ) -> None:
        super().__init__()
        self.balance = balance
        self.lr, self.backbone_factor, self.ema_decay = lr, backbone_factor, ema_decay
        self.criterion, self.label_rule = criterion, labels
        self.tau_known, self.tau_unknown = tau_known, tau_unknown
        self.use_teacher, self.curriculum = teacher, curriculum
        self.gamma_start, self.gamma_end = gamma_start, gamma_end
        self.co_training, self.unknown_node = co_training, unknown_node
        self.inference = inference
        self.smoothing, self.temperature = smoothing, temperature
        self.tc_weight, self.im_weight = tc_weight, im_weight

    def begin(self, access: SourceFree) -> None:
        """Append the unknown node and copy the student into the teacher."""
        super().begin(access)
        self.k = access.task.num_classes
        self.student = access.source_model
        self.student.append_class(torch.Generator().manual_seed(access.seed))
        self.teacher: Network = frozen_copy(self.student)
        self.posterior = torch.full((len(access.target),), 0.5, dtype=torch.float64)
        self.cut = float("inf")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SHOT's two groups with the decaying rate; the classifier learns too (the node must)."""
        groups = self.student.parameter_groups(self.lr, self.backbone_factor)
        return DecayingSGD(groups, total_steps=int(self.trainer.estimated_stepping_batches))

    # -- separation ---------------------------------------------------------------------------

    def statistic(self, p: Tensor, labels: Tensor) -> Tensor:
        """Return the (B,) statistic of (B, K) known-class probabilities; larger = less known."""
        if self.criterion == "jsd":
            return divergence.js_distance(divergence.onehot(labels, self.k), p)
        if self.criterion == "ce":
            return divergence.cross_entropy_to_label(p, labels)
        if self.criterion == "entropy":
            return divergence.normalised_entropy(p)
        return divergence.confidence_gap(p)

    @torch.no_grad()
    def _survey(self, net: Network) -> tuple[Tensor, Tensor]:
        """Return pseudo-labels and statistic of the whole adapt set (known logits only)."""
        was_training = net.training
        net.eval()
        found = []
        for batch in self.access.target.survey():
            features = net.features(batch.images.to(self.device))
            found.append((features, net.classifier(features)[:, : self.k].softmax(1)))
        net.train(was_training)
        features, p = (torch.cat(column) for column in zip(*found, strict=True))
        known = (self.posterior >= 0.5).to(p.device)
        labels = (
            centroid_labels(features, p, known) if self.label_rule == "centroid" else p.argmax(1)
        )
        return labels, self.statistic(p, labels)

    def _split(self, net: Network) -> tuple[Tensor, Tensor, Split]:
        labels, statistic = self._survey(net)
        split = fit_two_component(statistic.double().cpu().numpy(), seed=self.access.seed)
        return labels, statistic, split

    def on_train_epoch_start(self) -> None:
        """Separate the adapt set; a degenerate mixture keeps the previous split."""
        self.pseudo, statistic, split = self._split(self.separator)
        if not split.degenerate:
            self.posterior = torch.from_numpy(split.posterior)
        self.posterior = lift_surest(
            self.posterior, statistic, self.pseudo, share=self.balance, floor=self.tau_known
        )
        self.omega = self.posterior.to(self.device, torch.float32)
        self.known = self.omega >= self.tau_known
        self.unknown = (self.omega <= self.tau_unknown) & ~self.known
        if self.co_training == "two-way" and self.use_teacher:
            _, _, own = self._split(self.student)
            if not own.degenerate:
                agree = torch.from_numpy(own.posterior).to(self.omega) >= 0.5
                self.known, self.unknown = self.known & agree, self.unknown & ~agree
        put, epoch = self.access.recorder.put, self.current_epoch
        put("split/known_share", epoch, float(self.known.float().mean()))
        put("split/unknown_share", epoch, float(self.unknown.float().mean()))
        known = self.posterior.numpy() >= 0.5
        found = Separation(split.values, known, split.weights, split.means, split.variances)
        put("separation", epoch, found)
        self.student.train()
        self.teacher.eval()

    @property
    def separator(self) -> Network:
        """The network that separates: the teacher, or the student in the ablation."""
        return self.teacher if self.use_teacher else self.student

    @property
    def answering(self) -> Network:
        """The network that predicts."""
        return self.separator if self.inference == "teacher" else self.student

    # -- training -----------------------------------------------------------------------------

    def gamma(self) -> float:
        """Weight of the known term: linear from ``gamma_start`` to ``gamma_end``."""
        if not self.curriculum:
            return 0.5
        return self.gamma_start + (self.gamma_end - self.gamma_start) * self.progress

    def targets(self, index: Tensor, p_teacher: Tensor, p_student: Tensor) -> Tensor:
        """Return (B, K+1) smoothed targets of known images, refined where co-training is on."""
        y = divergence.onehot(self.pseudo[index], self.k + 1).to(p_teacher)
        if self.co_training != "none":
            w = self.omega[index, None]
            mean = (p_teacher + p_student) / 2 if self.use_teacher else p_student
            y = losses.sharpen(w * y + (1 - w) * mean, self.temperature)
        return losses.smooth_labels(y, self.smoothing)

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Known, unknown, consistency and information-maximisation terms of one batch."""
        flip, index = self.access.task.flip, batch.index
        weak, strong = views.weak(batch.images, flip=flip), views.strong(batch.images, flip=flip)
        # BatchNorm's running statistics come from weak views alone: those are what the teacher and
        # the user ask about; with strong views mixed in, UNK jumped by .3 between epochs
        with torch.no_grad():
            logits_weak = self.student(weak)
        with fixed_statistics(self.student):
            logits = self.student(strong)
        with torch.no_grad():
            p_teacher = (self.teacher(weak) if self.use_teacher else logits_weak).softmax(1)
        p_student = logits_weak.softmax(1)
        known, unknown = self.known[index].to(logits), self.unknown[index].to(logits)
        w_known, w_unknown = known * self.omega[index], unknown * (1 - self.omega[index])

        target = self.targets(index, p_teacher, p_student)
        node = torch.zeros_like(target)
        node[:, self.k] = 1.0
        l_known = _mean(losses.soft_cross_entropy(logits, target), w_known, known)
        l_unknown = _mean(
            losses.soft_cross_entropy(logits, losses.smooth_labels(node, self.smoothing)),
            w_unknown,
            unknown,
        )
        l_tc = losses.kl_divergence(p_teacher, logits).mean() * float(self.use_teacher)
        p_known = logits[:, : self.k].softmax(1)
        entropy, diversity = losses.information_maximisation(p_known, self.omega[index], w_known)
        gamma = self.gamma()
        loss = (
            gamma * l_known
            + (1 - gamma) * l_unknown
            + self.tc_weight * l_tc
            + self.im_weight * (entropy - diversity)
        )
        parts = {"known": l_known, "unknown": l_unknown, "consistency": l_tc}
        return self.record_losses(loss, parts | {"entropy": entropy, "diversity": diversity})

    @torch.no_grad()
    def on_train_batch_end(self, *args: object) -> None:
        """Move the teacher (weights and BatchNorm statistics) towards the student."""
        if not self.use_teacher:
            return
        teacher, student = self.teacher.state_dict(), self.student.state_dict()
        for name, value in teacher.items():
            if value.is_floating_point():
                value.lerp_(student[name], 1 - self.ema_decay)
            else:
                value.copy_(student[name])

    # -- inference ----------------------------------------------------------------------------

    def calibrate(self) -> None:
        """For the ablation without the node: freeze the mixture's cut on the adapt set."""
        if self.unknown_node:
            return
        _, statistic, split = self._split(self.answering)
        inside = statistic.double().cpu().numpy()[split.posterior >= 0.5]
        values = statistic.double().cpu().numpy()
        usable = len(inside) and not split.degenerate
        self.cut = float(inside.max()) if usable else two_means_cut(values, self.access.seed)

    def predict(self, images: Tensor) -> Prediction:
        """Argmax over K+1: no threshold, no target set."""
        logits = self.answering(images)
        if not self.access.task.open_set:
            return Prediction(logits[:, : self.k])
        if self.unknown_node:
            unknown = logits.argmax(1) == self.k
            return Prediction(logits[:, : self.k], logits.softmax(1)[:, self.k], unknown)
        p = logits[:, : self.k].softmax(1)
        score = self.statistic(p, p.argmax(1))
        return Prediction(logits[:, : self.k], score, score > self.cut)


def _mean(values: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Weighted sum over the images of a set, divided by how many there are (0 if none)."""
    return (values * weight).sum() / mask.sum().clamp(min=1)
