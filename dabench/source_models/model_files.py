"""A model that was adapted, as files: ``model.safetensors`` and its card ``model.yaml``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import dabench
from dabench.config.spec import IN_MEMORY
from dabench.errors import CacheError, ConfigError, reason_of
from dabench.networks.ensemble import Ensemble
from dabench.networks.foreign import unwrapped_state, wrap_classifier
from dabench.networks.network import ClassifierNetwork, build_classifier
from dabench.networks.published import is_beside, unfilled
from dabench.networks.weight_files import load_checkpoint
from dabench.registry import Plugin
from dabench.source_models.foreign import ForeignModel

WEIGHTS, CARD = "model.safetensors", "model.yaml"


def save_model(
    folder: Path,
    network: nn.Module,
    classes: Sequence[str],
    foreign: ForeignModel | None,
    about: Mapping[str, Any],
) -> None:
    """Write a network's weights and its card.

    A model of somebody else is written under its own names, which load it without dabench.

    Args:
        folder: that takes both files; it is there.
        network: one of dabench's, a wrapped one, or an ensemble.
        classes: names of the K classes.
        foreign: what was wrapped; None for a network of dabench's.
        about: further facts of the card: ``image_size``, method, ...

    Raises:
        ConfigError: a network that cannot be built again from a name.
    """
    from safetensors.torch import save_file

    state, card = _described(network, foreign)
    # a layer under two names is written twice: safetensors refuses tensors that share memory
    own = {name: value.contiguous().clone() for name, value in state.items()}
    save_file(own, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors' own are for their owner alone
    card = {"dabench": dabench.__version__, **card, "classes": list(classes), **about}
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    (folder / CARD).write_text(text, encoding="utf-8")


def _described(
    network: nn.Module, foreign: ForeignModel | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors to keep, and what builds a network for them."""
    parts = list(network.networks) if isinstance(network, Ensemble) else [network]
    first = parts[0]
    if not isinstance(first, ClassifierNetwork):
        raise ConfigError(
            f"{type(first).__name__} is no network that dabench can build again, so that it cannot "
            "be kept: a method's adapted_network() returns one that it was handed"
        )
    card: dict[str, Any] = {"outputs": int(first.classifier.weight.shape[0])}
    card |= {"mean": _shortest(first.mean), "std": _shortest(first.std)}
    if first.head_name is not None and foreign is not None:
        named = foreign.plugin.target if foreign.plugin else foreign.named
        digest = foreign.plugin.sha256 if foreign.plugin else ""
        wrapped = {"model": named, "model_sha256": digest, "head": first.head_name}
        return unwrapped_state(first), wrapped | card
    if first.backbone_name is None:
        raise ConfigError("the network was built outside of dabench, so that no name builds it")
    plain = isinstance(first.bottleneck, nn.Identity)
    own: dict[str, Any] = {"backbone": first.backbone_name, "plain_head": plain}
    if isinstance(network, Ensemble):
        card |= {"networks": len(parts), "averaged": network.averaged}
    return {k: v.detach().cpu() for k, v in network.state_dict().items()}, own | card


def _shortest(values: Tensor) -> list[float]:
    """Return the shortest numbers that are these in 32 bits: 0.485, not 0.48500001430511475."""
    return [float(str(value)) for value in values.flatten().cpu().numpy()]


def load_model(folder: str | Path) -> nn.Module:
    """Return a model that ``dabench adapt`` or ``dabench run --save-model`` left in a folder.

    It takes (B, 3, H, W) images in [0, 1], and gives logits over its classes; where it was adapted
    for unknown classes, the outputs behind those, if there are any, stand for "unknown".

    Raises:
        CacheError: a file that is missing or cannot be read.
        ConfigError: the code of the model is not where it was.
    """
    place = Path(folder)
    card = read_card(place)
    try:
        built = _own(card) if "backbone" in card else None
        given = None if built is not None else _foreign(card)
    except (KeyError, TypeError, ValueError) as error:
        raise CacheError(f"{place / CARD}: cannot be used ({reason_of(error)})") from None
    if built is not None:
        load_checkpoint(built, place / WEIGHTS, "the weights")
        return built.eval()
    assert given is not None
    beside = partial(is_beside, str(card["model"]))
    load_checkpoint(given, place / WEIGHTS, "the weights", beside)
    values = {name: card[name] for name in ("head", "mean", "std")}
    return wrap_classifier(given, int(card["outputs"]), **values).eval()


