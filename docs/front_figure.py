"""The picture of the front page, for ``python docs/tables.py --figures``.

Kind ``front``, drawn from committed records and embedded data alone:
    a stream   running accuracy of ``rows=`` on ``overhead`` under rain, a scene above each level
    a board    ``board=`` rows of ``sf-osda`` on the digits, against ``source`` at the same start
    frames     a drawn street in fog, its truth, and two answers

No record keeps the answers of a segmentation model: ``front-frames.png`` holds them, cut from a
strip that ``dabench run --method transadapt`` leaves in ``results/runs/RUN/report`` (seed 0, fog-3,
frame 159). ``python docs/front_figure.py STRIP.png`` cuts another one.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from PIL import Image
from stream_figures import COLOURS, GREY, INK, curve
from stream_rows import Row, rows_of
from table_cells import UPPER_BOUND, Params, listed

from dabench.datasets.overhead.overhead import draw
from dabench.datasets.weather.apply import apply_weather
from dabench.protocols.dense.strips import LEAST_PANEL_WIDTH

Pictures = npt.NDArray[np.uint8]
FRAMES = Path(__file__).with_name("front-frames.png")
#: shown at half its size, sharp on dense screens too
SIZE, DPI = (8.3, 5.25), 200
STREAM = {"protocol": "gradual-weather", "dataset": "overhead", "weather": "rain"}
BOARD = {"protocol": "sf-osda", "dataset": "digits", "split": "default", "unknown_share": "None"}
SCENE, NUMBER, SIDE = "roundabout", 3, 128
METRIC = "HOS"
_SMALL, _LINE = 8.0, 1.8
_VERDICTS = {"win": "#00775A", "loss": COLOURS[1]}


def front(tables: Any, params: Params, path: Path) -> None:
    """Draw the picture."""
    figure = plt.figure(figsize=SIZE, layout=None)
    rows = {row.label: row for row in rows_of(tables, STREAM)[0] if not row.variant}
    chosen = [rows[name] for name in listed(params, "rows")]
    levels = _stream(figure.add_axes((0.055, 0.435, 0.53, 0.36)), chosen)
    _scenes(figure, levels, (0.055, 0.81, 0.53, 0.11))
    found = [_board_line(tables, name) for name in listed(params, "board")]
    _board(figure.add_axes((0.625, 0.42, 0.365, 0.5)), found)
    _frames(figure, (0.012, 0.012, 0.982, 0.315))
    seeds = f"mean of {len(chosen[0].runs)} seeds"
    _title(figure, 0.012, 0.952, "a stream", f"scenes from above while rain sets in, {seeds}")
    _title(figure, 0.625, 0.952, "a table", f"an open set of digits, {METRIC}")
    told = f"split '{BOARD['split']}' alone; bars: mean ± sd of {_counted(found)} seeds"
    figure.text(0.625, 0.405, told, fontsize=_SMALL, color="#444444")
    _title(
        figure, 0.012, 0.352, "segmentation", "a street in fog, each frame once and without labels"
    )
    # a page may be dark: the picture brings its own white
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor="white")
    plt.close(figure)
    # a palette makes a third of the file, and no difference to the eye
    few = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _title(figure: Any, left: float, bottom: float, name: str, text: str) -> None:
    head = figure.text(left, bottom, name, fontsize=10.5, fontweight="bold", color=INK)
    figure.canvas.draw()
    right = head.get_window_extent().transformed(figure.transFigure.inverted()).x1
    figure.text(right + 0.012, bottom, text, fontsize=9, color="#444444")


def _stream(axis: Any, rows: list[Row]) -> dict[str, tuple[int, int]]:
    """Draw a line a row, named at its end; return the levels with their first and last step."""
    ends = []
    for number, row in enumerate(rows):
        runs = [curve(row.runs[seed], "running_accuracy", "all") for seed in sorted(row.runs)]
        mean = np.array(runs).mean(axis=0)
        colour = GREY if row.label == "source" else COLOURS[number % len(COLOURS)]
        axis.plot(range(1, len(mean) + 1), mean, color=colour, linewidth=_LINE)
        ends.append((float(mean[-1]), row.label, colour))
    steps = len(mean)
    apart = 0.075  # names one below the other, where lines end close together
    height = 2.0
    for value, name, colour in sorted(ends, reverse=True):
        height = min(value, height - apart)
        axis.text(steps + 1, height, name, color=colour, fontsize=_SMALL, va="center")
    shown = next(iter(rows[0].runs.values()))
    names = [s["segment"] for s in shown["scores"] if s["metric"] == "accuracy"]
    names = [n for n in names if n == "clear" or n.startswith(f"{STREAM['weather']}-")]
    each = steps // len(names)
    for place in range(1, len(names)):
        axis.axvline(place * each + 0.5, color=GREY, linewidth=0.6, alpha=0.5)
    axis.set_xlim(0.5, steps * 1.19)
    axis.set_ylim(0, 1)
    axis.set_xticks([each / 2 + 0.5 + each * place for place in range(len(names))], names)
    axis.set_yticks([0, 0.5, 1])
    axis.tick_params(labelsize=_SMALL, length=0)
    axis.set_ylabel("running accuracy", fontsize=_SMALL, labelpad=1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines["bottom"].set_bounds(0.5, steps + 0.5)
    return {name: (each * place, each * (place + 1)) for place, name in enumerate(names)}


def _scenes(
    figure: Any, levels: dict[str, tuple[int, int]], place: tuple[float, float, float, float]
) -> None:
    """Draw one scene above every level, as the stream shows it there."""
    left, bottom, width, height = place
    scene = draw(SCENE, NUMBER, SIDE)[None]
    whole = max(last for _, last in levels.values()) * 1.19
    for severity, (first, last) in enumerate(levels.values()):
        seen = apply_weather(scene, STREAM["weather"], severity, np.zeros(1, np.int64))[0]
        span = width * (last - first) / whole
        _picture(figure, seen, (left + width * first / whole, bottom, span * 0.94, height))


def _counted(lines: list[tuple[str, Any]]) -> str:
    """Return how many seeds the rows have, from least to most where they differ."""
    counts = sorted({int(line["n"]) for _, line in lines})
    return " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))


def _board_line(tables: Any, name: str) -> tuple[str, Any]:
    """Return a row's name and line, with its difference to the source model at the same start."""
    lines = tables.frame(BOARD, "source+bn" if name.endswith("+bn") else "source")
    lines = lines[(lines["metric"] == METRIC) & (lines["variant"] == "")]
    return name, lines.set_index("method").loc[name]


