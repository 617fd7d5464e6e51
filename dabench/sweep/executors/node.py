"""One run on a node that shares no disk with the driver: all that it needs and makes travels."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.store.scratch import scratch_folder
from dabench.sweep.executors.worker import attempt

#: path below a folder -> content
Files = dict[str, bytes]
#: folders of a cache that are made once a node; source models come from the driver
_OF_NODE = ("images", "frames", "links", "digests", "arrays", "answers")


@dataclass(frozen=True)
class Made:
    """What a run leaves.

    Attributes:
        ended: fields of ``Ended``.
        results: files below the results folder.
        sources: new files below ``sources/`` of the cache.
    """

    ended: dict[str, Any]
    results: Files
    sources: Files


def run_on_node(
    function: str, spec: RunSpec, settings: Settings, sources: Mapping[str, bytes]
) -> Made:
    """Make a run in folders of its own, and return all of them.

    Args:
        function: ``module:name`` of what makes the run.
        spec: the run.
        settings: the cache folder is this node's.
        sources: the run's source model and what was made with it, where they have been made.
    """
    with scratch_folder("sweep") as scratch:
        results, cache = Path(scratch) / "results", Path(scratch) / "cache"
        results.mkdir()
        cache.mkdir()
        for name in _OF_NODE:
            kept = settings.cache_dir / name
            kept.mkdir(parents=True, exist_ok=True)
            (cache / name).symlink_to(kept)
        write_files(cache / "sources", sources)
        own = replace(settings, results=results, cache_dir=cache)
        ended = attempt(function, spec, own, lambda stage, identity: None)
        if ended.get("error"):
            ended["error"] += f" (on node {socket.gethostname()})"
        new = {k: v for k, v in read_files(cache / "sources").items() if k not in sources}
        return Made(ended, read_files(results), new)


def read_files(folder: Path) -> Files:
    """Return all files below a folder but hidden ones, such as locks."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a scratch folder; nobody waits for the disk."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
