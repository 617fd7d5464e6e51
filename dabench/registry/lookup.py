"""A name -> its entry or its class, and what fits what."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dabench.errors import ConfigError, did_you_mean
from dabench.registry.datasets import DATASETS
from dabench.registry.entries import Entry
from dabench.registry.methods import METHODS
from dabench.registry.plugins import LOADED
from dabench.registry.protocols import PROTOCOLS


def entry(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """Return the entry of ``name``.

    Raises:
        ConfigError: unknown name; suggests the nearest.
    """
    if name not in table:
        raise ConfigError(f"unknown {kind} '{name}'{did_you_mean(name, table)}")
    return table[name]


def primary_metric(protocol: str, dataset: str) -> str:
    """Return the metric that ranks a protocol's runs on a data set."""
    known = PROTOCOLS.get(protocol)
    found = known.primary_metric if known else "accuracy"
    over_images = found != "accuracy" or (known is not None and known.over_images)
    per_class = dataset in DATASETS and DATASETS[dataset].per_class
    return "mean_class_accuracy" if per_class and not over_images else found


def _load(found: Entry) -> type[Any]:
    module, _, attribute = found.target.partition(":")
    known = sys.modules.get(module)  # import_module asks the same, in ten times the time
    loaded: type[Any] = getattr(known or importlib.import_module(module), attribute)
    return loaded


def method(name: str) -> type[Any]:
    """Import and return a method's class (raises ConfigError for an unknown name)."""
    return _load(entry("method", METHODS, name))


def protocol(name: str) -> type[Any]:
    """Import and return a protocol's class (raises ConfigError for an unknown name)."""
    return _load(entry("protocol", PROTOCOLS, name))


def dataset(name: str) -> type[Any]:
    """Import and return a data set's class (raises ConfigError for an unknown name)."""
    return _load(entry("data set", DATASETS, name))


def data_loader(name: str) -> Callable[[Any], Any]:
    """Return what loads a data set's domains (raises ConfigError for an unknown name).

    The digests that code from outside gives may leave out what decides numbers, as labels: to
    those of its domains are added its code and its labels, which the caches of source models and
    the ids of runs thereby go by.
    """
    load: Callable[[Any], Any] = dataset(name)().load
    found = LOADED.get(("data set", name))
    return load if found is None else partial(_load_outside, load, found.sha256)


def _load_outside(load: Callable[[Any], Any], code: str, request: Any) -> Any:
    data = load(request)
    parts = {part: getattr(data, part) for part in ("source_train", "source_val", "target_all")}
    marked = {
        part: replace(own, digest=_with_labels(own, code))
        for part, own in parts.items()
        if own is not None
    }
    return replace(data, **marked)


def _with_labels(part: Any, code: str) -> str:
    whole = hashlib.sha256(f"{code}|{part.digest}|".encode())
    if hasattr(part, "labels"):  # masks of frames may be a memory map of gigabytes
        whole.update(part.labels.tobytes())
    return whole.hexdigest()


def called(cls: type[Any]) -> str:
    """Return the name under which a method, protocol or data set is entered, else its class's."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    tables: tuple[Mapping[str, Entry], ...] = (METHODS, PROTOCOLS, DATASETS)
    own = (name for table in tables for name, found in table.items() if found.target == place)
    return next(own, cls.__name__)


def kind_of(protocol_name: str) -> str:
    """Return the kind of task that a protocol poses."""
    return str(getattr(protocol(protocol_name), "kind", "classification"))


def check_serves(method_name: str, protocol_name: str) -> None:
    """Raise ``ConfigError`` where a method does not run under a protocol.

    A protocol from outside is served by every method that takes what it grants.
    """
    serves = METHODS[method_name].protocols
    if protocol_name in serves:
        return
    if ("protocol", protocol_name) in LOADED:
        given, taken = protocol(protocol_name).grant, method(method_name).grant
        if issubclass(given, taken):
            return
        names = [g.__name__ for g in (taken if isinstance(taken, tuple) else (taken,))]
        raise ConfigError(
            f"{method_name} does not run under {protocol_name}, which grants {given.__name__}; it "
            f"takes {' or '.join(names)}"
        )
    raise ConfigError(
        f"{method_name} does not run under {protocol_name}; it serves {', '.join(serves)}"
    )


def check_method_kind(method_name: str, protocol_name: str) -> None:
    """Raise ``ConfigError`` where a method does not serve the kind of task of a protocol."""
    kinds = getattr(method(method_name), "kinds", frozenset({"classification"}))
    kind = kind_of(protocol_name)
    if kind not in kinds:
        raise ConfigError(
            f"{protocol_name} is a protocol of {kind}, and method '{method_name}' serves "
            f"{' and '.join(sorted(kinds))} alone; 'dabench list' shows what serves what"
        )


def check_data_kind(protocol_name: str, dataset_name: str, kind: str) -> None:
    """Raise ``ConfigError`` where data of ``kind`` are not what a protocol needs."""
    wanted = kind_of(protocol_name)
    if kind == wanted:
        return
    fitting = [name for name, found in DATASETS.items() if found.kind == wanted]
    such = f" such as {' or '.join(fitting[:2])}" if fitting else ""
    raise ConfigError(
        f"{protocol_name} needs a {wanted} data set{such}; {dataset_name} is {kind}: choose "
        "another --dataset or --protocol"
    )
