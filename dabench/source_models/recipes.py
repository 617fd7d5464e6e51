"""Which source model a run's column has, and the linear probe that stands beside it."""

from __future__ import annotations

from dataclasses import replace

from dabench.config.spec import RunSpec
from dabench.errors import ConfigError
from dabench.source_models.classifier import Recipe


def source_recipe(spec: RunSpec, *, black_box: bool) -> Recipe:
    """Return how the source model is trained: a plain head where it only answers.

    A source of its own kind is trained as a whole: ``--freeze`` counts the target's stages.
    """
    own = spec.source_backbone is not None or spec.source_weights is not None
    own |= black_box and spec.source_model is not None  # somebody else's, whole
    usual = "none" if spec.source_backbone == "small-cnn" else spec.weights
    return Recipe(
        spec.source_backbone or spec.backbone,
        spec.source_weights or usual,
        spec.source_epochs,
        0 if own else spec.freeze,
        plain=black_box,
        devices=spec.devices or 1,
    )


def probe_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of a column's linear probe: the same, with the whole trunk frozen.

    Images, epochs, batches, rates and head are the source model's. Bottleneck and classifier have
    no activation between them, so that the trained part is affine in evaluation mode.

    Raises:
        ConfigError: the backbone starts from nothing.
    """
    if recipe.weights == "none":
        raise ConfigError(
            f"a linear probe keeps pretrained features, and the source model's {recipe.backbone} "
            "starts from nothing (weights none); give --weights pretrained or a file, and a "
            "--backbone that has such weights"
        )
    return replace(recipe, freeze="all")


def check_probe(spec: RunSpec, recipe: Recipe) -> None:
    """Refuse a linear probe of a source model that cannot have one.

    Raises:
        ConfigError: the backbone starts from nothing, or the model was trained elsewhere.
    """
    if spec.source_model is not None:
        raise ConfigError(
            f"--method {spec.method}: a linear probe is trained beside a source model that dabench "
            "trains; leave --source-model out"
        )
    if spec.protocol_options.get("oracle") == "http":
        raise ConfigError(
            f"--method {spec.method}: a served source model (--protocol.oracle http) was trained "
            "elsewhere, and its trunk cannot be kept from it; use --protocol.oracle sealed"
        )
    probe_recipe(recipe)