def read_card(folder: Path) -> dict[str, Any]:
    """Return what stands in a model's card.

    Raises:
        CacheError: it is missing, or is none.
    """
    path = folder / CARD
    if not path.is_file():
        raise CacheError(
            f"{folder} has no {CARD}: expected a folder of 'dabench adapt' or of 'dabench run "
            "--save-model' (RESULTS/runs/ID/model)"
        )
    try:
        card: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise CacheError(f"{path}: cannot be used ({reason_of(error)})") from None
    needed = {"outputs", "mean", "std", "classes"}
    if not isinstance(card, dict) or needed - card.keys():
        raise CacheError(f"{path}: cannot be used (it is no card of a model)")
    return card


def check_order(checkpoint: str, classes: Sequence[str]) -> None:
    """Refuse kept weights whose card has a data set's classes in another order.

    Args:
        checkpoint: path of the weights; those without a card beside them are not judged.
        classes: names that the outputs are to have.

    Raises:
        ConfigError: the outputs would get each other's names.
        CacheError: the card cannot be used.
    """
    path = Path(checkpoint)
    if path.name != WEIGHTS or not (path.parent / CARD).is_file():
        return
    order = [str(name) for name in read_card(path.parent)["classes"]]
    if order != list(classes) and sorted(order) == sorted(classes):
        raise ConfigError(
            f"--source-checkpoint {path}: its outputs are {', '.join(order)} ({path.parent / CARD})"
            f", and the data set has {', '.join(classes)}; bring the outputs into that order"
        )


def _own(card: Mapping[str, Any]) -> nn.Module:
    """Build a network of dabench's, or an ensemble of them."""
    count, side = int(card.get("networks", 1)), int(card["image_size"])
    name, outputs, plain = str(card["backbone"]), int(card["outputs"]), bool(card["plain_head"])
    with torch.random.fork_rng(devices=[]):
        nets = [
            build_classifier(name, "none", outputs, plain=plain, side=side) for _ in range(count)
        ]
    for net in nets:
        net.mean.copy_(torch.tensor(card["mean"]).view(1, 3, 1, 1))
        net.std.copy_(torch.tensor(card["std"]).view(1, 3, 1, 1))
    return Ensemble(nets, card["averaged"]) if "averaged" in card else nets[0]


def _foreign(card: Mapping[str, Any]) -> nn.Module:
    """Build a model of somebody else, with as many outputs as the card says."""
    target, outputs, head = str(card["model"]), int(card["outputs"]), str(card["head"])
    if target.endswith(IN_MEMORY):
        raise ConfigError(
            f"{target}: a program handed this model over, and no name builds it again; load "
            f"{WEIGHTS} into one of your own (safetensors.torch.load_file gives its state dict)"
        )
    # its file may be another by now: whether the weights fit is asked where they are loaded
    plugin = Plugin("model", target, target, "", "")
    given = ForeignModel(target, plugin=plugin if ":" in target else None)
    # of a library: any number of outputs, and no weights of its own are wanted
    model = given.build(None)[0] if given.plugin else _of_library(given, outputs)
    layer = model.get_submodule(head)
    if isinstance(layer, nn.Linear) and layer.out_features != outputs:
        fresh = nn.Linear(layer.in_features, outputs)
        if not head:
            return fresh
        model.set_submodule(head, fresh)
    return model


def _of_library(given: ForeignModel, outputs: int) -> nn.Module:
    with torch.random.fork_rng():
        return unfilled(given.named, outputs)


@contextlib.contextmanager
def replaced(folder: Path, fill: Callable[[Path], None] | None) -> Iterator[None]:
    """Put a filled folder in the place of what is there, when what is done inside is done.

    If that fails, the old one is there again. The new one is filled in a hidden neighbour; if that
    fails, there is none.

    Args:
        folder: that takes the place.
        fill: writes into an empty folder; None = the old one goes, and none comes.
    """
    draft, old = (folder.with_name(f".{folder.name}.{end}") for end in ("new", "old"))
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    try:
        yield
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    try:
        if fill is not None:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            fill(draft)
            os.replace(draft, folder)
    finally:
        for path in (draft, old):
            shutil.rmtree(path, ignore_errors=True)
