"""NOTE: statistics corrected image by image, steps on a memory balanced by prediction."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Online, TargetBatch
from dabench.methods.functional.balanced_reservoir import BalancedReservoir
from dabench.methods.functional.bounds import NonNegative, Positive, Share
from dabench.methods.functional.instance_aware_norm import use_instance_statistics
from dabench.methods.functional.losses import entropy
from dabench.methods.functional.moving_norm import moving_statistics
from dabench.methods.online.norm_affine import NormAffine


class NOTE(NormAffine):
    """NOTE (Gong et al., NeurIPS 2022) with converted BatchNorm, after the authors' code.

    Made for streams in which classes come in runs. BatchNorm layers answer every image by itself:
    running statistics, corrected where the image leaves them for sure (IABN). A memory holds as
    many images of each predicted class as the stream lets it (PBRS); every so many images weight
    and bias of these layers take one step on the mean entropy of all that it holds, by the
    memory's own statistics, which the running ones follow. An image is answered before it is
    learned from. Deviation: in the paper the source model is *trained* with these layers; here the
    layers of an ordinary one are exchanged, as UniTTA's code does, so that published figures of
    NOTE do not apply.

    Args:
        memory: images that are stored.
        every: images between two steps.
        k: standard errors by which an image has to leave the running statistics.
        bn_momentum: weight of the memory in the running statistics, at every step.
    """

    fixed_options: ClassVar[frozenset[str]] = frozenset({"rho"})
    extras: ClassVar[frozenset[str]] = frozenset({"buffer"})

    lr: Positive = 1e-4
    memory: Annotated[int, Field(ge=1)] = 64
    every: Annotated[int, Field(ge=1)] = 64
    k: NonNegative = 4.0
    bn_momentum: Share = 0.01

    seen: Tensor

    def begin(self, access: Online) -> None:
        """Take the source model, exchange its BatchNorm layers, begin with an empty memory.

        Raises:
            ConfigError: a network without BatchNorm, or with nothing to adapt.
        """
        super().begin(access)
        task, device = access.task, self.net.mean.device
        reservoir = BalancedReservoir(self.memory, task.num_classes, task.image_size)
        self.reservoir = reservoir.to(device)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64, device=device))

    def exchange_norms(self) -> None:
        """Let BatchNorm heed single images."""
        use_instance_statistics(self.net, self.k, "note")

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer and store the images; step wherever enough have come."""
        answers, left = [], batch.images
        while len(left):
            missing = self.every - int(self.seen) % self.every
            images, left = left[:missing], left[missing:]
            with torch.no_grad():
                logits: Tensor = self.net(images)
            self.reservoir.add(images, logits.argmax(1))
            self.seen += len(images)
            answers.append(logits)
            if len(images) == missing:
                self.learn_from_memory()
        return torch.cat(answers)

    def learn_from_memory(self) -> None:
        """Take one step on all that is stored."""
        images = self.reservoir.images().to(self.net.mean.dtype)
        with moving_statistics(self.net, self.bn_momentum):
            p = self.net(images).softmax(1)
        self.update(entropy(p).mean())
