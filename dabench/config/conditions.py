"""Whose labels a run reads to score, by name: what options were chosen on is not reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: options of protocols that name the shifts of a stream; how these are made; their other names
SHIFT_OPTIONS = ("shifts", "weather", "conditions")
_CLEAR = "clear"
_SPLIT = " split "
#: what stands between classes, and so in no name of a split
_WRITTEN = frozenset(",:")
_MADE = ("published-", "c-", "albu-")
_SAME = {"ucm-cc": "aid-cc", **dict.fromkeys(("aid-sf", "ucm-sf", "ucm-sf-corrected"), "snow")}


def conditions(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return whose labels a run reads to score: the shifts of a stream, or the task.

    A corruption has one name however it is made (``c-fog``, ``published-fog``, ``fog``), at every
    severity and on all images: whoever chose options under fog has seen what fog asks for.

    Args:
        spec: fields of a spec.
    """
    options = spec["protocol_options"]
    text = next((str(options[name]) for name in SHIFT_OPTIONS if name in options), None)
    if text is None:
        split = f"{_SPLIT}{options['split']}" if "split" in options else ""
        return frozenset({f"{spec['source']} to {spec['target']}{split}"})
    if options.get("frames") == "source-val":
        return frozenset({f"validation frames of {spec['source']}"})
    kinds = {kind for word in text.split(",") for kind in word.partition(":")[0].split("+")}
    bare = (k.partition("-")[2] if k.startswith(_MADE) else k for k in map(str.strip, kinds))
    found = {_SAME.get(kind, kind) for kind in bare}
    if _CLEAR in found:
        found |= {f"{_CLEAR} {domain.strip()}" for domain in str(spec["target"]).split(",")}
    return frozenset(found - {_CLEAR, ""})


def shared_conditions(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """Return what of ``one`` is in ``other``, in alphabetical order.

    A split of classes that is written out may be any split of its pair, and counts as each.
    """
    others = [(name, *_pair_and_split(name)) for name in other]

    def is_shared(name: str) -> bool:
        pair, split = _pair_and_split(name)
        return any(
            name == known or (pair == its and split and theirs and _WRITTEN & {*split, *theirs})
            for known, its, theirs in others
        )

    return sorted(name for name in {*one} if is_shared(name))


def _pair_and_split(name: str) -> tuple[str, str]:
    pair, _, split = name.partition(_SPLIT)
    return pair, split
