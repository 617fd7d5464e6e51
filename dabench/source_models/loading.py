"""Source models: trained once, cached by what they depend on, loaded with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from dabench.contract.network import Network
from dabench.contract.protocol import DensePlan, Plan, StreamPlan
from dabench.contract.seeding import seed, seed_everything
from dabench.contract.types import Task
from dabench.errors import DamageError
from dabench.networks.dense import build_segmenter
from dabench.networks.library import of_file
from dabench.networks.network import build_classifier
from dabench.networks.weight_files import NAMED, file_digest, weight_file
from dabench.source_models import segmenter
from dabench.source_models.artefacts import Artefact, load_or_make, load_whole
from dabench.source_models.classifier import (
    Recipe,
    fit_supervised,
    hold_out,
    supervised_accuracy,
    training_rows,
)
from dabench.source_models.segmenter import DenseRecipe
from dabench.source_models.several_devices import fit_on_devices

AnyPlan = Plan | StreamPlan | DensePlan


@dataclass(frozen=True)
class SourceModel:
    """A trained source model.

    Attributes:
        network: on the CPU, in eval mode.
        id: SHA-256 over key and weights.
        val_accuracy: accuracy on held-out source images; in segmentation their mean IoU; None where
            it was trained elsewhere.
        seconds: training time (0 when it came from the cache).
        outputs: how many of a foreign model's outputs are kept; None = all.
    """

    network: Network
    id: str
    val_accuracy: float | None
    seconds: float
    outputs: str | None = None


def load_or_train(
    recipe: Recipe, plan: AnyPlan, base_seed: int, cache: Path, device: str, progress: bool
) -> SourceModel:
    """Return the cached source model of (recipe, data, classes, seed), training it if needed.

    In segmentation ``segmenter`` trains it, by a recipe of its own with the backbone, weights,
    epochs and frozen stages of this one.

    A cached file that is damaged is named, set aside and made again.

    Raises:
        CacheError: the cached file cannot be read, or the cache cannot be written.
    """
    key = _key(recipe, plan, base_seed)
    path = cache / "sources" / key / "model.pt"

    def make() -> Artefact:
        if isinstance(plan, DensePlan):
            return _train_dense(recipe, plan, base_seed, device, progress)
        return _train(recipe, plan, base_seed, device, progress)

    return load_or_make(
        *("source model", path, key, make), lambda saved: _open(saved, recipe, plan, key)
    )


def _key(recipe: Recipe, plan: AnyPlan, base_seed: int) -> str:
    task, val = plan.task, plan.source_val.digest if plan.source_val else "-"
    if recipe.weights not in NAMED:  # what a file holds counts, and not where it lies
        recipe = replace(recipe, weights=file_digest(weight_file(recipe.weights)))
    own = asdict(recipe)
    if recipe.devices == 1:  # models that were trained before there was a choice keep their keys
        del own["devices"]
    parts = ["2", own, plan.source.digest, val, task.classes, task.flip, base_seed]
    if of_file(recipe.backbone).get("transform_input"):  # from nothing they were trained without
        parts.append("input transformed")
    if isinstance(plan, DensePlan):
        parts[:2] = ["dense-1", asdict(_dense(recipe))]
        parts.append(task.shape)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _dense(recipe: Recipe) -> DenseRecipe:
    return DenseRecipe(recipe.backbone, recipe.weights, recipe.epochs, recipe.freeze)


def _build(recipe: Recipe, task: Task, weights: str) -> Network:
    if task.kind == "segmentation":
        return build_segmenter(recipe.backbone, weights, task.num_classes)
    return build_classifier(
        recipe.backbone, weights, task.num_classes, plain=recipe.plain, side=task.image_size
    )


def _open(saved: Artefact, recipe: Recipe, plan: AnyPlan, key: str) -> SourceModel:
    net = _build(recipe, plan.task, "none")
    load_whole(net, saved["state_dict"])
    accuracy, seconds = float(saved["val_accuracy"]), float(saved["seconds"])
    if not (math.isfinite(accuracy) and math.isfinite(seconds)):
        raise DamageError(f"accuracy {accuracy} and {seconds} seconds")
    sha = state_hash(net, key)
    net.freeze_trunk(recipe.freeze)
    return SourceModel(net.eval(), sha, accuracy, seconds)


def state_hash(net: nn.Module, key: str = "") -> str:
    """Return the first 32 digits of the SHA-256 over a key and a module's state."""
    sha = hashlib.sha256(key.encode())
    for tensor in net.state_dict().values():
        sha.update(tensor.cpu().numpy().tobytes())
    return sha.hexdigest()[:32]


def _train(
    recipe: Recipe, plan: Plan | StreamPlan, base_seed: int, device: str, progress: bool
) -> Artefact:
    val, train = plan.source_val, training_rows(plan.source, plan.source_val)
    seed_everything(seed(base_seed, "source"))
    net = _build(recipe, plan.task, recipe.weights).to(device)
    net.freeze_trunk(recipe.freeze)
    start = time.perf_counter()
    if recipe.devices > 1:
        fit_on_devices(net, plan.source, train, recipe, plan.task, base_seed, progress)
    else:
        fit_supervised(
            net, plan.source, train, recipe, plan.task.flip, base_seed, progress, "source training"
        )
    accuracy = (
        supervised_accuracy(net, plan.source, hold_out(plan.source)[1])
        if val is None
        else supervised_accuracy(net, val, np.arange(len(val.labels)))
    )
    return _artefact(net, accuracy, time.perf_counter() - start)


def _train_dense(
    recipe: Recipe, plan: DensePlan, base_seed: int, device: str, progress: bool
) -> Artefact:
    seed_everything(seed(base_seed, "source"))
    start = time.perf_counter()
    net = segmenter.train(_dense(recipe), plan.task, plan.source, base_seed, device, progress)
    miou = segmenter.mean_iou(net, plan.source_val, plan.task)
    return _artefact(net, miou, time.perf_counter() - start)


def _artefact(net: Network, accuracy: float, seconds: float) -> Artefact:
    state = {k: v.detach().cpu() for k, v in net.state_dict().items()}
    return {"state_dict": state, "val_accuracy": accuracy, "seconds": seconds}
