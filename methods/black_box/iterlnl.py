"""IterLNL: learning with noisy labels, again and again from a fresh network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dabench.api import BlackBox, TargetBatch, inverse_decay, set_probabilities, views
from dabench.methods.black_box.student import Student
from dabench.methods.functional.bounds import Positive, Share
from dabench.methods.functional.selection import ClassScores, rescaled_share


class IterLNL(Student):
    """IterLNL (Zhang et al., 2021, arXiv 2101.02839), after the authors' code (zhjscut/IterLNL).

    In loops: the labels are the classes that the current model names (at first: the oracle's), the
    network starts anew, and learns from those of each class whose labels it finds likeliest. It
    keeps all at first, and fewer and fewer up to the middle of the loop; in the end 1 - tau, where
    tau falls with the share of images about which the labels' model is sure.
    Deviations: the loops share the epochs of the budget (there: 10 x 30, for VisDA-C 30 x 2 of
    them), and none begins with an epoch of all images; the share kept never falls below ``least``
    (an underconfident oracle would otherwise keep next to nothing); scores are remembered for half
    of the images at most; rate and weight decay are the suite's, the rate from the start in every
    loop (there: 3e-3 and nearly constant); where fewer than two images of a batch are kept, the two
    likeliest learn (there: none); views are the suite's weak ones; the diversity term, of weight 0
    in the authors' settings for Office-31, is left out.

    Args:
        loops: fresh starts, of two epochs at least; fewer where the run is shorter.
        confidence: from which the labels' model is sure of an image.
        rescale: power by which the share of such images is pushed away from a half; 1 = not.
        least: smallest share of images that is kept.
        ramp: part of a loop in which the share falls.
        scores: remembered scores a class.
    """

    loops: Annotated[int, Field(ge=1)] = 3
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    rescale: Positive = 1.0
    least: Share = 0.3
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.5
    scores: Annotated[int, Field(ge=2)] = 100

    version: ClassVar[str] = "3"

    def begin(self, access: BlackBox) -> None:
        """Ask once; what a network from nothing is, is known from here on."""
        super().begin(access)
        half = len(access.target) // (2 * access.task.num_classes)
        self.length = min(self.scores, max(2, half))

    @property
    def starts(self) -> list[int]:
        """The epochs before which loops begin, and the end."""
        epochs = self.trainer.max_epochs or 1
        loops = min(self.loops, max(1, epochs // 2))
        return [round(m * epochs / loops) for m in range(loops + 1)]

    def within_loop(self, progress: float) -> float:
        """Return the share of its loop that is done, in [0, 1), by the share of the run."""
        at = progress * self.starts[-1]
        begun = [start for start in self.starts[:-1] if start <= at + 1e-9]
        end = self.starts[len(begun)]
        return (at - begun[-1]) / (end - begun[-1])

    def decay(self) -> Callable[[float], float]:
        """The rate starts again with every loop."""
        return lambda progress: inverse_decay(self.within_loop(progress), power=self.power)

    def on_train_epoch_start(self) -> None:
        """At the start of a loop, label the adapt set and begin with a fresh network."""
        if self.current_epoch in self.starts[:-1]:
            loop = self.starts.index(self.current_epoch)
            p = set_probabilities(self.net, self.access.target) if loop else self.answers
            sure, self.labels = p.max(1)
            share = float((sure > self.confidence).float().mean())
            self.tau = min(1 - rescaled_share(share, self.rescale), 1 - self.least)
            self.access.recorder.put("labels/kept", self.current_epoch, 1 - self.tau)
            self.filter = ClassScores(self.access.task.num_classes, self.length, self.device)
            if loop:
                self._start_anew(loop)
        self.net.train()

    def _start_anew(self, loop: int) -> None:
        """Give the network the weights of a fresh one; the optimiser forgets its momentum."""
        self.net.load_state_dict(self.access.new_network(loop).state_dict())
        for optimiser in self.trainer.optimizers:
            optimiser.state.clear()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Cross-entropy with the labels that are kept."""
        images = views.weak(batch.images, flip=self.access.task.flip)
        labels = self.labels[batch.index]
        done = min(self.within_loop(self.progress) / self.ramp, 1.0)
        self.net.eval()
        with torch.no_grad():
            likely = self.net(images).softmax(1).gather(1, labels[:, None]).squeeze(1)
        self.net.train()
        kept = self.filter.select(likely, labels, 1 - self.tau * done)
        loss = F.cross_entropy(self.net(images[kept]), labels[kept])
        return self.record_losses(loss, {"labels": loss, "kept": kept.float().mean()})
