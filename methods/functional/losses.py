"""Losses over soft labels, and information maximisation. Entropies are in nats.

Classes lie in dimension 1; further dimensions (the pixels of a dense answer) stay apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from dabench.methods.functional.memory import blend

EPS = 1e-10


def soft_cross_entropy(logits: Tensor, target_probs: Tensor) -> Tensor:
    """Return the per-sample cross-entropy -sum_c t_c log softmax(z)_c.

    Args:
        logits: (N, K, ...) z.
        target_probs: (N, K, ...) t, rows summing to one.

    Returns:
        (N, ...) losses.

    Source: Szegedy et al., "Rethinking the Inception architecture", 2016, Sec. 7.
    """
    return -(target_probs * logits.log_softmax(dim=1)).sum(dim=1)


def smooth_labels(onehot: Tensor, smoothing: float) -> Tensor:
    """Return (1 - s) y + s / K of (N, K, ...) labels y; s = 0.1 is the usual choice.

    Source: Szegedy et al., 2016, Sec. 7; SHOT's source training (Liang et al., 2020).
    """
    return (1 - smoothing) * onehot + smoothing / onehot.shape[1]


def entropy(p: Tensor, eps: float = EPS) -> Tensor:
    """Return the per-sample Shannon entropy -sum_c p_c log p_c, in [0, log K].

    Args:
        p: (N, K, ...) probabilities.
        eps: smallest argument of the logarithm, so that the gradient at 0 is finite.

    Returns:
        (N, ...) entropies.

    Source: Shannon, 1948; as a loss, Grandvalet and Bengio, 2005.
    """
    return -(p * p.clamp_min(eps).log()).sum(dim=1)


def opinion_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the opinion behind logits: COME's loss, in [0, log(K + 1)].

    With l' = l / ||l|| sg(||l||), so that the norm gets no gradient: beliefs exp(l'_k) / S and the
    uncertainty K / S, with S = sum_k exp(l'_k) + K, sum to 1. The entropy is -sum q log q over all
    K + 1 of them, each plus 1e-7. In logarithms, so that no exp overflows (in the authors' code it
    does, and K is 1,000 whatever the data).

    Args:
        logits: (N, K, ...).

    Returns:
        (N, ...) entropies.

    Source: COME (Zhang et al., ICLR 2025), authors' code.
    """
    norm = logits.detach().norm(dim=1, keepdim=True)
    least = torch.finfo(logits.dtype).tiny  # the usual 1e-12 is 0 in half precision
    scaled = torch.nn.functional.normalize(logits, dim=1, eps=least) * norm
    log_k = scaled.new_full((), math.log(logits.shape[1]))
    total = torch.logaddexp(scaled.logsumexp(dim=1, keepdim=True), log_k)
    q = torch.cat((scaled - total, log_k - total), dim=1).exp() + 1e-7
    return -(q * q.log()).sum(dim=1)


#: what methods of entropy minimisation make small
Uncertainty = Literal["entropy", "come"]
UNCERTAINTY: Mapping[Uncertainty, Callable[[Tensor], Tensor]] = {
    "entropy": lambda logits: entropy(logits.softmax(1)),
    "come": opinion_entropy,
}


def max_squares(p: Tensor) -> Tensor:
    """Return the per-sample maximum-squares loss -1/2 mean_c p_c^2, in [-1 / (2K), -1 / (2K^2)].

    Its gradient grows linearly with p, where that of the entropy is steepest for the sure ones.

    Args:
        p: (N, K, ...) probabilities.

    Returns:
        (N, ...) losses.

    Source: Chen et al., "Domain adaptation for semantic segmentation with maximum squares loss",
    ICCV 2019, Eq. 4; the mean over the classes is that of the authors' code.
    """
    return -0.5 * p.square().mean(dim=1)


def kl_divergence(target_probs: Tensor, logits: Tensor) -> Tensor:
    """Return the per-sample KL(t || softmax(z)) = CE(t, z) - H(t), which is at least 0.

    Args:
        target_probs: (N, K, ...) t, a teacher's answer, say; detach it to stop its gradient.
        logits: (N, K, ...) z of the student.

    Returns:
        (N, ...) divergences. Rounding may leave values of about -1e-7 in float32.

    Source: Hinton et al., "Distilling the knowledge in a neural network", 2015;
    DINE (Liang et al., 2022), distillation loss.
    """
    return soft_cross_entropy(logits, target_probs) - entropy(target_probs)


