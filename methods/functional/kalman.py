"""Kalman filtering of weights (CMF)."""

from __future__ import annotations


def kalman_gain(variance: float, decay: float, noise: float) -> tuple[float, float]:
    """Return the share b of the prediction that is kept, and the variance after the update.

    V <- decay^2 V + q;  b = (1 - q) / (V + 1 - q), at least .89, and 1 from .9999 on;  V <- b V.

    Args:
        variance: V, at least 0.
        decay: of the state towards the source.
        noise: q of the process; 1 - q is that of the measurement. More than 1 is taken as 1.

    Source: CMF (Lee and Chang, ICLR 2024), authors' code, bounds included.
    """
    q = min(noise, 1.0)
    predicted = decay**2 * variance + q
    b = max(0.89, (1 - q) / (predicted + 1 - q))
    if b >= 0.9999:
        b = 1.0
    return b, b * predicted
