"""What a step of every online method costs, as a ratio to a source forward, in one process.

    OMP_NUM_THREADS=1 python benchmarks/online.py [--size 32] [--batch 64] [--repeats 15]

Each method takes turns with the source forward, and with the bare loop where there is one; one
thread; a figure is the median of CPU time (``process_time``). ``counted`` are the images that
passed forward and backward, over those of the batch. Methods for vision transformers are held
against the forward pass of one. The last lines say what the suite adds: methods driven by
``run_stream``, beside the same maths in plain torch (``bare_steps.py``).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torchvision.models
from bare_steps import BARE, Step
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Online, Recorder
from dabench.contract.cost import Cost
from dabench.contract.data import Labelled
from dabench.contract.network import Network
from dabench.contract.types import Task
from dabench.engine.setup.environment import keep_freed_memory
from dabench.engine.stream import StreamLog, run_stream
from dabench.networks.network import ClassifierNetwork, build_classifier
from dabench.source_models.statistics import compute_statistics

#: options that keep a step affordable, or its costly part in what is timed: of a network that was
#: never trained no answer is sure or new enough to be learned from
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"limit": 1.0, "margin": 1.0} for name in ("eata", "eta", "rdumb")},
    "sar": {"limit": 1.0, "reset_below": 0.0},
    "deyo": {"limit": 1.0, "drop": 0.0},
    "cotta": {"views": 4},
    "dua": {"views": 4},
    "adacontrast-online": {"warm_up": 64},
}
#: methods that serve vision transformers alone
TRANSFORMERS = ("rem",)
#: how many turns warm up, and fill what has to be full
WARM_UP = 3
CLASSES = tuple(str(i) for i in range(10))
STATISTICS = "source-statistics"


def stream_methods() -> list[str]:
    """Return the methods under streams of classification that start from the source model."""
    return [
        name
        for name, entry in registry.METHODS.items()
        if "online-tta" in entry.protocols
        and registry.method(name).grant is Online
        and not entry.frozen_trunk
    ]


def resnet18_cifar() -> Network:
    """Return a ResNet-18 for small images: a first convolution of 3 x 3, and no pooling after."""
    trunk: Any = torchvision.models.resnet18(weights=None)
    trunk.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    trunk.maxpool, trunk.fc = nn.Identity(), nn.Identity()
    return ClassifierNetwork(trunk, 512, len(CLASSES), bottleneck=0, weight_norm=False)


def vit_tiny(size: int) -> Network:
    """Return a ViT-Tiny of 8 x 8 patches."""
    vit = VisionTransformer(
        img_size=size, patch_size=size // 8, embed_dim=192, depth=12, num_heads=3, num_classes=0
    )
    return ClassifierNetwork(vit, 192, len(CLASSES), bottleneck=0, weight_norm=False)


@torch.no_grad()
def spread(net: Network, images: Tensor) -> Network:
    """Let an untrained network's answers spread over the classes, as those of a trained one do.

    Memories and buffers share their places by class: of one class alone they stay nearly empty, and
    a step is cheaper than on any stream. BatchNorm gets the images' statistics; a class is
    whatever lies near one of the first K images in feature space.
    """
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
    net.train()
    net.features(images)
    features = net.eval().features(images)
    middle = features.mean(0)
    own = nn.functional.normalize(features[: len(CLASSES)] - middle)
    net.classifier.weight.copy_(4 * own / (features - middle).norm(dim=1).mean())
    net.classifier.bias.copy_(-net.classifier.weight @ middle)
    return net


def extra(name: str, net: Network, size: int) -> Any:
    """Return what a protocol grants beyond the source model; made up, as the network is."""
    if name == STATISTICS:
        pictures = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
        source = Labelled(pictures, np.arange(64) % len(CLASSES), "made up")
        return compute_statistics(net, source, len(CLASSES), "cpu")
    return torch.rand(64, 3, size, size)


def driven(name: str, net: Network, size: int, batch: int) -> tuple[Step, Any]:
    """Return one step of a method under ``run_stream``, and the method."""
    method = registry.method(name)(**OPTIONS.get(name, {}))
    extras = {x: extra(x, net, size) for x in method.extras}
    task = Task("classification", CLASSES, size)
    method.begin(Online(task, net, batch, 0, Recorder(), extras))
    waiting: list[Tensor] = []

    def feed() -> Iterator[Tensor]:
        while True:
            yield waiting.pop()

    stream_log = StreamLog()
    steps = run_stream(method, feed(), stream_log, 0)

    def step(images: Tensor) -> Tensor:
        waiting.append(images)
        _, logits = next(steps)
        stream_log.add(logits)
        return logits

    return step, method


def counting(net: Network) -> Network:
    """Return a copy that counts its own passes alone."""
    twin = copy.deepcopy(net)
    twin.cost = Cost()
    return twin


def times(rows: dict[str, Step], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds of every row, which take turns."""
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + WARM_UP):
        for name, step in rows.items():
            start = time.process_time()
            step(images)
            if turn >= WARM_UP:
                spent[name].append(time.process_time() - start)
    return spent


