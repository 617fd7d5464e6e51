"""Methods, data sets and protocols of others: from a file, a module, or an installed package.

``path/to/file.py:Class`` and ``package.module:Class`` name a class outright; an installed package
gives it a short name by an entry point in ``dabench.methods``, ``dabench.datasets`` or
``dabench.protocols``. Nothing is imported before it is named.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dabench.errors import ConfigError, did_you_mean, one_line
from dabench.registry.announced import TABLES, Announced, usable
from dabench.registry.entries import DataEntry, Entry, MethodEntry, ProtocolEntry
from dabench.registry.plugin_import import (
    check_class,
    import_named,
    is_of_kind,
    module_of_file,
    source_digest,
)
from dabench.registry.protocols import DENSE, ONLINE

#: grant of a method's class -> protocols that it serves where the class does not say
_SERVES = {"SourceFree": ("sf-uda", "sf-osda"), "BlackBox": ("bb-uda",)}


@dataclass(frozen=True)
class Plugin:
    """Where a class that is not dabench's own came from.

    Attributes:
        kind: method, protocol or data set.
        name: as records and tables call it: ``file.py:Class``, ``package.module:Class``, or the
            name of its entry point.
        target: what imports it: ``module:Class``, or ``/path/file.py:Class`` where a file was
            named.
        distribution: the installed package with its version; empty for a file.
        sha256: of the source file; of a module in a package: of all Python files of the package.
    """

    kind: str
    name: str
    target: str
    distribution: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """Return a plain dict, ready for JSON."""
        return asdict(self)


#: plug-ins that this process has loaded, by kind and name
LOADED: dict[tuple[str, str], Plugin] = {}


def name_of(kind: str, reference: str) -> str:
    """Return the name under which the tables know what a user named, loading it if need be.

    Raises:
        ConfigError: it cannot be imported, or is not of that kind.
    """
    if reference in TABLES[kind]:
        file = reference.rpartition(":")[0]
        if not file.endswith(".py") or not Path(file).exists():  # it may have been edited
            return reference
    if ":" in reference or reference.endswith(".py"):
        return _load(kind, reference, None).name
    known = usable(kind)
    if reference in known:
        return _load(kind, known[reference].target, known[reference]).name
    raise ConfigError(
        f"unknown {kind} '{one_line(reference, 200)}'"
        f"{did_you_mean(reference, {*TABLES[kind], *known})}"
    )


def reference_of(named: Any) -> str:
    """Return what names a class: a text as it is, a class by its registered name or its module.

    Raises:
        ConfigError: a class that nobody can import again: from a notebook, or within a function.
    """
    if not isinstance(named, type):
        return str(named)
    place = f"{named.__module__}:{named.__qualname__}"
    own = [n for table in TABLES.values() for n, e in table.items() if e.target == place]
    if own:
        return own[0]
    file = getattr(sys.modules.get(named.__module__), "__file__", None)
    if "." in named.__qualname__ or file is None:
        name = one_line(named.__name__, 60)
        raise ConfigError(
            f"class {one_line(named.__qualname__, 100)} of {named.__module__} cannot be imported "
            "again, and a record says what was run: write it into a file with its imports, at top "
            f"level (in a notebook: '%%writefile mine.py' above it), and name 'mine.py:{name}'"
        )
    return f"{file}:{named.__qualname__}" if named.__module__ == "__main__" else place


def plugins_of(**names: str) -> tuple[Plugin, ...]:
    """Return the plug-ins among the named method, protocol and dataset."""
    keys = [("data set" if kind == "dataset" else kind, name) for kind, name in names.items()]
    return tuple(LOADED[key] for key in keys if key in LOADED)


def located(kind: str, reference: str) -> Plugin:
    """Return where something is that is not entered in a table (a function that builds a model).

    Raises:
        ConfigError: the file or module cannot be imported, or has no such function.
    """
    option, whole = f"--source-{kind} {one_line(reference, 300)}", reference.endswith(".py")
    module, target = _imported(f"{reference}:" if whole else reference, option)
    if not callable(getattr(module, target.rpartition(":")[2], None)):
        own = (
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        )
        wrong = (
            f"which function? write {reference}:FUNCTION" if whole else "there is no such function"
        )
        raise ConfigError(f"{option}: {wrong}; it has: {one_line(', '.join(own) or 'none', 200)}")
    owner = _owner(reference.rpartition(":")[0], None)
    return Plugin(kind, _short(reference), target, owner, source_digest(module, option))


def restore(wanted: Iterable[Plugin], *, exact: bool = True) -> None:
    """Load plug-ins again, in a process that has not.

    Raises:
        ConfigError: one cannot be imported or, with ``exact``, is not what it was.
    """
    for one in wanted:
        if one.kind not in TABLES:
            continue
        here = LOADED.get((one.kind, one.name))
        if here is not None and here.sha256 == one.sha256:
            continue
        point = None
        if one.name not in (one.target, _short(one.target)):
            point = Announced(one.kind, one.name, one.target, one.distribution)
        found = _load(one.kind, one.target, point)
        if exact and found.sha256 != one.sha256:
            raise ConfigError(
                f"{one.kind} {one.name}: its file is not what it was when the runs were planned; "
                "give the command again"
            )


def version_of(kind: str, name: str, cls: type[Any]) -> str:
    """Return a class's version; a plug-in's also has the digest of its source file.

    An edited file makes other runs, whether or not somebody raised its version.
    """
    own = str(getattr(cls, "version", "1"))
    found = LOADED.get((kind, name))
    return own if found is None else f"{own}+{found.sha256[:12]}"


def _short(target: str) -> str:
    place, _, attribute = target.rpartition(":")
    return f"{Path(place).name}:{attribute}" if place.endswith(".py") else target


def _imported(reference: str, option: str) -> tuple[ModuleType, str]:
    """Return the module of ``PLACE:name``, and the target that imports it again."""
    place, _, attribute = reference.rpartition(":")
    if not place.endswith(".py"):
        return import_named(place, option), reference
    path = Path(os.path.expanduser(place)).absolute()
    return module_of_file(path, option), f"{path}:{attribute}"


def _load(kind: str, reference: str, point: Announced | None) -> Plugin:
    """Import a class, enter it into its table and remember where it came from."""
    option = f"--{kind.replace(' ', '')} {one_line(reference, 300)}"
    place, colon, attribute = reference.rpartition(":")
    if not colon or reference.endswith(".py"):
        raise ConfigError(f"{option}: which class of it? write {one_line(reference, 300)}:CLASS")
    module, target = _imported(reference, option)
    cls = vars(module).get(attribute)
    if not inspect.isclass(cls):
        own = [n for n, v in vars(module).items() if inspect.isclass(v) and is_of_kind(kind, v)]
        raise ConfigError(f"{option}: there is no class {attribute}{did_you_mean(attribute, own)}")
    check_class(kind, cls, option)
    name = point.name if point else _short(target)
    plugin = Plugin(kind, name, target, _owner(place, point), source_digest(module, option))
    before = LOADED.get((kind, name))
    if before and before.target != target and before.sha256 != plugin.sha256:
        raise ConfigError(
            f"{option}: {before.target} was named before, and tables would call both {name}; "
            "rename one of the files"
        )
    TABLES[kind][name] = _entry(kind, cls, f"{module.__name__}:{attribute}")
    LOADED[kind, name] = plugin
    return plugin


def _owner(module: str, point: Announced | None) -> str:
    """Return the distribution that a module belongs to, with its version; a file has none."""
    import importlib.metadata

    if point is not None:
        return point.distribution
    if module.endswith(".py"):  # to ask about all packages takes a second
        return ""
    names = importlib.metadata.packages_distributions().get(module.split(".")[0], [])
    return f"{names[0]} {importlib.metadata.version(names[0])}" if names else ""


def _entry(kind: str, cls: type[Any], target: str) -> Entry:
    summary = one_line((inspect.getdoc(cls) or "").splitlines()[0], 100)
    if kind == "method":
        return MethodEntry(target, summary, _serves(cls))
    if kind == "data set":
        return DataEntry(
            target,
            summary,
            per_class=bool(getattr(cls, "per_class", False)),
            kind=str(getattr(cls, "kind", "classification")),
        )
    default = str(getattr(cls, "default_dataset", "digits"))
    return ProtocolEntry(target, summary, default, str(cls.primary))


def _serves(cls: type[Any]) -> tuple[str, ...]:
    """Return the protocols of a method: those it names, or all that grant what it takes."""
    named = tuple(getattr(cls, "protocols", ()))
    if named:
        return named
    grants = cls.grant if isinstance(cls.grant, tuple) else (cls.grant,)
    found: list[str] = []
    for grant in grants:
        found += _SERVES.get(grant.__name__, ())
        if grant.__name__ == "Online":
            dense = () if "segmentation" not in cls.kinds else DENSE
            found += [*(ONLINE if "classification" in cls.kinds else ()), *dense]
    return tuple(dict.fromkeys(found)) or ("sf-uda",)
