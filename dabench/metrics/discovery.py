"""Whether features tell the private classes of a target apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dabench.contract.types import IntArray


def private_nmi(features: npt.NDArray[np.floating], classes: IntArray, seed: int) -> float | None:
    """Return the NMI of private images' classes with a k-means of their features, in [0, 1].

    Features have unit length; there are as many clusters as classes; the best of ten starts.

    Args:
        features: (N, D) of the private images.
        classes: (N,) their true classes.
        seed: of the starts.

    Returns:
        The mutual information over the mean of both entropies; None with fewer than two classes.

    Source: Chang et al., "Unified optimal transport framework for universal domain adaptation",
    2022, section 4 (the discovery part of the H3-score).
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    count = len(np.unique(classes))
    if count < 2:
        return None
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.maximum(length, 1e-12)).astype(np.float64)
    clusters = KMeans(count, n_init=10, random_state=seed).fit_predict(unit)
    return float(normalized_mutual_info_score(classes, clusters))


def h3_score(known: float | None, unknown: float | None, nmi: float | None) -> float | None:
    """Return the harmonic mean of OS*, UNK and NMI: 0 if one is 0, None if one is a hole.

    Source: Chang et al., 2022, section 4.
    """
    parts = (known, unknown, nmi)
    if any(part is None for part in parts):
        return None
    values = [part for part in parts if part is not None]
    return 3 / sum(1 / value for value in values) if min(values) > 0 else 0.0
