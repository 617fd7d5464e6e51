"""RoTTA: a memory of few images a class, statistics that follow it, an averaged teacher."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Online, Prediction, TargetBatch, frozen_copy
from dabench.methods.functional.bounds import NonNegative, Share
from dabench.methods.functional.losses import entropy, soft_cross_entropy
from dabench.methods.functional.moving_norm import RobustNorm, robust_statistics
from dabench.methods.functional.normalisation import exchange_batch_norms
from dabench.methods.functional.online import ema_update
from dabench.methods.functional.timely_memory import TimelyMemory, timeliness
from dabench.methods.online.cotta import augment
from dabench.methods.online.norm_affine import NormAffine


class RoTTA(NormAffine):
    """RoTTA (Yuan et al., CVPR 2023), after the authors' code.

    Made for streams in which classes come in bursts. A teacher answers and labels every image, and
    a memory takes it in that holds few images of each predicted class, young ones and sure ones.
    Every so many images the student learns, on changed views of the memory, what the teacher says
    of it, the young ones counting more; the teacher's weights are an average of the student's.
    BatchNorm normalises by running statistics that follow the memory, never by a batch of the
    stream. The answer is the teacher's, from before the update.
    Deviations: affine parameters of LayerNorm and GroupNorm learn, too (there: of BatchNorm alone);
    dropout stays off; views have the suite's geometry, without hue and gamma; the entropy's
    logarithm has no 1e-6.

    Args:
        rho: weight of a pass of the memory in BatchNorm's running statistics.
        memory: images in the memory; with more classes than this a class has one place.
        every: images of the stream from one update to the next, whatever the batch size.
        ema_decay: share of the teacher's weights that is kept at an update.
        time_weight: of an image's age in what leaves the memory.
        uncertainty_weight: of its entropy in what leaves the memory.
    """

    extras: ClassVar[frozenset[str]] = frozenset({"buffer"})
    seen: Tensor

    rho: Share = 0.05
    memory: Annotated[int, Field(ge=1)] = 64
    every: Annotated[int, Field(ge=1)] = 64
    ema_decay: Share = 0.999
    time_weight: NonNegative = 1.0
    uncertainty_weight: NonNegative = 1.0

    def begin(self, access: Online) -> None:
        """Take the source model as student; copy it as teacher; the memory is empty."""
        super().begin(access)
        self.teacher = frozen_copy(self.net)
        task, weights = access.task, (self.time_weight, self.uncertainty_weight)
        memory = TimelyMemory(self.memory, task.num_classes, task.image_size, *weights)
        self.stored = memory.to(self.net.mean.device)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def exchange_norms(self) -> None:
        """Let BatchNorm follow the memory."""
        exchange_batch_norms(self.net, lambda layer: RobustNorm(layer, self.rho))

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer by the teacher; take the images in; learn where it is time."""
        with torch.no_grad():
            answer: Tensor = self.teacher(batch.images)
        p = answer.softmax(1)
        labels, h = p.argmax(1), entropy(p)
        begin = 0
        while begin < len(p):
            due = self.every - int(self.seen) % self.every
            rows = slice(begin, begin + due)
            self.stored.offer(batch.images[rows], labels[rows], h[rows])
            came = len(labels[rows])
            begin += came
            self.seen += came
            if came == due:
                self.teach()
        return answer

    def teach(self) -> None:
        """Make one step of the student on the memory, and let the teacher follow."""
        images, ages = self.recall()
        with robust_statistics(self.teacher, self.net):
            with torch.no_grad():
                target = self.teacher(images).softmax(1)
            logits = self.net(augment(images, flip=self.access.task.flip))
        losses = timeliness(ages, self.memory) * soft_cross_entropy(logits, target)
        self.update(losses.mean())
        self.follow(self.ema_decay)

    def recall(self) -> tuple[Tensor, Tensor]:
        """Return the stored images, in the network's precision, and their ages."""
        images, ages = self.stored.recall()
        self.access.recorder.put("buffer/size", self.update.steps, float(len(images)))
        return images.to(self.net.mean), ages

    def follow(self, decay: float) -> None:
        """Move the teacher's weights towards the student's."""
        ema_update(list(self.teacher.parameters()), list(self.net.parameters()), decay)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the teacher."""
        return Prediction(self.teacher(images))
