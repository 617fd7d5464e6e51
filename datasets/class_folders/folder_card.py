"""What ``dabench data info`` says of a set in class folders beside its docstring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dabench.contract.data import ClassSplit
from dabench.datasets.class_folders.folder_spec import Spec

#: so many names of domains or classes are written out
_SHOWN = 60


def folder_facts(spec: Spec) -> list[str]:
    """Return folder, domains, classes in their order, splits, where to get it, and archives."""
    return [f"{name}: {text}" for name, text in _facts(spec)]


def _facts(spec: Spec) -> Iterator[tuple[str, str]]:
    if spec.folders:
        yield "folder", " or ".join(f"<data root>/{name}" for name in spec.folders)
    if spec.domains:
        counts = (spec.counts.get(name) for name in spec.domains)
        pairs = zip(spec.domains, counts, strict=True)
        yield "domains", _some([f"{name} ({n:,} images)" if n else name for name, n in pairs])
    if spec.classes:
        yield f"{len(spec.classes)} classes in this order", _some(spec.classes)
    for name, split in spec.splits.items():
        yield f"split {name}", _split(split)
    yield "where", spec.where.removeprefix("get it from ")
    for name, md5 in spec.archives.items():
        yield f"MD5 of {name}", md5
    yield "more", "docs/datasets.md (layout, licence, what was not checked)"


def _some(names: Iterable[str]) -> str:
    """Return names, the first ones of many."""
    names = list(names)
    more = f" ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return " ".join(names[: _SHOWN if not more else 5]) + more


def _split(split: ClassSplit) -> str:
    parts = {
        "known": split.known,
        "source's own": split.source_private,
        "unknown": split.unknown,
    }
    return "; ".join(f"{title} {_some(names)}" for title, names in parts.items() if names)
