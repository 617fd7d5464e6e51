"""``dabench.run``: a benchmark run from Python, as ``dabench run`` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.config.options import check_options
from dabench.config.settings import read_settings
from dabench.config.spec import IN_MEMORY, resolve
from dabench.engine.run import execute
from dabench.errors import ConfigError, shown
from dabench.registry.plugins import reference_of
from dabench.store.records import Record, score_map

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        run_id: of its record.
        scores: by name, such as ``HOS`` or ``accuracy/held-out``; None = not defined here.
        record: everything that is kept.
        path: of the record's file.
        existed: the run had a record and was not made again.
    """

    run_id: str
    scores: Mapping[str, float | None]
    record: Record
    path: Path
    existed: bool


def run(
    method: str | type[Any],
    *,
    protocol: str | type[Any] | None = None,
    dataset: str | type[Any] | None = None,
    source_model: str | nn.Module | None = None,
    seed: int = 0,
    method_options: Mapping[str, Any] | None = None,
    protocol_options: Mapping[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> Result:
    """Run a method under a protocol, or return the record that there is.

    Args:
        method: a name, ``file.py:Class``, ``package.module:Class``, or a class.
        protocol: likewise; None = the method's first.
        dataset: likewise; None = the protocol's own.
        source_model: a module of logits, or what ``--source-model`` takes.
        seed: of adaptation and source training.
        method_options: the method's hyper-parameters.
        protocol_options: options of the protocol.
        progress: show bars.
        options: those of the command line, with ``_`` for ``-``: ``epochs``, ``image_size``,
            ``source_epochs``, ``results``, ``cache_dir``, ``device``, ``force`` ...

    Raises:
        DabenchError: a name, an option, data or a training that is wrong; the message says what.
    """
    chosen = {"method": method, "protocol": protocol, "dataset": dataset}
    given: dict[str, Any] = {name.replace("_", "-"): value for name, value in options.items()}
    given |= {k: reference_of(v) for k, v in chosen.items() if v is not None}
    given |= {f"method.{k}": v for k, v in (method_options or {}).items()}
    given |= {f"protocol.{k}": v for k, v in (protocol_options or {}).items()}
    given |= {"seed": seed, "no-progress": not progress}
    module = None if source_model is None or isinstance(source_model, str) else source_model
    if source_model is not None:
        given["source-model"] = source_model if module is None else _called(module, given)
    given = {k: _as_option(v) for k, v in given.items()}
    check_options(given)
    spec, settings = replace(resolve(given)[0], module=module), read_settings(given)
    found = execute(spec, settings)
    return Result(found.run_id, score_map(found.record), found.record, found.path, found.existed)


def _as_option(value: Any) -> Any:
    """Return a value as the command line would have it."""
    if isinstance(value, list | tuple):  # mean and std of a source model
        return ",".join(map(str, value))
    return str(value) if isinstance(value, Path) else value


def _called(module: Any, given: Mapping[str, Any]) -> str:
    """Return what records call a model that is in memory."""
    from torch import nn

    if not isinstance(module, nn.Module):
        raise ConfigError(f"source_model {shown(module)}: expected an nn.Module or a name")
    if given.get("source-checkpoint") is not None:
        raise ConfigError(
            "source_checkpoint: the source model is there with its weights; load them into it"
        )
    return type(module).__name__ + IN_MEMORY
