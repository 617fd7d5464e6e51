"""What a run is made of, loaded and checked by name: data, protocol, method, start; and its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import dabench
from dabench import registry
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec, changed_options
from dabench.config.tuned import model_files
from dabench.contract.data import DataRequest
from dabench.contract.protocol import DensePlan, Plan, StreamPlan
from dabench.engine.setup.environment import package_versions, process_environment
from dabench.errors import DataError
from dabench.oracle.start import Start, open_start
from dabench.registry.marks import FROZEN_TRUNK
from dabench.source_models.checking import check_networks
from dabench.source_models.kept_model import check_keeps
from dabench.source_models.recipes import check_probe, source_recipe
from dabench.source_models.statistics import statistics_key
from dabench.store.identity import run_digest, versions_of

#: called to tell how far a run is: ("data", digest), then with all parts there ("run", run id); and
#: ("unusable", why) where there is a record of the run that no table would take, ("waits", why)
#: where another process makes this run, ("differs", how) where a forced run came out otherwise
ProgressCallback = Callable[[str, str], None]


@dataclass(frozen=True)
class Parts:
    """The four parts of a run, loaded and checked against each other, and its final spec."""

    spec: RunSpec
    protocol: Any
    method: Any
    plan: Plan | StreamPlan | DensePlan
    start: Start
    ids: dict[str, str]


def load_parts(spec: RunSpec, settings: Settings, progress: ProgressCallback) -> Parts:
    """Load what a spec names, and refuse what does not fit together.

    Raises:
        DabenchError: bad input, refused access, data or networks that cannot be used.
    """
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
    if isinstance(plan, StreamPlan):
        if "source-statistics" in method.extras:
            ids["statistics"] = statistics_key(ids["source"], plan)
        if "fisher-images" in method.extras and not len(plan.source.labels):
            ids["clear"] = plan.clear_source.digest  # no part of the data's digest
    return Parts(spec, protocol, method, plan, start, ids)


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


def run_id(parts: Parts) -> str:
    """SHA-256 of the full spec with versions, digests, device and threads (first 16 digits)."""
    return run_digest(parts.spec.to_dict(), versions_of(parts.spec), parts.ids)


def new_record(spec: RunSpec, parts: Parts, identity: str) -> dict[str, Any]:
    """Return the record of a run that has not been made yet: what it is, without a score."""
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
