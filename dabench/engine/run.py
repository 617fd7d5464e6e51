"""One run from a spec to a record: the only place that brings the four parts together, by name."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

import dabench
from dabench import registry
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec, changed_options
from dabench.config.tuned import model_files
from dabench.contract.access import Budget
from dabench.contract.data import DataRequest
from dabench.contract.protocol import DensePlan, Plan, Resume, Run, StreamPlan
from dabench.engine.environment import (
    keep_freed_memory,
    package_versions,
    process_environment,
    resource_usage,
)
from dabench.engine.recording import BoardRecorder
from dabench.errors import ConfigError, DataError, NewerError, StoreError
from dabench.oracle.start import Start, open_start
from dabench.source_models.checking import check_networks
from dabench.source_models.kept_model import check_keeps, keeping, kept_model
from dabench.source_models.makers import open_makers
from dabench.source_models.recipes import FROZEN_TRUNK, check_probe, source_recipe
from dabench.source_models.statistics import statistics_key
from dabench.store.identity import run_digest, versions_of
from dabench.store.records import score_to_row
from dabench.store.store import Store

#: called to tell how far a run is: ("data", digest), then with all parts there ("run", run id), and
#: ("unusable", why) where there is a record of the run that no table would take
ProgressCallback = Callable[[str, str], None]


@dataclass(frozen=True)
class RunResult:
    """What ``execute`` gives back: the record as stored, and where it and the curves lie.

    ``model`` is the folder of the adapted model, where it was kept.
    """

    run_id: str
    path: Path
    record: dict[str, Any]
    existed: bool
    board_dir: Path
    model: Path | None = None


@dataclass(frozen=True)
class _Parts:
    """The four parts of a run, loaded and checked against each other, and its final spec."""

    spec: RunSpec
    protocol: Any
    method: Any
    plan: Plan | StreamPlan | DensePlan
    start: Start
    ids: dict[str, str]


def execute(
    spec: RunSpec, settings: Settings, progress: ProgressCallback = lambda stage, name: None
) -> RunResult:
    """Run a spec, or return its record where it was run before.

    Args:
        spec: what decides the numbers.
        settings: what does not.
        progress: see ``ProgressCallback``.

    Raises:
        DabenchError: bad input, refused access, a damaged cache, a failed training; a run that
            fails while it adapts leaves ``<run_id>.failed.json``.
    """
    store = Store(settings.results)
    store.check_writable()
    torch.set_num_threads(spec.threads)
    cv2.setNumThreads(spec.threads)
    keep_freed_memory()
    parts = _load(spec, settings, progress)
    try:
        progress("run", identity := run_id(parts))
        return _execute(settings, store, parts, identity, progress)
    finally:
        parts.start.close()


def _execute(
    settings: Settings, store: Store, parts: _Parts, identity: str, progress: ProgressCallback
) -> RunResult:
    spec, board = parts.spec, settings.results / "runs" / identity
    try:
        earlier = None if settings.force else store.finished(spec.protocol, spec.dataset, identity)
    except NewerError:
        raise
    except StoreError as error:  # what no table would take is no run
        progress("unusable", str(error))
        earlier = None
    model = kept_model(board)
    if earlier is not None and settings.save_model and model is None:
        progress("unusable", f"run {identity} was recorded without its model")
        earlier = None
    if earlier is not None:
        if settings.target_tuned and not earlier.get("target_tuned"):
            raise ConfigError(
                f"run {identity} has a record without the mark 'target-tuned'; give --force as "
                "well to run it again with the mark, or leave --target-tuned away"
            )
        path = store.path(spec.protocol, spec.dataset, identity)
        return RunResult(identity, path, earlier, True, board, model)
    record = _record(spec, parts, identity)
    record |= {"target_tuned": True} if settings.target_tuned else {}
    record |= spec.tuned.mark() if spec.tuned is not None else {}
    made = open_makers(
        spec, parts.plan, parts.start.source, parts.ids["source"], settings.cache_dir
    )
    start = time.perf_counter()
    with BoardRecorder(board) as recorder:
        budget = Budget(spec.epochs, spec.batch_size)
        resume = Resume(
            board / "checkpoint.pt", identity, settings.checkpoint_every, settings.resume
        )
        run = Run(
            *(_init(spec), budget, spec.seed, spec.device, recorder, settings.progress, resume),
            source_parts=made.parts,
            source_statistics=made.statistics,
            report=board / "report",
            reference=parts.start.reference,
            prefetch=settings.prefetch_on(spec.device),
        )
        build = partial(parts.method, **spec.method_options)
        try:
            outcome = parts.protocol.run(build, parts.plan, parts.start.handed, run)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                store.write_failed(record, traceback.format_exc())
            raise
        recorder.finish(outcome, parts.plan)
    record["extras"] = sorted({*record["extras"], *outcome.extras})
    seconds = time.perf_counter() - start - made.spent
    record["cost"] |= outcome.cost | resource_usage(seconds, spec.device)
    if about := made.about(spec):
        record["source_model"] |= about
    record["scores"] = [score_to_row(score) for score in outcome.scores]
    record["curves"] = [score_to_row(score) for score in outcome.curves]
    with keeping(board, spec, parts.plan, outcome.network, wanted=settings.save_model):
        path = store.write(record, outcome.arrays)
    resume.delete()
    return RunResult(identity, path, record, False, board, kept_model(board))


def _load(spec: RunSpec, settings: Settings, progress: ProgressCallback) -> _Parts:
    registry.restore(spec.plugins)
    method = registry.method(spec.method)
    registry.check_serves(spec.method, spec.protocol)
    registry.check_method_kind(spec.method, spec.protocol)
    if settings.save_model:
        check_keeps(spec, method)
    usual = source_recipe(spec, black_box=False)
    if probes := registry.METHODS[spec.method].frozen_trunk:
        check_probe(spec, usual)
    elsewhere = spec.protocol_options.get("oracle") == "http"
    files = check_networks(spec, None if elsewhere else usual)
    if spec.tuned is not None:
        spec.tuned.check_files(files | model_files(spec.plugins))
    spec, data, protocol, plan = load_plan(spec, settings, progress)
    if spec.tuned is not None:
        spec.tuned.check_shown(vars(spec))
    if getattr(protocol, "black_box", False):
        protocol.check(spec.init, plan, method)  # before hours of source training
    start = open_start(spec, settings, protocol, plan, probe=probes)
    ids = {"data": data.digest, "stream": plan.stream.digest, **files, **start.ids}
    if "source-statistics" in method.extras and isinstance(plan, StreamPlan):
        ids["statistics"] = statistics_key(ids["source"], plan)
    return _Parts(spec, protocol, method, plan, start, ids)


def load_plan(
    spec: RunSpec, settings: Settings, progress: ProgressCallback = lambda stage, name: None
) -> tuple[RunSpec, Any, Any, Any]:
    """Load a spec's data; return the spec with their names, data, protocol and its frozen plan.

    Raises:
        DabenchError: data that are missing or that the protocol cannot use; options that ask for
            more than there is.
    """
    request = DataRequest(
        spec.source, spec.target, spec.image_size, settings.data_root, settings.cache_dir
    )
    protocol = registry.protocol(spec.protocol)(**spec.protocol_options)
    load = registry.data_loader(spec.dataset)
    several = getattr(protocol, "several_sources", False)
    data = protocol.load(load, request) if several else load(request)
    # as the data set spells them: "Art" and "art" are one run
    spec = replace(spec, source=data.source, target=data.target)
    progress("data", data.digest)
    registry.check_data_kind(spec.protocol, spec.dataset, data.kind)
    reason = protocol.is_valid(data)
    if reason is not None:
        raise DataError(f"{spec.protocol} cannot use {spec.dataset}: {reason}")
    return spec, data, protocol, protocol.plan(data, spec.batch_size, spec.seed)


def _init(spec: RunSpec) -> Any:
    if spec.init not in {"source", "bn-target"}:
        raise ConfigError(f"--init {spec.init}: choose source or bn-target")
    return spec.init


def run_id(parts: _Parts) -> str:
    """SHA-256 of the full spec with versions, digests, device and threads (first 16 digits)."""
    return run_digest(parts.spec.to_dict(), versions_of(parts.spec), parts.ids)


def _record(spec: RunSpec, parts: _Parts, identity: str) -> dict[str, Any]:
    plugins = [plugin.to_dict() for plugin in spec.plugins]
    marks = [FROZEN_TRUNK] if "probe" in parts.ids else []
    marks += ["external"] if plugins or spec.module is not None else []
    return {
        "run_id": identity,
        "spec": spec.to_dict(),
        "variant": changed_options(spec),
        "ids": parts.ids,
        "versions": {
            "dabench": dabench.__version__,
            **versions_of(spec),
            **package_versions(),
        },
        "environment": process_environment(spec.device, spec.threads),
        "source_model": parts.start.about,
        "cost": {},
        "extras": sorted({*parts.method.extras, *marks}),
        **({"plugins": plugins} if plugins else {}),
        "reconstruction": bool(parts.method.reconstruction),
        "scores": [],
        "curves": [],
    }
