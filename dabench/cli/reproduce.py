"""``dabench reproduce``: a record's spec once more, and what is different this time."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.cli.output import EXIT_DIFFERENT, number, print_columns, say

if TYPE_CHECKING:
    from dabench.board.reproduce import Comparison
    from dabench.config.settings import Settings
    from dabench.config.spec import RunSpec
    from dabench.store.records import Record

_SHOWN = 20
#: what has a version that run ids hold; a start without one is of version 1
_VERSIONED = ("method", "protocol", "init", "dataset")


def reproduce(args: argparse.Namespace) -> int:
    """Run a record's spec again, in a folder that goes away; return 0 if all is identical, else 1.

    Args:
        args: what the parser of ``reproduce`` found.

    Raises:
        DabenchError: no such run, one that failed, one that was edited by hand, one that this
            version cannot run.
    """
    given = {key: value for key, value in vars(args).items() if key not in ("command", "run")}
    found, then = run_again(args.run, given)
    _report(found, then)
    return 0 if found.identical else EXIT_DIFFERENT


def run_again(run: str, given: Mapping[str, Any]) -> tuple[Comparison, Record]:
    """Run a record's spec again in a folder that goes away; return how the two differ.

    Args:
        run: a run id, its beginning, or a record's path.
        given: options of ``reproduce`` by name.

    Raises:
        DabenchError: as ``reproduce``.
    """
    from dabench.board.reproduce import compare, new_options, spec_of
    from dabench.config.settings import read_settings
    from dabench.store.reading import load_record
    from dabench.store.scratch import scratch_folder
    from dabench.store.store import Store

    settings = read_settings(given)
    path = Store(settings.results).locate(run)
    then = load_record(path)
    spec = _with_overrides(spec_of(then), given)
    say(f"run {then['run_id']}: {_about(spec)}")
    for option in new_options(then):
        say(f"note: {option} did not exist when the record was made")
    with scratch_folder("reproduce") as folder:
        # no checkpoints in a folder that goes away
        again = dataclasses.replace(settings, results=Path(folder), checkpoint_every=0)
        now_path = _again(spec, again)
        return compare(then, load_record(now_path), path, now_path), then


def _again(spec: RunSpec, settings: Settings) -> Path:
    from dabench.engine.run import execute

    path: Path = execute(spec, settings).path
    return path


def _with_overrides(spec: RunSpec, given: Mapping[str, Any]) -> RunSpec:
    """Return the spec with the device and threads of the command line, checked."""
    from dabench.config.hardware import resolve_device
    from dabench.config.options import merge

    wanted = merge({name: given.get(name) for name in ("device", "threads")})
    device = resolve_device(wanted.get("device", spec.device))
    return dataclasses.replace(spec, device=device, threads=wanted.get("threads", spec.threads))


def _about(spec: RunSpec) -> str:
    from dabench.sweep.plan import Job

    return Job(spec, "").name


def _report(found: Comparison, then: Mapping[str, Any]) -> None:
    """Print what differs, and in one sentence how it ends."""
    if found.scores:
        rows = [["score", "then", "now", "difference"]]
        for name, left, right in found.scores[:_SHOWN]:
            gap = None if left is None or right is None else right - left
            shown = "hole" if gap is None else f"{gap:+.3g}"
            rows.append([name, number(left), number(right), shown])
        print_columns(rows)
        if len(found.scores) > _SHOWN:
            say(f"... and {len(found.scores) - _SHOWN} more")
    parts = [f"{len(found.scores)} of {len(found.scores) + found.same} scores differ"]
    if found.scores:
        largest = found.largest
        parts.append(
            "one is a hole on one side" if largest is None else f"by {largest:.3g} at most"
        )
    if found.curves:
        parts.append(f"{len(found.curves)} points of curves differ")
    if found.arrays is not None:
        parts.append(f"predictions that differ: {', '.join(found.arrays) or 'none'}")
    if found.later:
        say(f"note: {len(found.later)} scores came after the record: {', '.join(found.later[:8])}")
    for cause in found.causes:
        say(f"differs: {cause}")
    if found.run_ids:
        say("run id: {} then, {} now".format(*found.run_ids))
    say("; ".join(parts))
    say(verdict(found, then))


def verdict(found: Comparison, then: Mapping[str, Any]) -> str:
    """Return in one sentence how the second run ended, and why where they differ."""
    if found.identical:
        what = "scores, curves and predictions" if found.arrays is not None else "scores and curves"
        return f"identical bit for bit: {what}"
    version = [change for change in found.versions if change[0] in _VERSIONED]
    if version:
        kind, old, new = version[0]
        name = then["spec"][kind]
        return (
            f"not identical, as expected: the record is of version {old or 1} of {name}, and "
            f"this is version {new}, whose results are others"
        )
    if found.run_ids and not (found.scores or found.curves or found.arrays):
        return f"another run with equal results; what differs: {'; '.join(found.causes)}"
    if found.causes:
        return f"not identical; the reason is among: {'; '.join(found.causes)}"
    return (
        "not identical, although threads, device, versions, code, data and source model are the "
        "same: this run is not deterministic, or the machine computes otherwise"
    )
