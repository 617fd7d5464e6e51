"""Strips of pictures with dense labels: what was seen, what is true, what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dabench.contract.types import IGNORE
from dabench.errors import DataError

Picture = npt.NDArray[np.uint8]
#: colours by class number. The first seven and the next nine are told apart with any colour
#: vision (Okabe and Ito, 2008; Tol, 2021, "muted"); no twenty colours are, so the legend has words
PALETTE: tuple[tuple[int, int, int], ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178)),
    *((213, 94, 0), (204, 121, 167), (136, 34, 85), (17, 119, 51), (51, 34, 136)),
    *((221, 204, 119), (136, 204, 238), (204, 102, 119), (68, 170, 153), (153, 153, 51)),
    *((170, 68, 153), (221, 221, 221), (119, 119, 119), (102, 51, 0), (187, 204, 51)),
)
#: strips for a condition, and at most in all
MOST_PER_CONDITION, MOST_IN_ALL = 4, 12
#: a panel is enlarged by a whole factor until it is so wide
LEAST_PANEL_WIDTH = 240
_FONT, _SIZE, _LINE, _GAP = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 18, 4


def steps_to_draw(conditions: Sequence[str], rows: Sequence[int]) -> set[int]:
    """Return the steps to draw: a few frames of each condition, the same for every seed.

    A frame that a condition shows several times is drawn at its last showing.

    Args:
        conditions: name of the condition at every step.
        rows: position of the frame at every step.
    """
    steps: dict[str, dict[int, int]] = {}
    for step, (name, row) in enumerate(zip(conditions, rows, strict=True)):
        steps.setdefault(name, {})[row] = step
    each = max(1, min(MOST_PER_CONDITION, MOST_IN_ALL // len(steps)))
    found: list[int] = []
    for by_row in steps.values():
        ordered = sorted(by_row)
        places = np.linspace(0, len(ordered) - 1, each).round().astype(int)
        found += [by_row[ordered[place]] for place in np.unique(places)]
    return set(found[:MOST_IN_ALL])


def class_colour(number: int) -> tuple[int, int, int]:
    """Return a class's RGB colour; after the palette's end it begins again, darker each time."""
    turn, index = divmod(number, len(PALETTE))
    r, g, b = (round(value * 0.6**turn) for value in PALETTE[index])
    return r, g, b


def paint_classes(labels: npt.NDArray[np.integer]) -> Picture:
    """Return the (H, W, 3) uint8 picture of (H, W) classes; ``IGNORE`` is black."""
    table = np.array([class_colour(i) for i in range(IGNORE + 1)], dtype=np.uint8)
    table[IGNORE] = 0
    painted: Picture = table[labels]
    return painted


def join_panels(panels: Sequence[tuple[str, Picture]], classes: Sequence[str]) -> Picture:
    """Put (H, W, 3) uint8 panels beside each other, with titles above and a legend below."""
    factor = max(1, -(-LEAST_PANEL_WIDTH // panels[0][1].shape[1]))
    columns: list[Picture] = []
    for title, picture in panels:
        large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        head = np.full((_LINE, large.shape[1], 3), 255, np.uint8)
        _write(head, title, 2)
        columns += [np.concatenate((head, large)), _blank(len(head) + len(large), _GAP)]
    row = np.concatenate(columns[:-1], axis=1)
    return np.concatenate((row, _legend(classes, row.shape[1])))


def save_png(path: Path, picture: Picture) -> None:
    """Write a PNG.

    Raises:
        DataError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
    except cv2.error as error:
        raise DataError(f"picture {path} cannot be written: {error}") from error
    if not written:
        raise DataError(f"picture {path} cannot be written; is there room, and the right to?")


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), 255, np.uint8)


def _write(picture: Picture, text: str, left: int) -> None:
    cv2.putText(picture, text, (left, _LINE - 5), _FONT, _SIZE, (0, 0, 0), 1, cv2.LINE_AA)


def _legend(classes: Sequence[str], width: int) -> Picture:
    """Draw a coloured box and a name for every class, and for ignored pixels."""
    entries = [(name, class_colour(i)) for i, name in enumerate(classes)] + [("ignored", (0, 0, 0))]
    lines, left = [_blank(_LINE, width)], 2
    for name, shade in entries:
        need = 22 + cv2.getTextSize(name, _FONT, _SIZE, 1)[0][0]
        if left + need > width and left > 2:
            lines.append(_blank(_LINE, width))
            left = 2
        lines[-1][4:14, left : left + 10] = shade
        _write(lines[-1], name, left + 14)
        left += need
    return np.concatenate(lines)
