"""How classes are expected to occur in a target, and how far answers go towards it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dabench.methods.functional.losses import AveragedMarginal, marginal_surprise

ClassPrior = Literal["uniform", "oracle-mean", "none"]


def expected_use(prior: ClassPrior, answers: Tensor) -> Tensor:
    """Return the (K,) shares in which classes are expected: all alike, or as in the mean answer.

    Args:
        prior: ``oracle-mean`` = the mean of the answers, each class at least 1e-6; else uniform.
        answers: (N, K) probabilities.
    """
    if prior == "oracle-mean":
        return answers.mean(0).clamp_min(1e-6)
    return torch.full_like(answers[0], 1 / answers.shape[1])


def rebalanced(prior: ClassPrior, answers: Tensor, rounds: int = 3) -> Tensor:
    """Return answers whose mean comes close to uniform use of the classes.

    Every round divides a class's column by its mean over the set, and brings the rows back to sum 1
    (Sinkhorn's scaling). A model that hardly ever names a class under a shift still orders images
    by that class's column, which the likeliest class of a row hides.

    Args:
        prior: how classes are expected to occur; any other than ``uniform`` gives the answers back.
        answers: (N, K) probabilities; values below 1e-6 count as 1e-6.
        rounds: 1 = the correction of one prior by another.

    Source: the correction of Saerens et al., Neural Computation 2002, with the mean answer in place
    of the old prior; that it is repeated is ours.
    """
    if prior != "uniform":
        return answers
    p = answers.clamp_min(1e-6)
    for _ in range(rounds):
        p = p / p.mean(0)
        p = p / p.sum(1, keepdim=True)
    return p


class ClassUse(AveragedMarginal):
    """As :class:`AveragedMarginal`, against a prior; the average starts where it is to be.

    Args:
        prior: how classes are expected to occur; ``none`` = there is no such term.
        answers: (N, K) probabilities of an oracle, for ``oracle-mean``.
        memory: share of the past that is kept, in [0, 1).
    """

    def __init__(self, prior: ClassPrior, answers: Tensor, memory: float) -> None:
        self.prior, self.expected = prior, expected_use(prior, answers)
        super().__init__(memory, self.expected.clone())

    def surprise(self, p: Tensor) -> Tensor:
        """Take in (B, K) answers, and return how far they go towards classes used too little."""
        if self.prior == "none":
            return p.sum() * 0.0
        return marginal_surprise(p, self.moved(p) / self.expected)


def averaged_use(prior: ClassPrior, answers: Tensor, memory: float) -> AveragedMarginal:
    """Return a use of classes that starts where it is to be; see :func:`held_to` for arguments.

    Against uniform classes it is the plain surprise, which lies log K above :class:`ClassUse`'s.
    """
    if prior == "uniform":
        return AveragedMarginal(memory, expected_use(prior, answers))
    return ClassUse(prior, answers, memory)


def held_to(prior: ClassPrior, answers: Tensor, memory: float) -> AveragedMarginal | None:
    """Return what holds answers to a prior; None: uniform classes in the batch alone do.

    That is the second term of information maximisation as it is. Averaged over batches, uniform
    use starts from the first batch.

    Args:
        prior: how classes are expected to occur.
        answers: (N, K) probabilities of an oracle.
        memory: share of the past that is kept, in [0, 1).
    """
    if prior != "uniform":
        return ClassUse(prior, answers, memory)
    return AveragedMarginal(memory) if memory else None
