"""RAIN: distillation that is regularised by images with mixed phases and by a narrower network."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import TargetBatch, fixed_statistics, views
from dabench.methods.black_box.student import MemoryStudent
from dabench.methods.functional import losses, phase_mix
from dabench.methods.functional.bounds import NonNegative, Share


class RAIN(MemoryStudent):
    """RAIN (Peng et al., IJCAI 2023), **a reconstruction**: the file of its authors does not run.

    DINE's distillation of a memory with information maximisation. In place of mixup, answers stay
    when an image's phases are mixed with another's, and a narrower form of the network learns the
    whole one's answers, its gradients by the classifier agreeing with the whole network's. From the
    authors' file (davidpengucf/RAIN): the terms, their weights and widths. Ours: phases are mixed
    up to ``phase`` (there: exchanged entirely, along the wrong dimensions); the narrower network is
    the same one with its last channels silenced; the gradients are those of the distillation, sure
    images weighing more; the narrower network learns from the whole one (the file computes both
    directions and keeps the other, at half the weight); the rate falls with DINE's ``power``, 1.5
    (there: .75); silenced channels are constant behind their BatchNorm (there: they are left out);
    the classifier learns (there: it is frozen as it was drawn); one narrower network a step, of the
    same view (there: three, of others); the use of classes is an average over batches. Neither
    mixed images nor narrow passes move running statistics.

    Args:
        im_weight: weight of information maximisation.
        phase: largest share of the partner's phase.
        phase_weight: weight of the mean absolute difference between both answers.
        width: least share of channels that a narrower network keeps.
        narrow_weight: weight of its divergence from the whole network.
        gradient_weight: weight of the gradients' disagreement.
    """

    reconstruction: ClassVar[bool] = True

    im_weight: NonNegative = 1.0
    phase: Share = 0.5
    phase_weight: NonNegative = 1.2
    width: Annotated[float, Field(gt=0, le=1)] = 0.9
    narrow_weight: NonNegative = 0.6
    gradient_weight: NonNegative = 0.3

    def on_train_epoch_start(self) -> None:
        """Refresh the memory."""
        self.refresh_bank()
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Distillation, information maximisation and both regularisers."""
        images = views.weak(batch.images, flip=self.access.task.flip)
        labels = self.bank[batch.index]
        features = self.net.features(images)
        logits = self.net.classifier(features)
        p = logits.softmax(1)
        distil = losses.kl_divergence(labels, logits).mean()
        entropy, diversity = losses.entropy(p).mean(), self.diversity(p)
        order = torch.randperm(len(images), device=images.device)
        mixed = phase_mix.phase_mix(images, order, self.phase * float(torch.rand(())))
        width = self.width + (1 - self.width) * float(torch.rand(()))
        with fixed_statistics(self.net):
            steady = (p - self.net(mixed).softmax(1)).abs().mean()
            with phase_mix.narrowed(self.net, width):
                part = self.net.features(images)
        narrow = self.net.classifier(part)
        learned = losses.kl_divergence(p.detach(), narrow).mean()
        sure = 1 + (-losses.entropy(p.detach())).exp()
        gradients = phase_mix.gradient_disagreement(
            (features, p), (part, narrow.softmax(1)), labels, sure
        )
        loss = distil + self.im_weight * (entropy - diversity) + self.phase_weight * steady
        loss = loss + self.narrow_weight * learned + self.gradient_weight * gradients
        parts = {"distillation": distil, "entropy": entropy, "diversity": diversity}
        parts |= {"phase": steady, "narrow": learned, "gradients": gradients}
        return self.record_losses(loss, parts)
