"""What every registered method of segmentation owes on a stream of frames."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dabench import registry
from dabench.contract.access import Budget, Recorder
from dabench.contract.protocol import Outcome, Run
from dabench.networks.dense import build_segmenter
from dabench.protocols.offline.upper_bound import TargetSupervised
from dabench.protocols.online_seg import OnlineSegmentation

NAMES = [name for name, entry in registry.METHODS.items() if "online-seg" in entry.protocols]
BLIND = [name for name in NAMES if registry.method(name) is not TargetSupervised]
#: constructor arguments that keep a test short
SHORT: dict[str, dict[str, Any]] = {name: {"views": 3} for name in ("cotta", "memo")}


def run(dense: Any, name: str, plan: Any) -> Outcome:
    """Run a method along the stream, with source parts that are drawn and not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_segmenter("small-seg", "none", len(dense.CLASSES)).eval()

    def parts(method: Any) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            made: nn.Module = method.source_parts(network, plan.task)
        return made.eval()

    given = Run("source", Budget(1, 1), 0, "cpu", Recorder(), False, source_parts=parts)
    protocol = OnlineSegmentation(schedule="cycle")
    return protocol.run(lambda: registry.method(name)(**SHORT.get(name, {})), plan, network, given)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_not_granted_matters(dense: Any, name: str) -> None:
    """Other labels, source frames and later frames; only the upper bound sees the labels.

    What is kept are confusion matrices, so other labels are other names of the same classes: a
    method that sees none answers as before, and the matrices' rows change places.
    """
    plan = OnlineSegmentation(schedule="cycle").plan(dense.data(), 1, 0)
    *past, (under, rows) = plan.stream.segments
    later = (*past, (under, rows[::-1].copy()))
    size = len(dense.CLASSES)
    new_names = np.arange(256, dtype=np.uint8)
    new_names[:size] = np.roll(new_names[:size], 1)
    hidden = dataclasses.replace(
        plan,
        source=dense.frames(7),
        source_val=dense.frames(8),
        frames=dataclasses.replace(plan.frames, masks=new_names[plan.frames.masks]),
        stream=dataclasses.replace(plan.stream, segments=later),
    )
    one, two = (run(dense, name, each).arrays for each in (plan, hidden))
    n = sum(len(part) for _, part in past)
    assert (one["stream.row"][n:] != two["stream.row"][n:]).any()
    same = [
        np.array_equal(one[key][:n], two[key][:n][:, new_names[:size]])
        for key in ("stream.before", "stream.after", "stream.source")
    ]
    assert same[2]
    assert all(same) == (name in BLIND)