def measure(name: str, source: Network, images: Tensor, given: argparse.Namespace) -> float | None:
    """Print the rows of a method; return its loop's time over the bare one's, if there is one."""

    @torch.no_grad()
    def forward(x: Tensor) -> Tensor:
        out: Tensor = source(x)
        return out

    images = images[: given.batch]
    step, method = driven(name, counting(source), given.size, given.batch)
    rows = {"source forward": forward, name: step}
    if name in BARE:
        rows[f"bare {name}"] = BARE[name](counting(source))
    cost, passed = method.access.cost, given.batch * (given.repeats + WARM_UP)
    forward_before, backward_before = cost.forward, cost.backward
    spent = times(rows, images, given.repeats)
    counted = f"{(cost.forward - forward_before) / passed:.2f} / "
    counted += f"{(cost.backward - backward_before) / passed:.2f}"
    base = statistics.median(spent["source forward"])
    options = " ".join(f"{k}={v}" for k, v in OPTIONS.get(name, {}).items())
    for row in list(rows)[1:]:
        value = statistics.median(spent[row])
        own = (f" {options}".rstrip(), counted) if row == name else ("", "")
        print(f"| {row}{own[0]} | {value * 1e3:.0f} | {value / base:.2f} | {own[1]} |", flush=True)
    if name not in BARE:
        return None
    ratios = [a / b for a, b in zip(spent[name], spent[f"bare {name}"], strict=True)]
    return statistics.median(ratios)


def main() -> None:
    """Print the table.

    Raises:
        SystemExit: a method failed; the figures of the others are printed all the same.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--backbone", help="default: a ResNet-18 for small images")
    parser.add_argument("--methods", help="some of them, by commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    if given.backbone:
        usual: Network = build_classifier(given.backbone, "none", len(CLASSES), plain=True)
    else:
        usual = resnet18_cifar()
    images = torch.rand(max(given.batch, len(CLASSES)), 3, given.size, given.size)
    pairs: dict[str, float] = {}
    failed: list[str] = []
    print(f"{given.backbone or 'ResNet-18'}, {given.batch} images of {given.size} px, one thread\n")
    print("| | ms a batch | ÷ source forward | counted |\n| --- | --- | --- | --- |")
    for name in given.methods.split(",") if given.methods else stream_methods():
        source = spread(vit_tiny(given.size) if name in TRANSFORMERS else usual, images)
        try:
            ratio = measure(name, source, images, given)
        except Exception:  # noqa: BLE001  whatever one method does, the others have figures
            traceback.print_exc()
            print(f"| {name} | failed | | |", flush=True)
            failed.append(name)
            continue
        if ratio is not None:
            pairs[name] = ratio
    for name, ratio in pairs.items():
        print(f"\n`{name}` under `run_stream` ÷ bare loop, median of pairs: {ratio:.3f}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
