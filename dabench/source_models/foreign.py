"""A source model that somebody else trained: built by a function or by name, loaded from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dabench.config.spec import RunSpec
from dabench.contract.access import to_float
from dabench.errors import CacheError, ConfigError, DabenchError, one_line, reason_of
from dabench.networks.foreign import wrap_classifier
from dabench.networks.library import make
from dabench.networks.weight_files import load_checkpoint
from dabench.registry.plugin_import import import_named, module_of_file
from dabench.source_models.loading import SourceModel, state_hash

#: what torchvision and timm train with
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_OPTION = "--source-checkpoint"


def load_foreign(spec: RunSpec, plan: Any) -> SourceModel:
    """Return the model that ``--source-model`` names, with its trunk and classifier told apart.

    Args:
        spec: of the run; its ``source_model`` is given.
        plan: says the classes, and has a few target images to try the model on.

    Raises:
        ConfigError: no such function or name, a model without a fitting classifier, or one that
            does not take the images.
        CacheError: a checkpoint that cannot be read or does not fit.
    """
    task = plan.task
    if task.kind == "segmentation":
        raise ConfigError(
            "--source-model: models of segmentation are not taken yet; leave it out, and dabench "
            "trains one"
        )
    model, usual, code = _build(spec, task.num_classes)
    if spec.source_checkpoint is not None:
        load_checkpoint(model, Path(spec.source_checkpoint), _OPTION)
    mean = _three("--source-mean", spec.source_mean, usual[0])
    std = _three("--source-std", spec.source_std, usual[1])
    example = to_float(np.asarray(_first_images(plan)))
    try:
        network = wrap_classifier(
            model, task.num_classes, head=spec.source_head, mean=mean, std=std, example=example
        )
    except DabenchError as error:
        raise ConfigError(f"--source-model {spec.source_model}: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"--source-model {spec.source_model} does not take images of {task.image_size} px "
            f"({type(error).__name__}: {reason_of(error)}); give another --image-size"
        ) from error
    network.freeze_trunk(spec.freeze)
    how = f"{code} {mean} {std} {spec.source_head}"
    return SourceModel(network, state_hash(network, how), None, 0.0)


def _build(spec: RunSpec, classes: int) -> tuple[nn.Module, tuple[Any, Any], str]:
    """Return the model, its usual mean and std, and what stands for its code."""
    named, option = str(spec.source_model), f"--source-model {spec.source_model}"
    plugin = next((p for p in spec.plugins if p.kind == "model"), None)
    if plugin is not None:
        place, _, attribute = plugin.target.rpartition(":")
        module = (
            module_of_file(Path(place), option)
            if place.endswith(".py")
            else import_named(place, option)
        )
        model = _call(getattr(module, attribute, None), option)
        if spec.source_checkpoint is None and not any(True for _ in model.parameters()):
            raise ConfigError(f"{option}: the model has no weights")
        return model, _PLAIN, plugin.sha256
    # of a library: with the classifier that it was trained with
    given = spec.source_checkpoint is not None
    instead = f"{_OPTION} FILE"
    import torchvision.models

    if named in torchvision.models.list_models():
        how: dict[str, Any] = {"num_classes": classes} if given else {"weights": "DEFAULT"}
        built = make(lambda: torchvision.models.get_model(named, **how), named, not given, instead)
        return built, _IMAGENET, named
    import timm

    if named not in timm.list_models():
        raise ConfigError(
            f"{option}: expected path.py:function, package.module:function, or the name of a "
            "classification model of torchvision or timm"
        )
    more: dict[str, Any] = {"num_classes": classes} if given else {}
    built = make(
        lambda: timm.create_model(named, pretrained=not given, **more), named, not given, instead
    )
    card = built.pretrained_cfg
    return built, (tuple(card["mean"]), tuple(card["std"])), named


def _call(build: Any, option: str) -> nn.Module:
    if not isinstance(build, Callable):  # type: ignore[arg-type]
        raise ConfigError(f"{option}: there is no such function in it")
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build()
    except Exception as error:
        raise ConfigError(
            f"{option}: the function failed ({type(error).__name__}: {reason_of(error)}); it is "
            "called without arguments, and has to return the model"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{option}: the function returned {one_line(type(model).__name__)}; expected an "
            "nn.Module"
        )
    return model


def _three(option: str, text: str | None, usual: tuple[float, ...]) -> tuple[float, ...]:
    if text is None:
        return usual
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 3:
        raise ConfigError(
            f"{option} {one_line(text, 60)}: expected three numbers with commas between, of [0, 1] "
            "images: 0.485,0.456,0.406"
        )
    return found


def _first_images(plan: Any) -> Any:
    """Return two target images, (2, H, W, 3) uint8."""
    if hasattr(plan, "images"):
        return plan.images[np.arange(2)]
    shown = plan.parts["adapt"].__getitems__([0, 1]).images
    return (shown.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def checkpoint_digest(path: str) -> str:
    """Return the SHA-256 of a checkpoint file.

    Raises:
        CacheError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CacheError(f"{_OPTION} {one_line(path, 300)}: {error.strerror}") from None
