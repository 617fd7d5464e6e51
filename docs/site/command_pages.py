"""The command line: the options of ``dabench run``, and every command's own help."""

from __future__ import annotations

import contextlib
import io
import os
from unittest import mock

from markdown import cell, code, table

from dabench.cli.main import main
from dabench.cli.parser import COMMANDS
from dabench.config.options import FLAGS, OPTIONS


def pages() -> dict[str, str]:
    """Return the page by name."""
    rows = [
        [code(f"--{name}"), kind.__name__ + ("" if least is None else f" ≥ {least}"), cell(text)]
        for name, (kind, least, text) in OPTIONS.items()
    ]
    flags = [[code(f"--{name}"), "–", cell(text)] for name, text in FLAGS.items()]
    note = (
        "The options of a run; in a `--config` file they stand without the dashes. Those of a "
        "method are `--method.NAME` ([methods](methods/index.md)), of a protocol `--protocol.NAME` "
        "([protocols](protocols/index.md))."
    )
    parts = ["# Command line", note, table(["option", "values", "meaning"], [*rows, *flags])]
    for name, text in COMMANDS.items():
        parts += [f"## `dabench {name}`", f"{cell(text[0].upper() + text[1:])}."]
        if name != "run":
            parts.append(f"```text\n{_help(name)}\n```")
    return {"command-line": "\n\n".join(parts)}


def _help(name: str) -> str:
    """Return what ``dabench NAME --help`` prints, whatever the terminal."""
    out = io.StringIO()
    width = {**os.environ, "COLUMNS": "96", "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, width), contextlib.redirect_stdout(out):
        main([name, "--help"])
    return out.getvalue().strip()
