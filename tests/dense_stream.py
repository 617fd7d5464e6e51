"""A tiny stream of frames with everything made up; as a script, a run that may be killed.

``python dense_stream.py FOLDER [--resume]`` runs slowly, and leaves ``FOLDER/result.json``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.contract.access import Budget, Online, Recorder, TargetBatch
from dabench.contract.cost import Cost
from dabench.contract.data import DenseData, Frames
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import DensePlan, Outcome, Resume, Run
from dabench.contract.types import IGNORE, Prediction
from dabench.protocols.online_seg import OnlineSegmentation

CLASSES = ("road", "tree", "sky")
HEIGHT, WIDTH, FRAMES = 24, 32, 9
BOTH = frozenset({"classification", "segmentation"})


def frames(seed: int, n: int = FRAMES) -> Frames:
    """Return frames of coloured blocks with noise; a class has a channel, a border is ignored."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 3, (n, HEIGHT // 8, WIDTH // 8))
    masks = blocks.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    images = rng.integers(0, 130, (n, HEIGHT, WIDTH, 3))
    images += 90 * np.eye(3, dtype=np.int64)[masks]
    masks[:, :2] = IGNORE
    return Frames(images.astype(np.uint8), masks, f"frames-{seed}")


def data(**changes: Any) -> DenseData:
    """Return made-up data."""
    parts = {"source_train": frames(0), "source_val": frames(1), "target_all": frames(2)}
    names: dict[str, Any] = {"dataset": "fake", "source": "a", "target": "b"}
    subsets = {"2": ("road", "sky")}
    given = names | {"classes": CLASSES, "image_size": HEIGHT, "width": WIDTH, "subsets": subsets}
    return DenseData(**(given | parts | changes))


class Net(nn.Module):
    """Stands for a segmentation network: one convolution, a head, upsampled logits."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.backbone = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.BatchNorm2d(3))
            self.classifier = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.backbone[0].weight.mul_(0.2)
            self.backbone[0].weight[:, :, 1, 1] += torch.eye(3)
            self.classifier.weight.copy_(4 * torch.eye(3)[..., None, None])
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.5))
        self.cost = Cost()

    def features(self, images: Tensor) -> Tensor:
        self.cost.count(len(images), backward=torch.is_grad_enabled())
        found: Tensor = self.backbone((images - self.mean) / self.std)
        return found

    def forward(self, images: Tensor) -> Tensor:
        small = self.classifier(self.features(images))
        return F.interpolate(small, images.shape[2:], mode="bilinear", align_corners=False)


class Still(OnlineMethod):
    """Answers as the source model does, and says that it could change."""

    kinds: ClassVar[Any] = BOTH

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.net = access.source_model.eval()

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        found: Tensor = self.net(batch.images)
        return found

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images))


class Learner(Still):
    """Minimises entropy by its head, with a momentum that a checkpoint must keep, and noise."""

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.register_buffer("speed", torch.zeros(3))
        self.net.requires_grad_(False)
        self.net.classifier.bias.requires_grad_(True)

    def step(self, batch: TargetBatch) -> Tensor:
        logits = self.net(batch.images)
        loss = torch.special.entr(logits.softmax(1)).sum(1).mean()
        (slope,) = torch.autograd.grad(loss, self.net.classifier.bias)
        self.speed = 0.9 * self.speed + slope + 0.02 * torch.randn(3)
        with torch.no_grad():
            self.net.classifier.bias -= 2.0 * self.speed
            return self.net(batch.images) if self.answers == "after" else logits.detach()

    def predict(self, images: Tensor) -> Prediction:
        torch.rand(3)  # whoever draws here must not move what is learned
        return super().predict(images)


class LateLearner(Learner):
    """Answers after its update."""

    answers: ClassVar[Any] = "after"


class Slow(Learner):
    """Gives a killer time."""

    def step(self, batch: TargetBatch) -> Tensor:
        time.sleep(0.05)
        return super().step(batch)


def run(
    build: Any,
    protocol: OnlineSegmentation | None = None,
    plan: DensePlan | None = None,
    *,
    seed: int = 0,
    **circumstances: Any,
) -> Outcome:
    """Run a method along the stream."""
    protocol = protocol or OnlineSegmentation()
    plan = plan or protocol.plan(data(), 64, seed)
    given = {"recorder": Recorder(), "progress": False} | circumstances
    return protocol.run(build, plan, Net(), Run("source", Budget(1, 1), seed, "cpu", **given))  # type: ignore[arg-type]


def values(outcome: Outcome) -> dict[str, float | None]:
    """Return scores by key."""
    found = {score.key: score.value for score in outcome.scores}
    assert len(found) == len(outcome.scores), "two scores under one key"
    return found


def main(folder: Path, resume: bool) -> None:
    """Run slowly, with a checkpoint every third step."""
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    cycle = OnlineSegmentation(schedule="cycle", rounds=2)
    where = Resume(folder / "checkpoint.pt", "a", 3, resume)
    found = run(Slow, cycle, resume=where, report=folder / "report")
    result = {
        "scores": [vars(score) for score in found.scores],
        "curves": [vars(score) for score in found.curves],
        "arrays": {name: array.tolist() for name, array in found.arrays.items()},
        "images": [found.cost["images_forward"], found.cost["images_backward"]],
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--resume" in sys.argv)
