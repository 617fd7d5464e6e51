"""What decides a run's id, and which column of the leaderboard it stands in (no torch)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.spec import OPTIONAL_FIELDS, RunSpec

#: fields of a spec that are a budget
BUDGET = ("image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze")
#: those that make a table's column
COLUMN_FIELDS = ("protocol", "dataset", "source", "target", *BUDGET, "protocol_options")
#: versions of the starts (``--init``) whose numbers have changed since they came
INIT_VERSIONS = {"bn-target": "2"}
#: fields that hold a path where the ids have the file's digest
FILES = ("weights", "source_weights", "source_checkpoint")
#: the ids that must be equal, for each seed, in a column
IDS = ("data", "stream", "source")
#: digits of a column's digest that are its task's
_TASK = 6
_SORTED = json.JSONEncoder(sort_keys=True)


def id_versions(method: str, protocol: str, init: str, dataset: str = "") -> dict[str, str]:
    """Return the versions that are part of a run's id, by what they are of.

    Of a data set from outside that is its code; one of dabench has its content's digest alone.
    """
    own = {"init": INIT_VERSIONS[init]} if init in INIT_VERSIONS else {}
    own |= {"dataset": dataset} if dataset else {}
    return {"method": method, "protocol": protocol} | own


def versions_of(spec: RunSpec) -> dict[str, str]:
    """Return the versions that are part of the id of a spec's run."""
    method, protocol, data = spec.method, spec.protocol, spec.dataset
    outside = registry.plugins_of(dataset=data)
    return id_versions(
        registry.version_of("method", method, registry.method(method)),
        registry.version_of("protocol", protocol, registry.protocol(protocol)),
        spec.init,
        registry.version_of("data set", data, registry.dataset(data)) if outside else "",
    )


def file_ids(ids: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digests of weight files by the field that holds their path."""
    return {name: ids[name] for name in FILES if name in ids}


def shown_spec(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's spec with weight files by name and digest, wherever they lay."""
    spec: dict[str, Any] = record["spec"]
    files = file_ids(record["ids"]).items()
    return spec | {name: f"{Path(str(spec[name])).name} ({own[:8]})" for name, own in files}


def column_of(record: Mapping[str, Any]) -> str:
    """Return the key of the column that a record stands in.

    A run that failed may have no ids: its weight files count by their paths.
    """
    return column_key(record["spec"], record.get("ids"))


def column_key(spec: Mapping[str, Any], ids: Mapping[str, Any] | None = None) -> str:
    """Return the key of a table's column: the protocol's side of a spec, without the seed.

    Another budget, another source model, and runs whose source model has a seed of its own are
    columns of their own, of the same task (``task_of``).

    Args:
        spec: of a run.
        ids: of the same run: a weight file counts by its digest there, wherever it lay. None =
            the run is still to be made, and files count by their paths.
    """
    spec = {**spec, **file_ids(ids or {})}
    part = {name: spec[name] for name in COLUMN_FIELDS}
    kept = [name for name in OPTIONAL_FIELDS if name != "source_seed"]
    part |= {name: spec[name] for name in kept if spec.get(name) is not None}
    place = [part.pop(name) for name in ("protocol", "dataset", "source", "target")]
    digest = _digest([*place, part.pop("protocol_options")])[:_TASK] + _digest(part)[:8]
    own = "" if spec.get("source_seed") is None else f"-s{spec['source_seed']}"
    protocol, dataset, source, target = place
    return f"{protocol}/{dataset}/{source}-{target}/{digest}{own}"


def _digest(value: Any) -> str:
    return hashlib.sha256(_SORTED.encode(value).encode()).hexdigest()


def task_of(column: str) -> str:
    """Return a column's task: the images and what is asked about them, under any budget.

    Columns that differ in it alone, or in the source model, show the same images: they are no more
    evidence than one.
    """
    place, _, digest = column.rpartition("/")
    return f"{place}/{digest[:_TASK]}"


def run_digest(spec: Mapping[str, Any], versions: Mapping[str, Any], ids: Mapping[str, Any]) -> str:
    """Return a run's id: the first 16 digits of the SHA-256 of everything that decides its numbers.

    Args:
        spec: the full spec.
        versions: those of ``method`` and ``protocol``, and of ``init`` and ``dataset`` where they
            have one; others are left out.
        ids: of data, stream and source model; and of weight files, whose paths do not count.
    """
    own = [name for name in ("init", "dataset") if name in versions]
    kept = {name: versions[name] for name in ("method", "protocol", *own)}
    text = _SORTED.encode([{**spec, **dict.fromkeys(file_ids(ids))}, kept, ids])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def known_before(spec: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    """Return all of a run id that is known before data and source model are there."""
    own = {name: versions.get(name) for name in ("method", "protocol", "init")}
    own |= {"dataset": versions["dataset"]} if "dataset" in versions else {}
    return json.dumps([dict(spec), own], sort_keys=True)


def job_key(spec: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    """Return 16 digits that stand for a run while its id is not known."""
    return hashlib.sha256(known_before(spec, versions).encode()).hexdigest()[:16]
