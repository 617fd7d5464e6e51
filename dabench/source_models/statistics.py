"""Statistics of a source model's features, the extra ``source-statistics``: made once, cached."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dabench.contract.access import survey_size
from dabench.contract.cost import Cost
from dabench.contract.data import Labelled
from dabench.contract.floats import to_float
from dabench.contract.network import Network
from dabench.contract.protocol import StreamPlan
from dabench.contract.statistics import SourceStatistics
from dabench.source_models.artefacts import Artefact, load_or_make

#: clear images of the source that statistics are of, at most: the first in their order, which says
#: nothing about classes
STATISTICS_IMAGES = 10_000


class Moments:
    """Mean and variance of what is added batch by batch, in float64.

    Args:
        size: of the first axis: one row for each group.
    """

    def __init__(self, size: int) -> None:
        self.count = torch.zeros(size, dtype=torch.float64)
        self.mean: Tensor | None = None
        self.square: Tensor | None = None

    def add(self, values: Tensor, group: Tensor) -> None:
        """Add (B, D) values to their groups, (B,)."""
        values = values.detach().double().cpu()
        if self.mean is None or self.square is None:
            self.mean = values.new_zeros(len(self.count), values.shape[1])
            self.square = torch.zeros_like(self.mean)
        for k in torch.unique(group).tolist():
            own = values[group == k]
            # merged mean by mean (Chan et al. 1983): sums of squares would cancel
            done, more = self.count[k], len(own)
            gap = own.mean(0) - self.mean[k]
            self.square[k] += ((own - own.mean(0)) ** 2).sum(0) + gap**2 * done * more / (
                done + more
            )
            self.mean[k] += gap * more / (done + more)
            self.count[k] += more

    def found(self) -> tuple[Tensor, Tensor]:
        """Return means and variances, (groups, D) float32; zeros for a group without a value."""
        assert self.mean is not None
        assert self.square is not None
        return self.mean.float(), (self.square / self.count.clamp_min(1)[:, None]).float()


def compute_statistics(
    network: Network, source: Labelled, num_classes: int, device: str
) -> SourceStatistics:
    """Compute the statistics of a network on the first images of the source, on the CPU.

    The network is left as it is, and nothing is counted as its cost.

    Args:
        network: the source model.
        source: clear images with labels, one at least.
        num_classes: K.
        device: where the network runs.
    """
    twin = copy.deepcopy(network).to(device).eval()
    twin.cost = Cost(paused=True)
    twin.precision = None  # they are the source model's, and cached for every precision
    rows = np.arange(len(source.images))[:STATISTICS_IMAGES]
    labels = torch.from_numpy(source.labels[rows])
    whole, by_class = Moments(1), Moments(num_classes)
    tokens = ClassTokens(twin.backbone)
    blocks = [Moments(1) for _ in tokens.blocks]
    with torch.no_grad(), tokens:
        size = survey_size(source.images[rows[:1]].shape[1])
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            features = twin.features(to_float(source.images[rows[part]], device))
            all_one = torch.zeros(len(features), dtype=torch.int64)
            whole.add(features, all_one)
            by_class.add(features, labels[part])
            for moments, seen in zip(blocks, tokens.take(), strict=True):
                moments.add(seen, all_one)
    (mean, var), (class_mean, class_var) = whole.found(), by_class.found()
    found = SourceStatistics(mean[0], var[0], class_mean, class_var, by_class.count.float())
    if not blocks:
        return found
    means, variances = zip(*(moments.found() for moments in blocks), strict=True)
    return replace(found, cls_mean=torch.cat(means), cls_std=torch.cat(variances).sqrt())


class ClassTokens:
    """Notes the class token after every block of a transformer, while it is entered.

    Args:
        backbone: timm's (``cls_token``, ``blocks``) or torchvision's (``class_token``,
            ``encoder.layers``) vision transformer, or one that holds such; any other has no blocks.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.blocks: list[nn.Module] = []
        for module in backbone.modules():
            blocks = getattr(module, "blocks", None)
            if getattr(module, "class_token", None) is not None:
                blocks = getattr(getattr(module, "encoder", None), "layers", None)
            elif getattr(module, "cls_token", None) is None:
                continue
            if isinstance(blocks, nn.Sequential | nn.ModuleList):
                self.blocks = list(blocks)
                break
        self._seen: list[Tensor] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> None:
        self._hooks = [block.register_forward_hook(self._note) for block in self.blocks]

    def __exit__(self, *details: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, block: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen.append(output[:, 0])

    def take(self) -> list[Tensor]:
        """Return the (B, D) tokens of a pass, one for each block, and forget them."""
        seen, self._seen = self._seen, []
        return seen


@dataclass
class StatisticsMaker:
    """Makes the statistics of a run's source model; what ``Run.source_statistics`` calls.

    Attributes:
        plan: the run's; its source's clear images are what statistics are of.
        network: the source model.
        source_id: its id.
        cache: root of the caches.
        device: where the network runs.
        about: for the record; empty until they were made.
        spent: seconds that making or reading them took here.
    """

    plan: StreamPlan
    network: Network
    source_id: str
    cache: Path
    device: str
    about: dict[str, Any] = field(default_factory=dict)
    spent: float = 0.0
    _kept: SourceStatistics | None = None

    def __call__(self) -> SourceStatistics:
        """Return the statistics, a copy on the device.

        Raises:
            TrainingError: features that are not finite.
            CacheError: the cached file cannot be read, or the cache cannot be written.
        """
        if self._kept is None:
            start = time.perf_counter()
            key = statistics_key(self.source_id, self.plan)
            path = self.cache / "sources" / key / "statistics.pt"
            self._kept = load_or_make("source statistics", path, key, self._make, _use)
            images = min(STATISTICS_IMAGES, len(self.plan.clear_source.labels))
            self.about = {"key": key, "images": images}
            self.spent += time.perf_counter() - start
        return self._kept.to(self.device)

    def _make(self) -> Artefact:
        k = self.plan.task.num_classes
        found = compute_statistics(self.network, self.plan.clear_source, k, self.device)
        return {"state_dict": {n: v for n, v in vars(found).items() if v is not None}}


def _use(saved: Artefact) -> SourceStatistics:
    return SourceStatistics(**saved["state_dict"])


def statistics_key(source_id: str, plan: StreamPlan) -> str:
    """Return the name of the folder in the cache: a hash of all that decides the statistics."""
    about = [source_id, plan.clear_source.digest, plan.task.classes, STATISTICS_IMAGES]
    text = json.dumps(["statistics-1", *about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
