"""A kept model as ``model.onnx``, for programs without PyTorch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dabench.contract.cost import Cost
from dabench.contract.network import Network
from dabench.errors import ConfigError, reason_of
from dabench.source_models.model_files import load_model, read_card

ONNX = "model.onnx"
_NEEDED = ("onnx", "onnxscript")


def check_installed() -> None:
    """Say what an export needs, before anything is computed.

    Raises:
        ConfigError: a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"an export to ONNX needs {' and '.join(missing)}; pip install 'dabench[onnx]'"
        )


def export_onnx(folder: Path) -> Path:
    """Write ``model.onnx`` beside a kept model: the file is whole or not there.

    Its input ``images`` is (B, 3, H, W) float32 in [0, 1], B as one likes, H and W the card's
    ``image_size``; its output ``logits`` is (B, K), in open sets (B, K + 1).

    Args:
        folder: what ``dabench adapt`` or ``dabench run --save-model`` left.

    Raises:
        CacheError: there is no kept model.
        ConfigError: a package is missing, or the model's code cannot be exported.
    """
    check_installed()
    model, side = load_model(folder), int(read_card(folder)["image_size"])
    for module in model.modules():
        if isinstance(module, Network):
            module.cost = Cost(paused=True)  # an exported graph counts nothing
    draft = folder / f".{ONNX}.new"
    try:
        _export(model, torch.rand(2, 3, side, side), draft)
        path = folder / ONNX
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _export(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    onnx: Any = importlib.import_module("onnx")  # of an extra
    quiet = logging.getLogger("onnxscript"), logging.getLogger("torch.onnx")
    levels = [each.level for each in quiet]
    how: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    how |= {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},), "dynamo": True}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of exporters, about their own parts
            for each in quiet:
                each.setLevel(logging.ERROR)
            torch.onnx.export(model, (example,), path, external_data=False, verbose=False, **how)
    except Exception as error:
        raise ConfigError(
            f"the model cannot be exported to ONNX ({type(error).__name__}: {reason_of(error)}); "
            "the weights and the card are whole"
        ) from error
    finally:
        for each, level in zip(quiet, levels, strict=True):
            each.setLevel(level)
    batch = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise ConfigError(
            f"the model's code fixes the batch size to {batch.dim_value} when it is exported to "
            "ONNX (len(x) or int(x.shape[0]) does so; x.shape[0] alone does not); the weights and "
            "the card are whole"
        )
