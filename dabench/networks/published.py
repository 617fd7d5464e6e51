"""Models that others published, by name: how they are built, and what input they were made for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dabench.errors import CacheError
from dabench.networks import cifar, library

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Normalisation = ((0.5,) * 3, (0.5,) * 3)
PLAIN: Normalisation = ((0.0,) * 3, (1.0,) * 3)
_CIFAR: Normalisation = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))

#: names under which files keep the input's mean and std, as RobustBench's wrappers do
_INPUT_NAMES = (("mu", "sigma"), ("normalize.mean", "normalize.std"))
#: what DataParallel and wrappers put before them
_WRAPPER = re.compile(r"^(?:module\.|model\.|_orig_mod\.)+")
#: "denselayer1.norm.1.weight" in torchvision's files is "denselayer1.norm1.weight" in its networks
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
#: tensors that a published file has and that its network never uses
_UNUSED = {
    "wrn-28-10": ("sub_block1.",),
    "googlenet": ("aux1.", "aux2."),
    "inception_v3": ("AuxLogits.",),
}


@dataclass(frozen=True)
class CifarModel:
    """A network for CIFAR.

    Attributes:
        build: number of classes -> the network.
        normalisation: of [0, 1] images, that its published weights were trained with.
    """

    build: Callable[[int], nn.Sequential]
    normalisation: Normalisation


CIFAR_MODELS: dict[str, CifarModel] = {
    **{
        f"resnet{depth}": CifarModel(partial(cifar.resnet, depth), IMAGENET)
        for depth in (20, 32, 44, 56)
    },
    # RobustBench's "Standard" takes images as they are, its AugMix models (x - .5) / .5
    "wrn-28-10": CifarModel(partial(cifar.wide_resnet, 28, 10), PLAIN),
    "wrn-40-2": CifarModel(partial(cifar.wide_resnet, 40, 2), HALF),
    "resnext29-32x4d": CifarModel(cifar.resnext, HALF),
    "resnet26-gn": CifarModel(cifar.resnet_group_norm, HALF),
    "preactresnet18": CifarModel(cifar.preact_resnet18, _CIFAR),
}


def cifar_trunk(name: str) -> nn.Sequential:
    """Return a network for CIFAR without its last layer: (B, 3, S, S) -> (B, F)."""
    network = CIFAR_MODELS[name].build(1)
    *_, last = network._modules
    setattr(network, last, nn.Identity())
    return network


def unfilled(name: str, outputs: int) -> nn.Module:
    """Return a whole network by name, of a library or for CIFAR, with random weights.

    Args:
        name: as ``--source-model`` knows it.
        outputs: number of classes.
    """
    if name in CIFAR_MODELS:
        return CIFAR_MODELS[name].build(outputs)
    if library.torchvision_model(name) is not None:
        return library.whole_network(name, num_classes=outputs, **library.of_file(name))
    import timm

    made: nn.Module = timm.create_model(name, num_classes=outputs)
    return made


def _digest_in(url: str) -> str:
    """Return the first digits of the SHA-256, which stand in the names of torchvision's files."""
    return url.rpartition("-")[2].partition(".")[0]


def of_old_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with the layers of torchvision's DenseNet files named as in its networks."""
    return {_OLD_DENSE.sub(r"\1\2", key): value for key, value in state.items()}


def _without_wrapper(key: str) -> str:
    return _WRAPPER.sub("", key)


def is_unused(name: str, key: str) -> bool:
    """Say whether a tensor of a file is one that the named model never uses."""
    return key.startswith(_UNUSED.get(name.partition(".")[0], ()))


def is_beside(name: str, key: str) -> bool:
    """Say whether a tensor of a file may stand beside those of the named model."""
    return is_unused(name, key) or any(_without_wrapper(key) in pair for pair in _INPUT_NAMES)


def normalisation_in(state: Mapping[str, Tensor], where: str) -> Normalisation | None:
    """Return the mean and std of the input that a file holds, if it holds any.

    Raises:
        CacheError: one without the other, or not three numbers each.
    """
    state = {_without_wrapper(key): value for key, value in state.items()}
    for pair in _INPUT_NAMES:
        found = [tuple(state[key].double().flatten().tolist()) for key in pair if key in state]
        if not found:
            continue
        if [len(numbers) for numbers in found] != [3, 3] or min(found[1]) <= 0:
            raise CacheError(
                f"{where}: its {' and '.join(pair)} are not mean and std of three channels; give "
                "a file without them, and --source-mean and --source-std"
            )
        mean, std = ([round(number, 7) for number in numbers] for numbers in found)
        return tuple(mean), tuple(std)
    return None


def outputs_in(state: Mapping[str, Tensor]) -> int:
    """Return the number of classes of a file of one of ``CIFAR_MODELS``; 10 where it is not told.

    Their classifier is their only matrix.
    """
    return next((len(value) for value in state.values() if value.ndim == 2), 10)


def preparation(name: str, digest: str | None) -> dict[str, Any]:
    """Return how images were prepared where published weights were tested; {} where unknown.

    Keys: ``size`` in pixels, ``interpolation``, ``crop`` (share of the shorter side that is kept),
    ``weights`` (the library's name of them).

    Args:
        name: as ``--source-model`` knows it.
        digest: SHA-256 of the file that the weights come from; None = the library fetched them.
            Of a file under a library's name without a tag (``resnet50.IMAGENET1K_V1``) nothing is
            known, nor which weights are in one that is not torchvision's.
    """
    if digest is not None and name not in CIFAR_MODELS and "." not in name:
        return {}
    if name in CIFAR_MODELS:
        return {"size": 32, "interpolation": "none", "crop": 1.0}
    if library.torchvision_model(name) is not None:
        weights = library.torchvision_weights(name)
        how = weights.transforms()
        (size,), (whole,) = how.crop_size, how.resize_size
        found = {"size": size, "interpolation": how.interpolation.value}
        found |= {"crop": round(size / whole, 4)}
        if digest is not None and not digest.startswith(_digest_in(weights.url)):
            warnings.warn(
                f"{name}: the file is not {Path(weights.url).name}, by its SHA-256 ({digest[:8]}); "
                "the record does not name its weights",
                stacklevel=2,
            )
            return found
        return found | {"weights": weights.name}
    import timm

    card = timm.get_pretrained_cfg(name) if library.is_timm_model(name) else None
    if card is None:
        return {}
    size, crop = card.test_input_size or card.input_size, card.test_crop_pct or card.crop_pct
    found = {"size": size[-1], "interpolation": card.interpolation}
    return found | {"crop": crop, "weights": card.tag or ""}