def information_maximisation(
    p: Tensor, weight: Tensor | None = None, entropy_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the two terms of L = mean_i H(p_i) - H(mean_i p_i).

    The first is small when every prediction is sure, the second large when the classes are used
    equally; the loss is ``first - second``. In an open set give probabilities over the K known
    classes only: over K + 1 the second term pulls the unknown node towards 1 / (K + 1).

    Args:
        p: (N, K) probabilities.
        weight: (N,) non-negative weights of both means; None = all equal.
        entropy_weight: (N,) weights of the first mean in place of ``weight``.

    Returns:
        Two scalars: the weighted mean entropy, and the entropy of the weighted mean prediction.
        Both are 0 when the weights are all 0.

    Source: SHOT (Liang et al., 2020); the weights are ours.
    """
    if weight is None:
        weight = torch.ones_like(p[:, 0])
    if entropy_weight is None:
        entropy_weight = weight
    mean_p = _weighted_mean(p, weight)
    return _weighted_mean(entropy(p), entropy_weight), entropy(mean_p[None]).squeeze(0)


def marginal_surprise(p: Tensor, average: Tensor) -> Tensor:
    """Return -sum_c m_c log a_c with m = mean_i p_i: large where m holds what is rare in a.

    Its gradient is that of information maximisation's second term H(m), taken at a in place of m
    (but for a constant, which the softmax swallows). A batch that is smaller than the number of
    classes cannot show all of them; an average over batches can.

    Args:
        p: (N, K) probabilities.
        average: (K,) marginal a, without gradient.

    Source: the fair balance of Bridle et al., 1991, over an averaged marginal (ours).
    """
    return -(p.mean(0) * average.detach().clamp_min(EPS).log()).sum()


class AveragedMarginal:
    """How much classes are used, averaged over batches, for :func:`marginal_surprise`.

    Args:
        memory: share of the past that is kept, in [0, 1); with 0 the term is H(mean_i p_i) of the
            batch, but for a constant in its gradient.
        start: (K,) average before the first batch; None = that batch's own.

    Attributes:
        average: (K,) so far; None before the first batch.
    """

    def __init__(self, memory: float, start: Tensor | None = None) -> None:
        self.memory, self.average = memory, start

    def moved(self, p: Tensor) -> Tensor:
        """Take in (N, K) probabilities, and return the average."""
        mean = p.detach().mean(0)
        self.average = blend(mean if self.average is None else self.average, mean, self.memory)
        return self.average

    def surprise(self, p: Tensor) -> Tensor:
        """Take in (N, K) probabilities, and return their surprise; the gradient passes p alone."""
        return marginal_surprise(p, self.moved(p))


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Return p_c^(1/T) / sum_k p_k^(1/T) of (N, K, ...) probabilities: T < 1 sharpens, T = 1 keeps.

    Computed through logarithms, so that a small T does not underflow.

    Raises:
        ValueError: the temperature is not positive.

    Source: MixMatch (Berthelot et al., 2019), Eq. 7.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    log_p = p.clamp_min(torch.finfo(p.dtype).tiny).log()
    return (log_p / temperature).softmax(dim=1)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum_i w_i v_i / sum_i w_i over dim 0, and 0 for weights that are all 0."""
    share = weight.to(values.dtype)
    share = share / share.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return (share.reshape(-1, *[1] * (values.ndim - 1)) * values).sum(dim=0)


def mean_over(values: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Return the weighted sum of (B,) values divided by how many images a mask has (0 if none)."""
    return (values * weight).sum() / mask.sum().clamp(min=1)


def generalised_cross_entropy(p: Tensor, labels: Tensor, q: float) -> Tensor:
    """Return the per-sample loss (1 - p_y^q) / q, in [0, 1 / q].

    Between cross-entropy (q towards 0) and mean absolute error (q = 1): the gradient of -log p_y
    times p_y^q.

    Args:
        p: (N, K) probabilities.
        labels: (N,) int64 y.
        q: in (0, 1].

    Source: Zhang and Sabuncu, NeurIPS 2018.
    """
    chosen = p.gather(1, labels[:, None]).squeeze(1)
    return (1 - chosen.clamp_min(EPS).pow(q)) / q
