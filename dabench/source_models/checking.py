"""Whether the networks that a run asks for can be built, before its data are touched."""

from __future__ import annotations

import torch

from dabench import registry
from dabench.config.spec import RunSpec
from dabench.errors import DataError
from dabench.networks.backbones import is_classification_backbone, unknown_backbone
from dabench.networks.dense import build_segmenter, check_segmenter
from dabench.networks.network import build_classifier
from dabench.networks.weight_files import NAMED, file_digest, weight_file
from dabench.source_models.classifier import NO_IMAGES, Recipe
from dabench.source_models.foreign import checkpoint_digest


def check_source_images(spec: RunSpec) -> None:
    """Refuse to train on a source that has no images, before weights are fetched for it.

    Raises:
        DataError: there are none, and no ``--source-model`` is named.
    """
    known = getattr(registry.dataset(spec.dataset), "known_by_models", None)
    if (
        known is not None
        and spec.source_model is None
        and spec.protocol_options.get("oracle") != "http"
        and str(spec.source).casefold() == known()
    ):
        raise DataError(NO_IMAGES)


def check_network_names(spec: RunSpec) -> None:
    """Refuse networks and weight files that there are not; builds nothing, fetches nothing.

    Raises:
        ConfigError: an unknown network, or a weight file that does not lie there.
        CacheError: a checkpoint that cannot be read.
        DataError: as :func:`check_source_images`.
    """
    check_source_images(spec)
    if spec.source_checkpoint is not None:
        checkpoint_digest(spec.source_checkpoint)
    black_box = getattr(registry.protocol(spec.protocol), "black_box", False)
    if spec.source_model is not None and not black_box:
        return
    for text in (spec.weights, spec.source_weights):
        if text is not None and text not in NAMED:
            weight_file(text)
    for name in filter(None, (spec.backbone, spec.source_backbone)):
        if registry.kind_of(spec.protocol) == "segmentation":
            check_segmenter(name)
        elif not is_classification_backbone(name):
            raise unknown_backbone(name)


def check_networks(spec: RunSpec, source: Recipe | None) -> dict[str, str]:
    """Build a run's networks once, and return the SHA-256 of its weight files by field.

    Args:
        spec: of the run.
        source: how its source model is trained; None where that answers from elsewhere.

    Raises:
        ConfigError: a name, a size, weights or a number of frozen stages that cannot be.
        CacheError: a weight file that cannot be read or does not fit.
        DataError: as :func:`check_source_images`.
    """
    check_source_images(spec)
    files: dict[str, str] = {}
    if spec.source_model is not None:
        if spec.source_checkpoint is not None:
            files["source_checkpoint"] = checkpoint_digest(spec.source_checkpoint)
        if not getattr(registry.protocol(spec.protocol), "black_box", False):
            return files
        source = None  # it only answers; the network that learns is the method's own
    wanted = {(spec.backbone, spec.weights, spec.freeze)}
    if source is not None:
        wanted.add((source.backbone, source.weights, source.freeze))
    with torch.random.fork_rng(devices=[]):
        for name, weights, freeze in sorted(wanted, key=str):
            if registry.kind_of(spec.protocol) == "segmentation":
                build_segmenter(name, weights, num_classes=2).freeze_trunk(freeze)
            else:
                network = build_classifier(name, weights, num_classes=2, side=spec.image_size)
                network.freeze_trunk(freeze)
    given = {"weights": spec.weights, "source_weights": spec.source_weights}
    return files | {
        field: file_digest(weight_file(text))
        for field, text in given.items()
        if text is not None and text not in NAMED
    }
