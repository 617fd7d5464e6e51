"""``dabench weather``: the kinds of weather as a list, or as a contact sheet."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.cli.output import print_columns, say
from dabench.errors import ConfigError, DataError, one_line
from dabench.store.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image

    from dabench.datasets.weather.kind import Kind, Pictures

#: height of a row's title and size of its letters, in pixels
_TITLE, _LETTERS = 26, 16
#: how names of sheets may end, and what the encoder is told
_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "optimize": 1},
    ".webp": {"format": "WEBP", "quality": 70},
}


def weather(args: argparse.Namespace) -> int:
    """List the kinds, or write a picture of kinds (rows) by severities (columns).

    Args:
        args: what the parser of ``weather`` found.

    Raises:
        DabenchError: unknown kind, a size or seed that is no number, an image that cannot be read.
    """
    return _list() if args.action == "list" else _preview(args)


def _list() -> int:
    from dabench.datasets.weather.apply import KINDS

    rows = [[kind.name, f"1-{kind.levels}", kind.standard] for kind in KINDS.values()]
    print_columns([["kind", "levels", "standard"], *rows])
    return 0


def _preview(args: argparse.Namespace) -> int:
    from dabench.datasets.weather.apply import KINDS, MIN_SIDE, find_kind

    side = _number("--size", args.size, MIN_SIDE, 1024)
    seed = _number("--seed", args.seed, 0, 2**63)
    out = Path(args.out)
    if out.suffix.lower() not in _FORMATS:
        raise ConfigError(f"--out {out}: the sheet is a PNG or WebP; end the name in .png or .webp")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")
    names = args.kinds.split(",") if args.kinds else list(KINDS)
    kinds = [find_kind(name.strip()) for name in names]
    sheet = _sheet(_picture(args.image, side), kinds, seed)
    write_atomically(out, lambda file: sheet.save(file, **_FORMATS[out.suffix.lower()]))
    say(f"{len(kinds)} kinds: {out}")
    return 0


def _number(option: str, text: str, low: int, high: int) -> int:
    if not (re.fullmatch("0|[1-9][0-9]{0,18}", str(text)) and low <= int(text) <= high):
        raise ConfigError(
            f"{option} {one_line(text, 60)}: expected a whole number from {low} to {high}"
        )
    return int(text)


def _picture(path: str | None, side: int) -> Pictures:
    """Return (side, side, 3): the middle of an image file, or of scikit-learn's ``china.jpg``."""
    import numpy as np
    from PIL import Image, ImageOps

    if path is None:
        from sklearn.datasets import load_sample_image

        image = Image.fromarray(load_sample_image("china.jpg")).crop((100, 0, 527, 427))
    else:
        from dabench.datasets.decoding.images import read_picture

        try:
            image, _ = read_picture(Path(path))
        except DataError as error:
            raise DataError(f"--image {path}: not a readable image ({error})") from error
    return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))


def _sheet(picture: Pictures, kinds: list[Kind], seed: int) -> Image.Image:
    """Draw every kind (rows) at every severity (columns), with the number above each."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from dabench.datasets.weather.apply import apply_weather

    side, ids = len(picture), np.zeros(1, np.int64)
    columns = 1 + max(kind.levels for kind in kinds)
    height = side + _TITLE
    sheet = Image.new("RGB", (columns * side, len(kinds) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTERS)
    for row, kind in enumerate(kinds):
        top = row * height
        for level in range(kind.levels + 1):
            left, title = level * side, str(level) if level else kind.name
            pen.text((left + 4, top + 3), title, fill="black", font=font)
            shown = apply_weather(picture[None], kind.name, level, ids, seed)[0]
            sheet.paste(Image.fromarray(shown), (left, top + _TITLE))
    return sheet
