"""Options that change no number: folders, and how a run behaves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dabench.config.options import merge
from dabench.errors import ConfigError, one_line


@dataclass(frozen=True)
class Settings:
    """Where things lie and how a run behaves; nothing here changes a number."""

    results: Path
    data_root: Path | None
    cache_dir: Path
    force: bool = False
    progress: bool = True
    debug: bool = False
    oracle_url: str | None = None
    oracle_token: str | None = None
    resume: bool = False
    checkpoint_every: int = 0
    target_tuned: bool = False
    save_model: bool = False
    #: None = as many as suit the device
    prefetch: int | None = None

    def prefetch_on(self, device: str) -> int:
        """Return how many batches of a stream are made ahead of the step.

        On a CPU none unless it is asked for: a process that makes them would take a core from
        the step, whose seconds are measured.
        """
        return self.prefetch if self.prefetch is not None else 2 * (device != "cpu")


def read_settings(args: Mapping[str, Any]) -> Settings:
    """Read folders and switches from the options, then from the environment.

    Raises:
        ConfigError: an option that does not fit, or a folder of a user that there is not.
    """
    given = merge(args)
    root = given.get("data-root") or os.environ.get("DABENCH_DATA")
    cache = given.get("cache-dir") or os.environ.get("DABENCH_CACHE") or "~/.cache/dabench"
    return Settings(
        results=_folder("results", given.get("results", "results")),
        data_root=_folder("data-root", root) if root else None,
        cache_dir=_folder("cache-dir", cache),
        force=bool(given.get("force", False)),
        progress=not given.get("no-progress", False),
        debug=bool(given.get("debug", False)),
        oracle_url=given.get("oracle-url") or os.environ.get("DABENCH_ORACLE_URL"),
        oracle_token=os.environ.get("DABENCH_ORACLE_TOKEN"),
        resume=bool(given.get("resume", False)),
        checkpoint_every=given.get("checkpoint-every", 50),
        target_tuned=bool(given.get("target-tuned", False)),
        save_model=bool(given.get("save-model", False)),
        prefetch=given.get("prefetch"),
    )


def _folder(option: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"--{option} {one_line(text, 300)}: there is no home folder of that name; write the "
            "whole path"
        ) from None
