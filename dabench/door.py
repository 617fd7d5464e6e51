"""``dabench.run``: a benchmark run from Python, as ``dabench run`` makes it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.config.options import check_options
from dabench.config.settings import read_settings
from dabench.config.spec import IN_MEMORY, resolve
from dabench.config.switches import check_switches
from dabench.deploy.array_folder import write_domains
from dabench.engine.run import execute
from dabench.errors import ConfigError, shown
from dabench.registry.plugin_import import check_no_import
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
        model: folder of the adapted model, where it was kept (``save_model=True``).
    """

    run_id: str
    scores: Mapping[str, float | None]
    record: Record
    path: Path
    existed: bool
    model: Path | None = None


def run(
    method: str | type[Any],
    *,
    protocol: str | type[Any] | None = None,
    dataset: str | type[Any] | None = None,
    data: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
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
        data: in place of ``dataset``: name of a domain -> (images, labels), or a map-style dataset
            of (image, label) such as torchvision's. Images are (N, H, W, 3) uint8, (N, 3, H, W)
            floats in [0, 1], PIL images; labels are integers or names. They are written into the
            cache once; the run's id depends on what they hold. With two domains the first is the
            source, unless ``source`` and ``target`` say otherwise.
        classes: names of the classes in ``data``; None = the dataset's, or those that occur.
        source_model: an ``nn.Module`` from images to logits, or what ``--source-model`` takes.
        seed: of adaptation and source training.
        method_options: the method's hyper-parameters.
        protocol_options: options of the protocol.
        progress: show bars.
        options: those of the command line, with ``_`` for ``-``: ``epochs``, ``image_size``,
            ``source_epochs``, ``results``, ``cache_dir``, ``device``, ``force``, ``save_model`` ...

    Raises:
        DabenchError: a name, an option, data or a training that is wrong; the message says what.
    """
    check_no_import("dabench.run")
    if data is not None:
        dataset, options = "arrays", _stored(data, classes, dataset, options)
    elif classes is not None:
        raise ConfigError("classes= names those of data=, which is not given")
    chosen = {"method": method, "protocol": protocol, "dataset": dataset}
    given: dict[str, Any] = {name.replace("_", "-"): value for name, value in options.items()}
    given |= {k: reference_of(v) for k, v in chosen.items() if v is not None}
    given |= {f"method.{k}": v for k, v in (method_options or {}).items()}
    given |= {f"protocol.{k}": v for k, v in (protocol_options or {}).items()}
    given |= {"seed": seed, "no-progress": not progress}
    module = None if source_model is None or isinstance(source_model, str) else source_model
    if source_model is not None:
        given["source-model"] = source_model if module is None else _called(module, given)
    given = {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
    for name in ("source-mean", "source-std"):
        if isinstance(given.get(name), list | tuple):
            given[name] = ",".join(map(str, given[name]))
    check_options(given)
    spec = replace(resolve(given)[0], module=module)
    check_switches(given, [spec])
    for note in spec.tuned.notes if spec.tuned else ():
        warnings.warn(note, stacklevel=2)
    found = execute(spec, read_settings(given))
    scores = score_map(found.record)
    return Result(found.run_id, scores, found.record, found.path, found.existed, found.model)


def _stored(
    data: Mapping[str, Any],
    classes: Sequence[str] | None,
    dataset: Any,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a program's own data into the cache; return the options with what follows from them."""
    if dataset is not None or "data_root" in options:
        raise ConfigError("data= is a data set of its own; leave dataset= and data_root= away")
    cache = {"cache-dir": str(options["cache_dir"])} if "cache_dir" in options else {}
    settings = read_settings(cache)
    folder, size = write_domains(data, classes, options.get("image_size"), settings.cache_dir)
    names = list(data)
    usual = {"source": names[0], "target": names[-1], "image_size": size}
    return usual | dict(options) | {"data_root": folder}


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
