"""What a method on a stream may receive beyond the grant: its extras, by name."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from dabench.contract.access import to_float
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import DensePlan, Run, StreamPlan
from dabench.errors import AccessError

#: clear images that EATA's Fisher matrix is estimated on (source-like, without labels)
FISHER_IMAGES = 2000
#: the same in segmentation, where all pixels of a frame count: spread over the source's drives
FISHER_FRAMES = 128


def granted_extras(method: OnlineMethod, plan: StreamPlan | DensePlan, run: Run) -> dict[str, Any]:
    """Return what a method declared beyond the grant, by name.

    Raises:
        AccessError: it asks for source-parts, and nothing trains them here.
    """
    extras: dict[str, Any] = {}
    if "fisher-images" in method.extras:
        size = len(plan.source.images)
        rows = np.arange(min(size, FISHER_IMAGES))
        if isinstance(plan, DensePlan):
            rows = np.linspace(0, size - 1, min(size, FISHER_FRAMES)).round().astype(np.int64)
        if not size:
            raise AccessError(
                f"{type(method).__name__} asks for fisher-images, clear images of the source, and "
                "this data set has none: its source is known by its models alone"
            )
        extras["fisher-images"] = to_float(plan.source.images[rows]).to(run.device)
    if "source-parts" in method.extras:
        if run.source_parts is None:
            raise AccessError(
                f"{type(method).__name__} asks for source-parts, and nothing trains them here; "
                "start it with 'dabench run'"
            )
        # a copy: every fresh method begins with the parts as they were trained
        parts = copy.deepcopy(run.source_parts(method))
        extras["source-parts"] = parts.to(run.device)
    return extras
