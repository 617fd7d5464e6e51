"""What neighbours and clusters over a whole target set cost, as a share of an epoch.

One epoch of each method runs on made-up pictures with a small network under a profiler. Time in
the functions over the whole set (neighbours, clusters, prototypes, mixtures, centroids, labels) is
what they cost; it does not depend on the network. The rest of an epoch is the network, so the share
is printed twice: of this epoch, and of one with a pre-activation ResNet-18, whose time an image is
measured here and taken as often as images were counted.

    python benchmarks/set_level.py [--images 20000] [--classes 65] [--methods aad,nrc] [--json]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from overhead import BATCH, pictures

from dabench import registry
from dabench.contract.access import Budget, Recorder, SourceFree, Unlabelled
from dabench.contract.protocol import Run
from dabench.contract.seeding import seed_everything
from dabench.contract.types import Task
from dabench.engine.fit import fit
from dabench.networks.network import build_classifier

#: files of methods/functional whose functions work on the whole set
SET_LEVEL = (
    *("neighbours", "clusters", "prototypes", "mixture", "centroids", "feature_spaces"),
    *("joint_score", "class_covariance", "label_refinement", "label_graph", "feature_queue"),
)
METHODS = ("shot", "aad", "nrc", "cowa", "plue", "sfda2", "glc", "lead", "onering", "usd")
OPEN = frozenset({"glc", "lead", "onering", "usd"})


def is_set_level(file: str) -> bool:
    """Whether a function's file is one of them."""
    path = Path(file)
    return path.parent.name == "functional" and path.stem in SET_LEVEL


def set_level_seconds(profile: cProfile.Profile) -> float:
    """Return the time within such functions, each call counted where it was entered."""
    entries: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(
        cumulative
        for (file, _, _), (_, _, _, _, callers) in entries.items()
        if is_set_level(file)
        for (caller, _, _), (_, _, _, cumulative) in callers.items()
        if not is_set_level(caller)
    )


def seconds_an_image(backbone: str, classes: int, side: int) -> tuple[float, float]:
    """Return the seconds of one image's forward pass, and of its backward pass."""
    network = build_classifier(backbone, "none", classes)
    images = torch.rand(BATCH, side, side, 3).permute(0, 3, 1, 2)

    def timed(*, backward: bool) -> float:
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            loss = network(images).logsumexp(1).mean()
        if backward:
            torch.autograd.backward(loss)
        return (time.perf_counter() - start) / BATCH

    network.train()
    both = min(timed(backward=True) for _ in range(4))
    network.eval()
    forward = min(timed(backward=False) for _ in range(4))
    return forward, both - forward


def measure(name: str, images: int, classes: int, resnet: tuple[float, float]) -> dict[str, Any]:
    """Return one method's figures."""
    target = Unlabelled(pictures(images, classes), np.arange(images))
    seed_everything(0)
    method = registry.method(name)()
    names = tuple(str(i) for i in range(classes))
    task = Task("classification", names, 32, open_set=name in OPEN, flip=False)
    network = build_classifier("small-cnn", "none", classes)
    access = SourceFree(task, target, network, Budget(1, BATCH), 0, Recorder())
    profile = cProfile.Profile()
    start = time.perf_counter()
    profile.enable()
    method.begin(access)
    fit(method, target, network.cost, Run("source", access.budget, 0, "cpu", Recorder(), False))
    profile.disable()
    seconds = time.perf_counter() - start
    spent, cost = set_level_seconds(profile), network.cost
    large = spent + cost.forward * resnet[0] + cost.backward * resnet[1]
    return {
        "method": name,
        "set_level_seconds": spent,
        "epoch_seconds": seconds,
        "share": spent / seconds,
        "share_resnet18": spent / large,
    }


def main() -> None:
    """Print a line a method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=65)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    resnet = seconds_an_image("preactresnet18", args.classes, 32)
    for name in args.methods.split(","):
        found = measure(name, args.images, args.classes, resnet)
        if args.json:
            print(json.dumps(found), flush=True)
            continue
        print(
            f"{name:10} {found['set_level_seconds']:7.1f} s of {found['epoch_seconds']:7.1f} s an "
            f"epoch ({100 * found['share']:.0f} %); with ResNet-18 "
            f"{100 * found['share_resnet18']:.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
