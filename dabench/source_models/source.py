"""The source model of a run: one of somebody else, or one that dabench trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dabench.config.spec import RunSpec
from dabench.contract.network import Network
from dabench.networks import published
from dabench.networks.outputs import cut_down
from dabench.source_models.classifier import Recipe
from dabench.source_models.foreign import ForeignModel, checkpoint_digest
from dabench.source_models.loading import AnyPlan, SourceModel, load_or_train, state_hash
from dabench.source_models.model_files import check_order


def load_source(
    given: ForeignModel | None,
    recipe: Recipe,
    plan: AnyPlan,
    base_seed: int,
    cache: Path,
    device: str,
    progress: bool,
) -> SourceModel:
    """Return the source model of a run: one of somebody else, or else one that dabench trains.

    Args:
        given: names somebody else's; None = train one, or take the cached one.
        recipe: how one is trained; it and what follows as in ``loading.load_or_train``.
        plan: says classes and size of the images, too.
        base_seed: of the training.
        cache: folder of trained models.
        device: of the training.
        progress: show bars.

    Raises:
        ConfigError, CacheError: as :class:`ForeignModel`, ``check_order`` and ``load_or_train``.
    """
    if given is None:
        return load_or_train(recipe, plan, base_seed, cache, device, progress)
    task, outputs = plan.task, None
    if given.checkpoint is not None:
        check_order(given.checkpoint, task.classes)
    if task.kind == "segmentation":
        network, code = given.wrap_dense(task.num_classes, task.shape)
    else:
        network, code = given.wrap(None if task.model_classes else task.num_classes, task.shape)
        outputs = cut_down(network, task, given.named)
    network.cpu().freeze_trunk(recipe.freeze)  # a program's model may lie elsewhere
    return SourceModel(network, state_hash(network, code), None, 0.0, outputs)


def about_input(network: Network, given: RunSpec) -> dict[str, Any]:
    """Return, for a record, what a source model does to images, and how its authors prepared them.

    ``normalisation`` is applied in the network; ``prepared`` (``published.preparation``) is what is
    known of a model of somebody else, and is not applied.

    Args:
        network: the source model.
        given: names it.
    """
    values = {name: getattr(network, name).flatten().tolist() for name in ("mean", "std")}
    about = {"normalisation": {k: [round(x, 7) for x in v] for k, v in values.items()}}
    if given.source_model is None or any(plugin.kind == "model" for plugin in given.plugins):
        return about
    file = given.source_checkpoint
    digest = None if file is None else checkpoint_digest(file)
    prepared = published.preparation(given.source_model, digest)
    return about | ({"prepared": prepared} if prepared else {})
