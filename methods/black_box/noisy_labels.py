"""Two ways to learn from noisy labels: a loss that bears them, and labels made anew."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, TargetBatch, set_probabilities, views
from dabench.methods.black_box.student import DiverseStudent, Student
from dabench.methods.functional import losses
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.noise import balanced_assignment, symmetric_kl


class NllKL(DiverseStudent):
    """NLL-KL, **a reconstruction** of the row in the tables of DINE and its descendants.

    The divergence between the oracle's answer and the network's is taken both ways: the second way
    bears wrong labels, because an answer the label rules out costs a bounded amount. A term holds
    classes in use. The papers name a symmetric divergence and no setting; the floor of
    probabilities within the logarithm, and the weights, are ours.

    Args:
        reverse_weight: weight of the divergence of the network's answer from the label.
        floor: least probability of a label within the reverse divergence.
        diversity_weight: weight of the use of classes.
    """

    reconstruction: ClassVar[bool] = True

    reverse_weight: NonNegative = 1.0
    floor: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    diversity_weight: NonNegative = 1.0

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Divergence both ways, less the use of classes."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        labels = self.answers[batch.index]
        both = symmetric_kl(labels, logits, self.reverse_weight, self.floor).mean()
        diversity = self.diversity(logits.softmax(1))
        loss = both - self.diversity_weight * diversity
        return self.record_losses(loss, {"divergence": both, "diversity": diversity})


class NllOT(Student):
    """NLL-OT, **a reconstruction** of the row in the tables of DINE and its descendants.

    Before every epoch the images are assigned to the classes by optimal transport (Sinkhorn): as
    the network sees them, while every class gets its share; the network learns the assignment. At
    the start it is the oracle that sees them. The papers name the transport (Asano et al., ICLR
    2020) and no setting. Ours: the classes' shares are those of the oracle's mean answer, since
    equal ones are wrong where classes are not equally frequent.

    Args:
        shares: the classes' shares: those of the oracle's mean answer, or all alike (uniform).
        sharpness: power of the probabilities; the larger, the harder the assignment (Asano: 25).
        rounds: most rounds of Sinkhorn's iteration (100 leave a class up to .1 off its share).
    """

    version: ClassVar[str] = "2"
    reconstruction: ClassVar[bool] = True

    shares: Literal["oracle-mean", "uniform"] = "oracle-mean"
    sharpness: Positive = 25.0
    rounds: Annotated[int, Field(ge=1)] = 2000

    def begin(self, access: BlackBox) -> None:
        """Ask once; fix the classes' shares."""
        super().begin(access)
        self.mass = self.answers.mean(0)
        if self.shares == "uniform":
            self.mass = torch.full_like(self.mass, 1 / len(self.mass))

    def on_train_epoch_start(self) -> None:
        """Assign the images to classes."""
        first = self.current_epoch == 0
        p = self.answers if first else set_probabilities(self.net, self.access.target)
        self.labels = balanced_assignment(p, self.mass, self.sharpness, self.rounds)
        self.net.train()

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Cross-entropy with the assignment."""
        logits = self.net(views.weak(batch.images, flip=self.access.task.flip))
        loss = losses.soft_cross_entropy(logits, self.labels[batch.index]).mean()
        return self.record_losses(loss, {"assignment": loss})