def _board(axis: Any, lines: list[tuple[str, Any]]) -> None:
    """Draw a bar a row with its spread over seeds, its mean, and its difference by ``against``."""
    small: dict[str, Any] = {"fontsize": _SMALL, "va": "bottom", "color": "#444444"}
    for place, (method, line) in enumerate(lines):
        bound = method == UPPER_BOUND
        learns = not bound and method.removesuffix("+bn") != "source"
        shade = COLOURS[0] if learns else "#BBBBBB"
        axis.barh(place, line["mean"], height=0.46, color=shade)
        axis.errorbar(line["mean"], place, xerr=line["sd"], color=INK, linewidth=1, capsize=2)
        name = f"{method} (upper bound)" if bound else method
        axis.text(0, place - 0.3, name, fontsize=8.5, va="bottom", family="monospace")
        axis.text(1.08, place, f"{line['mean']:.3f}", fontsize=9, va="center")
        if not (bound or math.isnan(line["diff_mean"])):
            text = f"{line['diff_mean']:+.3f} {line['verdict']}".replace("-", "−")
            colour = _VERDICTS.get(line["verdict"], "#555555")
            axis.text(1.4, place, text, fontsize=9, va="center", color=colour)
            axis.text(1.4, place - 0.3, f"− {line['against']}", **small)
    axis.text(1.08, -0.3, "mean", **small)
    axis.set(xlim=(0, 1.86), ylim=(len(lines) - 0.6, -0.85))
    axis.axis("off")


def _frames(figure: Any, place: tuple[float, float, float, float]) -> None:
    """Draw the four panels of ``front-frames.png`` beside each other."""
    left, bottom, width, height = place
    panels = np.split(matplotlib.image.imread(FRAMES), 4, axis=1)
    names = ("what the camera sees", "truth", "source model", "transadapt")
    for number, (panel, name) in enumerate(zip(panels, names, strict=True)):
        span = width / len(panels)
        at = (left + number * span, bottom, span * 0.975, height * 0.9)
        axis = _picture(figure, panel, at)
        axis.set_title(name, fontsize=_SMALL + 0.5, loc="left", pad=2, color="#444444")


def _picture(figure: Any, pixels: Any, place: tuple[float, float, float, float]) -> Any:
    axis = figure.add_axes(place)
    axis.imshow(pixels, interpolation="nearest", aspect="auto")
    axis.axis("off")
    return axis


def cut(strip: Path) -> None:
    """Cut picture, truth and both answers from a strip of ``online-seg``, at their own size.

    Args:
        strip: a PNG as ``dabench.protocols.dense.strips`` joins them, of frames in 4:3.
    """
    pixels = matplotlib.image.imread(strip)
    gap, head, panels = 4, 18, 4
    wide = (pixels.shape[1] - gap * (panels - 1)) // panels
    factor = 2 if wide % LEAST_PANEL_WIDTH else 1
    parts = [
        pixels[head : head + wide * 3 // 4 : factor, left : left + wide : factor]
        for left in range(0, pixels.shape[1], wide + gap)
    ]
    matplotlib.image.imsave(FRAMES, np.concatenate(parts, axis=1), metadata={"Software": None})


if __name__ == "__main__":
    cut(Path(sys.argv[1]))
