"""``dabench export``: a kept model for programs without PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

from dabench.cli.output import say


def export(args: argparse.Namespace) -> int:
    """Write ``model.onnx`` beside a kept model; return 0.

    Raises:
        CacheError: there is none in the folder.
        ConfigError: a package is missing, or the model's code cannot be exported.
    """
    from dabench.deploy.onnx_file import export_onnx

    say(f"wrote {export_onnx(Path(args.folder))}")
    return 0
