"""What a method on a stream may receive beyond the grant: its extras, by name."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from dabench.contract.data import Frames, Labelled
from dabench.contract.floats import to_float
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
        AccessError: it asks for something of the source's images where there are none, or for
            what nothing makes here.
    """
    extras: dict[str, Any] = {}
    if "fisher-images" in method.extras:
        source = _source(method, plan, "fisher-images, clear images of the source")
        size = len(source.images)
        rows = np.arange(min(size, FISHER_IMAGES))
        if isinstance(plan, DensePlan):
            rows = np.linspace(0, size - 1, min(size, FISHER_FRAMES)).round().astype(np.int64)
        extras["fisher-images"] = to_float(source.images[rows], run.device)
    if "source-statistics" in method.extras:
        _source(method, plan, "source-statistics, of clear images of the source")
        if run.source_statistics is None:
            raise _nobody_makes(method, "source-statistics")
        extras["source-statistics"] = run.source_statistics()
    if "source-parts" in method.extras:
        if run.source_parts is None:
            raise _nobody_makes(method, "source-parts")
        # a copy: every fresh method begins with the parts as they were trained
        parts = copy.deepcopy(run.source_parts(method))
        extras["source-parts"] = parts.to(run.device)
    return extras


def _source(method: OnlineMethod, plan: StreamPlan | DensePlan, what: str) -> Labelled | Frames:
    source = plan.source if isinstance(plan, DensePlan) else plan.clear_source
    if not len(source.images):
        raise AccessError(
            f"{type(method).__name__} asks for {what}, and this data set has none: its source is "
            "known by its models alone"
        )
    return source


def _nobody_makes(method: OnlineMethod, extra: str) -> AccessError:
    return AccessError(
        f"{type(method).__name__} asks for {extra}, and nothing makes them here; start it with "
        "'dabench run'"
    )
