"""Splitting a target set in two by a one-dimensional statistic: a Gaussian mixture, or 2-means."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

FloatArray = npt.NDArray[np.float64]
#: initialisations of a mixture; iterations of EM from each, at most
STARTS, MOST_ITERATIONS = 4, 100
#: EM stops where the mean log-likelihood gains less
LEAST_GAIN = 1e-3
#: added to the variances
REG = 5e-4


@dataclass(frozen=True)
class Split:
    """A two-component mixture fitted to a statistic; low mean first.

    Attributes:
        posterior: (N,) probability of the low-mean component, non-increasing in the statistic;
            0.5 everywhere when degenerate.
        values: (N,) statistic after clipping and scaling to [0, 1]: what was fitted.
        weights: (2,) mixture weights, summing to one.
        means: (2,) means, in the scale of ``values``.
        variances: (2,) variances, in the scale of ``values``.
        degenerate: the fit does not separate anything; keep the previous split. Where no fit was
            possible at all, ``values``, ``weights``, ``means`` and ``variances`` are placeholders.
    """

    posterior: FloatArray
    values: FloatArray
    weights: FloatArray
    means: FloatArray
    variances: FloatArray
    degenerate: bool


def fit_two_component(
    statistic: npt.NDArray[np.floating[Any]],
    *,
    seed: int,
    min_weight: float = 0.05,
    min_gap: float = 0.05,
) -> Split:
    """Fit w_0 N(m_0, v_0) + w_1 N(m_1, v_1), m_0 <= m_1, and return the posterior of the low one.

    The statistic is clipped to its 1-99 % quantiles (a few outliers must not set the scale) and
    mapped to [0, 1] by its minimum and maximum.

    Args:
        statistic: (N,) finite numbers, small = clean or known.
        seed: of the starts, of which the likeliest fit wins.
        min_weight: the fit is degenerate when the smaller weight is below this.
        min_gap: ... or when the means are closer than this, in the scaled range.

    Returns:
        A :class:`Split`; degenerate also for fewer than 4 numbers, equal or non-finite ones.

    Raises:
        ValueError: ``statistic`` is not one-dimensional.

    Source: DivideMix (Li et al., 2020), Sec. 3.1, whose code has one start, ``max_iter=10``,
    ``tol=1e-2``, ``reg=5e-4`` and no clipping; clipping, starts, monotony and the guards are ours.
    """
    raw = np.asarray(statistic, dtype=np.float64)
    if raw.ndim != 1:
        raise ValueError(f"a one-dimensional statistic is needed, not one of shape {raw.shape}")
    values = _scale(raw)
    if values is None:
        return _no_fit(len(raw))
    mixture = GaussianMixture(
        2, random_state=seed, n_init=STARTS, max_iter=MOST_ITERATIONS, tol=LEAST_GAIN, reg_covar=REG
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit serves, too
        mixture.fit(values[:, None])
    order = np.argsort(mixture.means_[:, 0])
    weights = mixture.weights_[order]
    means = mixture.means_[order, 0]
    variances = mixture.covariances_[order, 0, 0]
    degenerate = bool(weights.min() < min_weight or means[1] - means[0] < min_gap)
    if degenerate:
        posterior = np.full(len(values), 0.5)
    else:
        posterior = monotone_posterior(values, weights, means, variances)
    return Split(posterior, values, weights, means, variances, degenerate)


def monotone_posterior(
    values: FloatArray, weights: FloatArray, means: FloatArray, variances: FloatArray
) -> FloatArray:
    """Return the posterior of the low-mean component, made non-increasing in ``values``.

    The log-odds of the two Gaussians are a parabola,
    g(x) = log(w_0 / w_1) + 1/2 log(v_1 / v_0) - (x - m_0)^2 / 2 v_0 + (x - m_1)^2 / 2 v_1,
    which falls all the way from m_0 to m_1. With unequal variances it turns outside the means, at
    x* = (m_0 v_1 - m_1 v_0) / (v_1 - v_0), and hands the tail beyond x* to the wider component:
    the *largest* values to a wide low one, the *smallest* to a wide high one. So values beyond x*
    get the posterior at x* (its extreme on that side) instead.

    Args:
        values: (N,) numbers.
        weights: (2,) mixture weights, low mean first.
        means: (2,) means, m_0 < m_1.
        variances: (2,) positive variances.

    Returns:
        (N,) probabilities.
    """
    (m_0, m_1), (v_0, v_1) = means, variances
    low, high = -math.inf, math.inf
    if v_0 < v_1:
        low = (m_0 * v_1 - m_1 * v_0) / (v_1 - v_0)
    elif v_0 > v_1:
        high = (m_0 * v_1 - m_1 * v_0) / (v_1 - v_0)
    order = np.argsort(values)
    x = values[order].clip(low, high)
    log_odds = np.log(weights[0] / weights[1]) + np.log(v_1 / v_0) / 2
    log_odds = log_odds - (x - m_0) ** 2 / (2 * v_0) + (x - m_1) ** 2 / (2 * v_1)
    posterior = np.empty_like(values)
    falling = np.minimum.accumulate(log_odds)  # only removes rounding
    posterior[order] = 0.5 * (1 + np.tanh(falling / 2))  # the logistic function, no overflow
    return posterior


def two_means_cut(values: npt.NDArray[np.floating[Any]], seed: int) -> float:
    """Return the 2-means threshold: the midpoint of the two centres.

    Args:
        values: (N,) finite numbers; those above the cut form the high cluster.
        seed: of the ten starts.

    Returns:
        The cut; +inf (nobody is in the high cluster) when all values are equal or N < 2.

    Raises:
        ValueError: a value is not finite.

    Source: SHOT's open-set rule, 2-means on entropy (``tim-learn/SHOT``, ``image_target_oda.py``).
    """
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(flat).all():
        raise ValueError("2-means needs finite values")
    if len(flat) < 2 or flat.min() == flat.max():
        return math.inf
    centres = KMeans(2, n_init=10, random_state=seed).fit(flat[:, None]).cluster_centers_
    return float(centres.mean())


def _scale(raw: FloatArray) -> FloatArray | None:
    """Return ``raw`` clipped to its 1-99 % quantiles and mapped to [0, 1]; None if impossible."""
    if len(raw) < 4 or not np.isfinite(raw).all():
        return None
    low, high = np.quantile(raw, [0.01, 0.99])
    span = high - low
    if not span > 1e-12 * max(1e-300, abs(low), abs(high)):
        return None
    scaled: FloatArray = (raw.clip(low, high) - low) / span
    return scaled


def _no_fit(count: int) -> Split:
    half, zero = np.full(2, 0.5), np.zeros(2)
    return Split(np.full(count, 0.5), np.zeros(count), half, zero, np.full(2, REG), True)
