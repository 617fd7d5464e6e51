"""Which networks of timm and torchvision can be a backbone, each at the size it was made for.

    python benchmarks/backbones.py [--minutes 15] [--most-parameters 100e6] [--every 1]

Each is built without weights as a run builds it, and zeros pass through it: first on PyTorch's
meta device, where nothing is computed, and for real where that fails. It runs, or it is refused in
one line, or it fails otherwise. Names are taken in strides, so that a run that is cut short is a
sample of all families.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections import Counter, defaultdict

import timm
import torch
import torchvision.models

from dabench.errors import ConfigError
from dabench.networks.network import build_classifier

#: strides in which names are taken
STRIDE = 40


def names() -> list[str]:
    """Return all names that ``--backbone`` takes, in strides through the sorted list."""
    every = {*timm.list_models(), *torchvision.models.list_models(module=torchvision.models)}
    found = sorted(every)
    return [name for first in range(STRIDE) for name in found[first::STRIDE]]


def outcome(name: str, most: float) -> str:
    """Return ``runs``, ``skipped``, ``refused: ...`` or ``failed: ...``."""
    parameters = 0
    try:
        with torch.device("meta"):
            network = build_classifier(name, "none", 4)
            parameters = sum(p.numel() for p in network.parameters())
        return "runs"
    except Exception:  # noqa: BLE001  the real device decides
        pass
    try:
        if parameters > most or size(name) > most:
            return "skipped"
        build_classifier(name, "none", 4)
    except ConfigError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001  what is looked for
        return f"failed: {type(error).__name__}: {str(error)[:150]}"
    return "runs"


def size(name: str) -> int:
    """Return the number of parameters, or 0 where the meta device does not tell."""
    try:
        with torch.device("meta"):
            make = timm.create_model if timm.is_model(name) else torchvision.models.get_model
            return sum(p.numel() for p in make(name).parameters())
    except Exception:  # noqa: BLE001
        return 0


def kind(text: str) -> str:
    """Return an outcome without the network's own words."""
    if text.startswith("refused"):
        for words in ("cannot be built", "does not take images", "gives", "no linear head"):
            if words in text:
                return f"refused: {words}"
    return re.sub(r"\d+", "N", text)[:100]


def main() -> None:
    """Try them, and print counts by kind, with the names of all that do not run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--most-parameters", type=float, default=100e6)
    parser.add_argument("--every", type=int, default=1, help="take every n-th name alone")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    end, found = time.monotonic() + 60 * given.minutes, {}
    chosen = names()[:: given.every]
    for name in chosen:
        if time.monotonic() > end:
            break
        found[name] = outcome(name, given.most_parameters)
        if found[name] != "runs":
            print(f"{name}: {found[name]}", flush=True)
    groups = defaultdict(list)
    for name, text in found.items():
        groups[kind(text)].append(name)
    print(f"\n{len(found)} of {len(chosen)} names tried")
    for what, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        families = Counter(re.split(r"[_\d.]", name)[0] for name in members)
        shown = ", ".join(f"{family} {count}" for family, count in families.most_common(8))
        print(f"{len(members):5} ({len(members) / len(found):.1%})  {what}  [{shown}]")


if __name__ == "__main__":
    main()
