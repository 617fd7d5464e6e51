"""Digits rendered from the TrueType fonts that ship with matplotlib: the domain ``print``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dabench.errors import DataError

SIDE = 32
_CANVAS = 64  # drawn at twice the size, then reduced: smooth edges
#: the gap's knobs: pose (radians, share of the canvas), stroke width in drawn pixels (negative =
#: thinner), blur (radius in drawn pixels) and contrast (peak grey level)
ROTATE, SHEAR, HEIGHT = 0.2, 0.25, (0.66, 0.94)
THICKNESS: tuple[int, ...] = (-1, 0, 1)
BLUR, PEAK = (0.2, 1.0), (150, 255)
#: every third usable font is kept for the source-validation set
HELD_OUT_EVERY = 3
_REFERENCES = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSans-Oblique.ttf", "STIXGeneral.ttf")


def _font_folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=512)  # a domain has each hundreds of times
def _glyph(path: Path, digit: int, size: int = 40) -> Image.Image | None:
    """Return the cropped glyph (white on black), or None where the font draws nothing."""
    font = ImageFont.truetype(str(path), size)
    image = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(image).text((size, size), str(digit), font=font, fill=255)
    box = image.getbbox()
    return image.crop(box) if box else None


def _template(path: Path, digit: int) -> npt.NDArray[np.float64] | None:
    glyph = _glyph(path, digit)
    if glyph is None or glyph.height < 16:
        return None
    square = Image.new("L", (max(glyph.size),) * 2)
    square.paste(glyph, ((square.width - glyph.width) // 2, (square.height - glyph.height) // 2))
    pixels = np.asarray(square.resize((24, 24)), dtype=np.float64).ravel()
    pixels -= pixels.mean()
    return pixels / (np.linalg.norm(pixels) + 1e-9)


def glyph_check(path: Path) -> bool:
    """Tell whether a font's ten digits are digits: at least nine look most like their own class.

    Symbol fonts (cmsy10, STIX size fonts) map other glyphs to the digits' code points. Likeness is
    the correlation with the best of four reference fonts, which pass by definition.
    """
    own = [_template(path, d) for d in range(10)]
    if any(t is None for t in own):
        return False
    stack = np.stack([t for t in own if t is not None])
    likeness = np.max([stack @ reference.T for reference in _reference_templates()], axis=0)
    return bool(np.sum(np.argmax(likeness, axis=1) == np.arange(10)) >= 9)


@lru_cache(maxsize=1)
def _reference_templates() -> tuple[npt.NDArray[np.float64], ...]:
    sets = []
    for name in _REFERENCES:
        templates = [_template(_font_folder() / name, d) for d in range(10)]
        sets.append(np.stack([t for t in templates if t is not None]))
    return tuple(sets)


@lru_cache(maxsize=1)
def usable_fonts() -> tuple[Path, ...]:
    """Return matplotlib's fonts that pass the glyph check, in alphabetical order."""
    fonts = tuple(p for p in sorted(_font_folder().glob("*.ttf")) if glyph_check(p))
    if len(fonts) < 6:
        raise DataError(
            f"only {len(fonts)} fonts with digits in {_font_folder()}; reinstall matplotlib"
        )
    return fonts


def fonts(held_out: bool) -> tuple[Path, ...]:
    """Return the training fonts or the held-out fonts (no font is in both)."""
    usable = usable_fonts()
    return tuple(f for i, f in enumerate(usable) if (i % HELD_OUT_EVERY == 1) == held_out)


def render(path: Path, digit: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return one (32, 32) uint8 picture with random pose, thickness, contrast and blur."""
    glyph = _glyph(path, digit)
    if glyph is None:
        raise DataError(f"font {path.name} draws nothing for '{digit}'")
    height = rng.uniform(*HEIGHT) * _CANVAS
    width = min(_CANVAS * 0.9, height * glyph.width / glyph.height * rng.uniform(0.8, 1.25))
    glyph = glyph.resize((max(4, int(width)), max(8, int(height))), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    left = (_CANVAS - glyph.width) / 2 + rng.uniform(-4, 4)
    top = (_CANVAS - glyph.height) / 2 + rng.uniform(-4, 4)
    canvas.paste(glyph, (int(left), int(top)))
    shear, angle = rng.uniform(-SHEAR, SHEAR), rng.uniform(-ROTATE, ROTATE)
    cos, sin, c = np.cos(angle), np.sin(angle), _CANVAS / 2
    a, b, d, e = cos, sin + shear, -sin, cos
    matrix = (a, b, c - a * c - b * c, d, e, c - d * c - e * c)
    canvas = canvas.transform(
        (_CANVAS, _CANVAS), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    thickness = int(rng.choice(THICKNESS))
    if thickness:
        kind = ImageFilter.MaxFilter if thickness > 0 else ImageFilter.MinFilter
        canvas = canvas.filter(kind(2 * abs(thickness) + 1))
    canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR)))
    pixels = np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    peak = max(float(pixels.max()), 1.0)
    return np.clip(pixels / peak * rng.uniform(*PEAK), 0, 255).astype(np.uint8)


def render_domain(
    *, per_class: int, held_out: bool, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return (10 * per_class, 32, 32, 3) pictures and their digits, the same for every caller."""
    rng = np.random.default_rng(seed)
    files = fonts(held_out)
    digits = np.repeat(np.arange(10), per_class)
    grey = np.stack([render(files[i % len(files)], int(d), rng) for i, d in enumerate(digits)])
    return np.repeat(grey[..., None], 3, axis=-1), digits
