"""All promises of one method under the protocols that it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dabench.errors import explain
from dabench.testing.benches import Workbench
from dabench.testing.case import BrokenPromise, Case
from dabench.testing.promises import PROMISES


@dataclass(frozen=True)
class Verdict:
    """What became of one promise.

    Attributes:
        protocol: under which it was tried.
        promise: its title.
        kept: whether the method keeps it.
        why: if not, how it fails.
        seconds: that the check took.
    """

    protocol: str
    promise: str
    kept: bool
    why: str
    seconds: float


def check_method(
    build: Callable[[], Any], protocols: tuple[str, ...], workbench: Workbench
) -> Iterator[Verdict]:
    """Try every promise, and say of each what became of it.

    Args:
        build: a method's class, or what makes one with other options.
        protocols: names of registered protocols that it serves.
        workbench: makes data and source models.
    """
    for protocol in protocols:
        case = Case(workbench.bench(protocol), build)
        for title, (promise, streams_alone) in PROMISES.items():
            if streams_alone and not case.bench.online:
                continue
            if title.startswith("LayerNorm") and case.bench.unnormalised is None:
                continue
            start, why = time.perf_counter(), ""
            try:
                promise(case)
            except BrokenPromise as broken:
                why = str(broken)
            except Exception as error:  # noqa: BLE001 - the method's own failure is a verdict
                why = explain(error)[0]
            yield Verdict(protocol, title, not why, why, time.perf_counter() - start)
