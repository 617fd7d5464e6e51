"""Learning from labels of which some are wrong: losses that bear them, and balanced assignment."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dabench.methods.functional.losses import entropy, kl_divergence


def reverse_cross_entropy(p: Tensor, labels: Tensor, floor: float = 1e-4) -> Tensor:
    """Return the per-sample -sum_c p_c log t_c, with t at least ``floor``: at most -log floor.

    Args:
        p: (N, K) probabilities of the network, which get the gradient.
        labels: (N, K) distributions t.
        floor: stands for the zeros of a hard label, whose logarithm is not finite.

    Source: Wang et al., "Symmetric cross entropy for robust learning with noisy labels", ICCV 2019.
    """
    return -(p * labels.clamp_min(floor).log()).sum(1)


def symmetric_kl(
    labels: Tensor, logits: Tensor, reverse_weight: float = 1.0, floor: float = 1e-4
) -> Tensor:
    """Return the per-sample KL(t || p) + w KL(p || t), p the softmax of the logits.

    Args:
        labels: (N, K) distributions t; in the second term they count as at least ``floor``.
        logits: (N, K).
        reverse_weight: w.
        floor: in (0, 1).

    Source: Kullback and Leibler, 1951; as a loss for noisy labels, see
    :func:`reverse_cross_entropy`.
    """
    p = logits.softmax(1)
    reverse = reverse_cross_entropy(p, labels, floor) - entropy(p)
    return kl_divergence(labels, logits) + reverse_weight * reverse


def balanced_assignment(p: Tensor, mass: Tensor, sharpness: float, rounds: int = 2000) -> Tensor:
    """Assign images to classes of given sizes: rows of the transport plan, each summing to one.

    The plan is diag(a) P^s diag(b), whose rows have mass 1 / N and whose columns ``mass``; found by
    Sinkhorn's iteration in logarithms, in double precision. Where all rows of P are equal, every
    row of the answer is ``mass``.

    Args:
        p: (N, K) probabilities P; values below 1e-12 count as 1e-12.
        mass: (K,) shares of the classes, summing to 1; one of 0 gets no image.
        sharpness: s, above 0.
        rounds: most rounds; it stops earlier where the columns are right to 1e-6.

    Returns:
        (N, K) distributions.

    Source: Cuturi, "Sinkhorn distances", 2013; for labels, Asano et al., "Self-labelling via
    simultaneous clustering and representation learning", ICLR 2020.
    """
    score = sharpness * p.double().clamp_min(1e-12).log()
    share = mass.double().log()
    column = torch.zeros_like(share)
    for _ in range(rounds):
        rows = score - (score + column).logsumexp(1, keepdim=True)
        unscaled = rows.logsumexp(0) - math.log(len(p))
        if bool(((unscaled + column).exp() - mass.double()).abs().max() < 1e-6):
            break
        column = share - unscaled
    return (score + column).softmax(1).to(p)
