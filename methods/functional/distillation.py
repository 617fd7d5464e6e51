"""Learning from a black box's answers: smoothed labels, mixup, and two networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dabench.methods.functional.losses import entropy, kl_divergence


def adaptive_smoothing(answers: Tensor, hard_mass: float | None = None) -> Tensor:
    """Keep the top-1 probability and spread the rest evenly over the other classes.

    q_c* = p_c* and q_c = (1 - p_c*) / (K - 1) otherwise.

    Args:
        answers: (N, K) distributions p, K >= 2.
        hard_mass: in place of p_c*, for answers that name a class and not how sure it is.

    Returns:
        (N, K) distributions q.

    Source: DINE (Liang et al., 2022), adaptive label smoothing with top-1; ``hard_mass`` is ours.
    """
    top, index = answers.max(dim=1, keepdim=True)
    if hard_mass is not None:
        top = torch.full_like(top, hard_mass)
    others = (1 - top) / (answers.shape[1] - 1)
    return others.expand_as(answers).scatter(1, index, top)


def mean_of_logits(found: Sequence[Tensor]) -> Tensor:
    """Return softmax(mean of logits) of networks whose (N, K) probabilities are given.

    It is their normalised geometric mean: logits are log-probabilities but for a constant a row.

    Source: BETA's code (xyupeng/BETA), which answers and refreshes its memory so.
    """
    tiny = torch.finfo(found[0].dtype).tiny
    return torch.stack(tuple(found)).clamp_min(tiny).log().mean(0).softmax(1)


def refresh_epochs(epochs: int) -> frozenset[int]:
    """Return the epochs before which stored labels are refreshed: after every tenth of a run.

    Source: DINE's and BETA's codes, which refresh ten times at equal distances.
    """
    return frozenset(round(i * epochs / 10) for i in range(1, 10)) - {0}


def distillation_epochs(epochs: int, fine_tune: float) -> int:
    """Return how many of the epochs come before fine-tuning: all but the share, at least one.

    Source: the stages of DINE and BETA, here inside one budget (ours).
    """
    return max(1, round((1 - fine_tune) * epochs))


def two_stage_factor(progress: float, first: float, power: float, restart: float) -> float:
    """Return the learning-rate factor of distillation followed by fine-tuning.

    (1 + 10 p)^-power over the first stage, p from 0 to 1; then (1 + 10 (restart + p))^-0.75 over
    the second, p from 0 to 1 again.

    Args:
        progress: share of the whole run that is done, in [0, 1].
        first: share of the run that is the first stage, above 0; 1 = there is no second.
        power: of the first stage's decay.
        restart: where the second stage's decay starts: 1 in DINE's code, 0 in BETA's.

    Source: DINE (``DINE_dist.py``, ``DINE_ft.py``) and BETA (``finetune.py``).
    """
    if progress < first or first >= 1:
        return float((1 + 10 * progress / first) ** -power)
    return float((1 + 10 * (restart + (progress - first) / (1 - first))) ** -0.75)


def mixup_weight(alpha: float) -> float:
    """Draw lambda ~ Beta(alpha, alpha), in [0, 1]; alpha is above 0.

    Source: Zhang et al., "mixup", 2018.
    """
    return float(mixup_weights(1, alpha))


def mixup_weights(count: int, alpha: float) -> Tensor:
    """Draw ``count`` independent lambda ~ Beta(alpha, alpha), (N,) in [0, 1], one a sample."""
    draws = torch._standard_gamma(torch.full((2, count), alpha)).clamp_min(1e-12)
    return draws[0] / draws.sum(0)


def mix(values: Tensor, order: Tensor, weight: float | Tensor) -> Tensor:
    """Return weight * values + (1 - weight) * values[order].

    Args:
        values: (N, ...) images or targets.
        order: (N,) int64 partners.
        weight: lambda, or (N,) lambdas.

    Source: Zhang et al., "mixup", 2018.
    """
    if isinstance(weight, Tensor):
        weight = weight.to(values).view(-1, *[1] * (values.ndim - 1))
    return weight * values + (1 - weight) * values[order]


def mixup_consistency(
    forward: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor, alpha: float
) -> Tensor:
    """Return mean KL(mixed predictions, no gradient || prediction on the mixed images).

    Args:
        forward: images -> (N, K) logits.
        images: (N, ...) that are mixed with a random partner and weight.
        logits: (N, K) of ``images``.
        alpha: of the weight's Beta distribution.

    Source: DINE (Liang et al., 2022), mixup term.
    """
    order = torch.randperm(len(images), device=images.device)
    weight = mixup_weight(alpha)
    target = mix(logits.detach().softmax(1), order, weight)
    return kl_divergence(target, forward(mix(images, order, weight))).mean()


def prior_penalty(p: Tensor) -> Tensor:
    """Return KL(uniform || mean p) of (N, K) probabilities: 0 when classes are used equally.

    Source: DivideMix (Li et al., 2020), regularisation term; also in BETA.
    """
    mean = p.mean(dim=0).clamp_min(1e-10)
    k = p.shape[1]
    return -(mean * k).log().sum() / k


def branch_quality(p: Tensor) -> float:
    """Return H(mean p) - mean H(p) of (N, K) probabilities: sure and diverse is good.

    The label-free rule that names the better of two branches.

    Source: mutual information of input and prediction (Bridle et al., 1991; SHOT's objective).
    """
    marginal = entropy(p.mean(dim=0, keepdim=True))
    return float(marginal.squeeze(0) - entropy(p).mean())
