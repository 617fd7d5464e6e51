"""One run from a spec to a record: adaptation under the protocol, and what is kept of it."""

from __future__ import annotations

import contextlib
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.contract.access import Budget
from dabench.contract.protocol import Resume, Run
from dabench.contract.seeding import torch_as_it_was
from dabench.engine.recording import BoardRecorder
from dabench.engine.setup.environment import keep_freed_memory, resource_usage
from dabench.engine.setup.parts import Parts, ProgressCallback, load_parts, new_record, run_id
from dabench.errors import ConfigError, NewerError, StoreError
from dabench.source_models.kept_model import keeping, kept_model
from dabench.source_models.makers import open_makers
from dabench.store.files import locked
from dabench.store.records import score_name, score_to_row
from dabench.store.store import Store


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
    parts = load_parts(spec, settings, progress)
    try:
        progress("run", identity := run_id(parts))
        found = _recorded(settings, store, parts.spec, identity, progress)
        if found is not None:
            return found

        def waits() -> None:
            progress("waits", f"run {identity} is being made by another process")

        with locked(_board(settings, identity), waits):
            # what the other process has made meanwhile is this run's record
            found = _recorded(settings, store, parts.spec, identity, lambda stage, name: None)
            return found or _execute(settings, store, parts, identity, progress)
    finally:
        parts.start.close()


def _board(settings: Settings, identity: str) -> Path:
    """Return the folder of what a run leaves beside its record."""
    return settings.results / "runs" / identity


def _recorded(
    settings: Settings, store: Store, spec: RunSpec, identity: str, progress: ProgressCallback
) -> RunResult | None:
    """Return a run that was made before, or None where it is to be made."""
    if settings.force:
        return None
    try:
        earlier = store.finished(spec.protocol, spec.dataset, identity)
    except NewerError:
        raise
    except StoreError as error:  # what no table would take is no run
        progress("unusable", str(error))
        return None
    if earlier is None:
        return None
    board = _board(settings, identity)
    model = kept_model(board)
    if settings.save_model and model is None:
        progress("unusable", f"run {identity} was recorded without its model")
        return None
    if settings.target_tuned and not earlier.get("target_tuned"):
        raise ConfigError(
            f"run {identity} has a record without the mark 'target-tuned'; give --force as "
            "well to run it again with the mark, or leave --target-tuned away"
        )
    path = store.path(spec.protocol, spec.dataset, identity)
    return RunResult(identity, path, earlier, True, board, model)


def _execute(
    settings: Settings, store: Store, parts: Parts, identity: str, progress: ProgressCallback
) -> RunResult:
    spec, board = parts.spec, _board(settings, identity)
    before = _scores(store, spec, identity)
    record = new_record(spec, parts, identity)
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
            with torch_as_it_was():
                outcome = parts.protocol.run(build, parts.plan, parts.start.handed, run)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                store.write_failed(record, traceback.format_exc())
            raise
        seconds = time.perf_counter() - start - made.spent
        record["extras"] = sorted({*record["extras"], *outcome.extras})
        record["cost"] |= outcome.cost | resource_usage(seconds, spec.device)
        if about := made.about(spec):
            record["source_model"] |= about
        record["scores"] = [score_to_row(score) for score in outcome.scores]
        record["curves"] = [score_to_row(score) for score in outcome.curves]
        with keeping(board, spec, parts.plan, outcome.network, wanted=settings.save_model):
            path = store.write(record, outcome.arrays)
        resume.delete()
        recorder.finish(outcome, parts.plan)  # what goes wrong in a picture costs no run
    now = _scores(store, spec, identity)
    if changed := next((key for key in before if before[key] != now.get(key)), None):
        progress(
            "differs",
            f"run {identity} came out otherwise than its earlier record, which lies in "
            f"{store.superseded}: {changed} was {before[changed]}, and is {now.get(changed)}; "
            "'dabench reproduce' shows whether it is the same a second time",
        )
    return RunResult(identity, path, record, False, board, kept_model(board))


def _scores(store: Store, spec: RunSpec, identity: str) -> dict[str, float | None]:
    """Return the scores of a run's record by key; {}: there is none that can be read."""
    with contextlib.suppress(StoreError):
        found = store.finished(spec.protocol, spec.dataset, identity) or {"scores": []}
        return {score_name(row): row["value"] for row in found["scores"]}
    return {}


def _init(spec: RunSpec) -> Any:
    if spec.init not in {"source", "bn-target"}:
        raise ConfigError(f"--init {spec.init}: choose source or bn-target")
    return spec.init
