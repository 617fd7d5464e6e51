"""Scores of target predictions that need no label: what a run could be selected by.

All take (N, K) probabilities over the known classes and (N,) weights >= 0, which in an open set are
1 - (score of being unknown), so that images of no known class do not count. Weights of 0 and 1
leave samples out and in. In nats; a score that is not defined is None, a hole. They are computed
in double precision on the CPU, so that they do not depend on a device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dabench.contract.seeding import seed
from dabench.contract.types import Prediction, Score

#: soft neighbourhood density looks at no more samples than these (its cost grows with their square)
SND_SAMPLES = 2000
#: temperature of soft neighbourhood density
TEMPERATURE = 0.05
_ROWS = 500


def mean_entropy(p: Tensor, weight: Tensor) -> float | None:
    """Return sum_i w_i H(p_i) / sum_i w_i, in [0, log K]: lower = surer.

    Sureness alone is a diagnostic and no safe guide: it is lowest for a network that calls
    everything by one name.

    Source: Morerio et al., "Minimal-entropy correlation alignment for unsupervised deep domain
    adaptation", 2018, who select by it.
    """
    return _number(_mean(_entropy(p), weight))


def class_entropy(p: Tensor, weight: Tensor) -> float | None:
    """Return the mean over predicted classes of :func:`mean_entropy`, in [0, log K].

    Classes that no sample of positive weight is called are left out. Lower = surer, small classes
    counting as large ones.

    Source: SHOT++ (Liang et al., TPAMI 2021), the rule of its second stage on VisDA-C.
    """
    label, doubt = p.argmax(1), _entropy(p)
    found = [_mean(doubt[rows], weight[rows]) for rows in (label == c for c in torch.unique(label))]
    defined = [value for value in found if math.isfinite(float(value))]
    return _number(torch.stack(defined).mean()) if defined else None


def information_maximisation(p: Tensor, weight: Tensor) -> float | None:
    """Return H(mean_i p_i) - mean_i H(p_i), both means weighted, in [0, log K]: higher = better.

    The mutual information of sample and class: high where single answers are sure and all of them
    together use the classes evenly.

    Source: Krause et al., "Discriminative clustering by regularized information maximization",
    2010; as an objective of adaptation, SHOT (Liang et al., 2020). The weights are ours.
    """
    marginal = _entropy(_mean(p, weight)[None])[0]
    return _number(marginal - _mean(_entropy(p), weight))


def soft_neighbourhood_density(p: Tensor, weight: Tensor) -> float | None:
    """Return the mean entropy of each sample's soft neighbourhood, in [0, log(N - 1)].

    Higher = denser neighbourhoods = better. With f_i = p_i / |p_i|, the neighbourhood of i is
    P_ij proportional to w_j exp(f_i f_j / T) over j != i, and the score is
    sum_i w_i H(P_i) / sum_i w_i. A hole with fewer than two samples of positive weight.

    Source: Saito et al., "Tune it the right way: unsupervised validation of domain adaptation via
    soft neighborhood density", ICCV 2021, Sec. 3 (T = 0.05). Deviations: a sample is no part
    of its own neighbourhood at all (their code gives it the similarity -1), the entropy has no
    added constant, and the weights are ours.
    """
    kept = weight > 0
    features = torch.nn.functional.normalize(p[kept], dim=1)
    share = weight[kept]
    if len(features) < 2:
        return None
    entropies = torch.cat(
        [
            _neighbourhood_entropy(features, share.log(), start)
            for start in range(0, len(features), _ROWS)
        ]
    )
    return _number(_mean(entropies, share))


def scores(answers: list[Prediction]) -> tuple[Score, ...]:
    """Return ``im``, both entropies and ``snd`` of a part's answers in position order, ``at`` 0.

    The last looks at ``SND_SAMPLES`` positions at most, drawn from the number of samples alone:
    the same ones at every epoch, for every method and seed. Where a method has a score of being
    unknown (of any kind; it is cut to [0, 1]), samples are weighted by 1 - that score.
    """
    p = torch.cat([answer.logits.cpu().double().softmax(1) for answer in answers])
    weight = _weights(answers, len(p))
    drawn = _subsample(len(p))
    density = soft_neighbourhood_density(p[drawn], weight[drawn])
    return (
        Score("im", information_maximisation(p, weight), len(p)),
        Score("entropy", mean_entropy(p, weight), len(p)),
        Score("entropy-classes", class_entropy(p, weight), len(p)),
        Score("snd", density, len(drawn)),
    )


def _weights(answers: list[Prediction], count: int) -> Tensor:
    given = [answer.unknown_score for answer in answers if answer.unknown_score is not None]
    if not given:
        return torch.ones(count, dtype=torch.float64)
    return 1 - torch.cat(given).cpu().double().clamp(0, 1)


def _subsample(count: int) -> Tensor:
    if count <= SND_SAMPLES:
        return torch.arange(count)
    rng = np.random.default_rng(seed(0, "label-free", "snd"))
    return torch.from_numpy(np.sort(rng.permutation(count)[:SND_SAMPLES]))


def _neighbourhood_entropy(features: Tensor, log_weight: Tensor, start: int) -> Tensor:
    """Return the entropy log Z - sum_j P_j s_j of some rows' neighbourhoods."""
    rows = features[start : start + _ROWS]
    similarity = rows @ features.T / TEMPERATURE + log_weight
    similarity[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = -1e9
    neighbours = similarity.softmax(1)
    return (similarity.logsumexp(1) - (neighbours * similarity).sum(1)).clamp_min(0)


def _entropy(p: Tensor) -> Tensor:
    entropies: Tensor = torch.special.entr(p).sum(1)
    return entropies


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean over dim 0; NaN where all weights are 0."""
    share = weight / weight.sum()
    return (share.reshape(-1, *[1] * (values.ndim - 1)) * values).sum(0)


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
