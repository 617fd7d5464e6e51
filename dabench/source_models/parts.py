"""What a method trains on labelled source data before its stream: trained once, cached."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dabench import views
from dabench.contract.cost import Cost
from dabench.contract.floats import to_float
from dabench.contract.method import OnlineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import DensePlan, StreamPlan
from dabench.contract.seeding import seed, seeded
from dabench.errors import ConfigError, TrainingError
from dabench.source_models.artefacts import Artefact, load_or_make, load_whole
from dabench.source_models.classifier import Recipe, training_rows
from dabench.source_models.loading import state_hash
from dabench.source_models.segmenter import DenseRecipe, augmented_batches, shuffled_batches


@dataclass
class SourceParts:
    """Makes the source parts of a run's method; what ``Run.source_parts`` calls.

    Attributes:
        plan: the run's; its source images are what parts are trained on.
        network: the source model.
        source_id: its id.
        options: the method's options by name.
        cache: root of the caches.
        device: where training happens, and where the parts end up.
        version: of the method, as a run's id has it.
        source_data: digest of the source images where ``source_id`` does not say them, because the
            model was trained elsewhere; else empty.
        about: for the record; empty until parts were made.
        spent: seconds that making them took here.
    """

    plan: StreamPlan | DensePlan
    network: Network
    source_id: str
    options: Mapping[str, Any]
    cache: Path
    device: str
    version: str
    source_data: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    spent: float = 0.0

    def __call__(self, method: OnlineMethod) -> nn.Module:
        """Return a method's parts in eval mode, on the device.

        They depend on what the key holds and not on the run's seed: random numbers inside come
        from the source model's id, and outside nothing is drawn. ``method`` is left as it is: a
        copy of it trains.

        Raises:
            ConfigError: there are no source images.
            TrainingError: training went wrong, or changed the source model.
            CacheError: the cached file cannot be read, or the cache cannot be written.
        """
        start = time.perf_counter()
        if not len(self.plan.source.images):
            raise ConfigError(
                f"{type(method).__name__} trains parts of its own on labelled source images, and "
                "the data set has none; choose a method without the extra 'source-parts'"
            )
        source_id = self.source_id + self.source_data
        key = parts_key(method, source_id, self.options, self.plan, self.version)
        path = self.cache / "sources" / key / "parts.pt"
        twin = copy.deepcopy(method)
        network = copy.deepcopy(self.network).to(self.device).eval()
        network.cost = Cost(paused=True)
        network.precision = None  # parts are cached for every precision
        with seeded(self._seed("model")), torch.enable_grad():
            parts = twin.source_parts(network, self.plan.task).to(self.device)

            def use(saved: Artefact) -> float:
                load_whole(parts, saved["state_dict"])
                return float(saved["seconds"])

            what = f"source parts of {type(method).__name__}"
            make = partial(self._train, twin, parts, network)
            trained = load_or_make(what, path, key, make, use)
        self.about = {"key": key, "train_seconds": trained}
        self.spent += time.perf_counter() - start
        return parts.eval()

    def _seed(self, name: str) -> int:
        """Seed by the source model: variants of a method that train parts see the same batches."""
        return seed(int(self.source_id[:8], 16), "source-parts", name)

    def _train(self, method: OnlineMethod, parts: nn.Module, network: Network) -> Artefact:
        start = time.perf_counter()
        before = state_hash(network)
        batches = source_batches(self.plan, self._seed("batches"), self.device)
        method.train_source_parts(parts, network, batches)
        if state_hash(network) != before:
            raise TrainingError(
                f"{type(method).__name__}.train_source_parts changed the source model (its weights "
                "or BatchNorm statistics); train copies, and leave the network in eval mode"
            )
        state = {name: value.detach().cpu() for name, value in parts.state_dict().items()}
        return {"state_dict": state, "seconds": time.perf_counter() - start}


def parts_key(
    method: OnlineMethod,
    source_id: str,
    options: Mapping[str, Any],
    plan: StreamPlan | DensePlan,
    version: str,
) -> str:
    """Return the name of the folder in the cache: a hash of all that decides the parts.

    ``version`` is the method's as a run's id has it: with the digest of its code where that is no
    part of dabench.

    Raises:
        TrainingError: the method names a source option that it does not have.
    """
    absent = sorted(method.source_options - set(options))
    if absent:
        raise TrainingError(
            f"{type(method).__name__}.source_options names {', '.join(absent)}, which is none of "
            f"its options ({', '.join(sorted(options))})"
        )
    chosen = {name: options[name] for name in sorted(method.source_options)}
    about = [source_id, type(method).__name__, version, chosen, plan.task.classes]
    text = json.dumps(["parts-1", *about], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def source_batches(
    plan: StreamPlan | DensePlan, batches_seed: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return endless augmented batches of the images that the source model was trained on.

    (B, 3, H, W) in [0, 1], with (B,) int64 classes, or (B, H, W) uint8 masks in segmentation.
    """
    if isinstance(plan, DensePlan):
        size = DenseRecipe.batch_size
        return augmented_batches(plan.source, plan.task, size, batches_seed, device)
    return _classified(plan, batches_seed, device)


def _classified(
    plan: StreamPlan, batches_seed: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    data = plan.source
    train = training_rows(data, plan.source_val)
    for chosen in shuffled_batches(len(train), Recipe.batch_size, batches_seed):
        rows = train[chosen]
        images = views.weak(to_float(data.images[rows], device), flip=plan.task.flip)
        yield images, torch.from_numpy(data.labels[rows]).to(device)
