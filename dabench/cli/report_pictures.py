"""Pictures that a report makes when asked: features by class, and a stream as an animation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from dabench.board.page.page_records import Curve
    from dabench.config.settings import Settings

#: images whose features are drawn; classes that a legend names
MOST_POINTS, MOST_NAMES = 2000, 20
#: frames of an animation, images in each, and milliseconds that each is shown
FRAMES, SHOWN, PAUSE = 60, 6, 120
_SUFFIXES = (".webp", ".gif")


def draw_features(record: Mapping[str, Any], settings: Settings, how: str) -> Path:
    """Draw the adapt images' features before and after adaptation, coloured by their classes.

    The truth is the protocol's; no method sees it. Each network's features have a projection of
    their own: positions of the two panels cannot be compared, neighbourhoods can.

    Args:
        record: of a run of an offline protocol, whose model was kept (``run --save-model``).
        settings: where results, data and caches lie.
        how: ``pca``, or ``tsne`` (van der Maaten and Hinton, 2008) with scikit-learn's defaults.

    Returns:
        ``runs/RUN/report/features.png``.

    Raises:
        DabenchError: a stream, no kept model, data or source model that cannot be had.
    """
    import torch

    from dabench import registry
    from dabench.board.reproduce import spec_of
    from dabench.engine.setup.parts import load_plan
    from dabench.networks.batchnorm import set_features
    from dabench.oracle.start import open_start
    from dabench.source_models.kept_model import kept_model
    from dabench.source_models.model_files import load_model

    name = str(record["run_id"])
    spec = dataclasses.replace(spec_of(record), device="cpu")
    if getattr(registry.protocol(spec.protocol), "online", False):
        raise ConfigError(f"--features: {spec.protocol} is a stream, which leaves no model behind")
    kept = kept_model(settings.results / "runs" / name)
    if kept is None:
        raise ConfigError(
            f"--features: run {name} was made without its model; make it again with "
            "'dabench run ... --save-model' or 'dabench sweep --save-model'"
        )
    torch.set_num_threads(spec.threads)
    spec, data, protocol, plan = load_plan(spec, settings)
    _check_shown("--features", record, data, plan)
    networks: dict[str, Any] = {}
    if not getattr(protocol, "black_box", False):  # the source model only answers there
        start = open_start(spec, settings, protocol, plan, probe=False)
        networks["source model"] = start.source
        start.close()
    networks[f"after {spec.method}"] = load_model(kept)
    drawn = {}
    for title, network in networks.items():
        if not hasattr(network, "features"):
            raise ConfigError(f"--features: the model of run {name} is an ensemble of networks")
        drawn[title] = set_features(network, plan.parts["adapt"])[0].cpu().numpy()
    names = [*plan.task.classes, *(["unknown"] if plan.task.open_set else [])]
    out = settings.results / "runs" / name / "report" / "features.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    _scatter(drawn, plan.truth["adapt"], names, how).savefig(out, dpi=110)
    return out


def _check_shown(option: str, record: Mapping[str, Any], data: Any, plan: Any) -> None:
    """Refuse other images than those of the run: the picture would be of another run."""
    found = {"data": data.digest, "stream": plan.stream.digest}
    other = [name for name, digest in found.items() if record["ids"].get(name) != digest]
    if other:
        raise ConfigError(
            f"{option}: the {' and '.join(other)} of run {record['run_id']} had another digest: "
            "these are other images, or another release read them; give the images of the run "
            "(--data-root), or make the run again"
        )


def _scatter(drawn: Mapping[str, np.ndarray], truth: np.ndarray, names: list[str], how: str) -> Any:
    """Return a figure of one panel a network."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    rows = np.unique(np.linspace(0, len(truth) - 1, MOST_POINTS).astype(int))
    shades = colormaps["tab20"](np.arange(len(names)) % 20)
    figure = Figure(figsize=(5 * len(drawn) + 1.6, 5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(drawn)))
    for axis, (title, features) in zip(panels, drawn.items(), strict=True):
        place, labels = _projected(features[rows], how), truth[rows]
        for number, name in enumerate(names):
            own = labels == number
            unknown = name == "unknown" and number == len(names) - 1
            look = {"marker": "x", "color": "#777777"} if unknown else {"color": shades[number]}
            axis.scatter(*place[own].T, s=9, linewidths=0.7, label=name, **look)
        axis.set_title(title, fontsize=11, parse_math=False)
        axis.set(xticks=[], yticks=[])
    if len(names) <= MOST_NAMES:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def _projected(features: np.ndarray, how: str) -> np.ndarray:
    """Return (N, 2) coordinates of (N, D) features."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if how == "pca":
        found: np.ndarray = PCA(2, random_state=0).fit_transform(features)
        return found
    few = min(30.0, (len(features) - 1) / 3)
    found = TSNE(2, perplexity=few, init="pca", random_state=0).fit_transform(features)
    return found


def animate(record: Mapping[str, Any], settings: Settings, out: Path) -> Path:
    """Draw a stream as an animation: what arrives, and the running figure up to there.

    Args:
        record: of a run on a stream, whole, with its curves.
        settings: where data lie.
        out: ends in ``.webp`` or ``.gif``.

    Returns:
        ``out``.

    Raises:
        DabenchError: no stream, no curves, another ending, data that cannot be had.
    """
    from dabench import registry
    from dabench.board.page.page_records import running_curves
    from dabench.board.reproduce import spec_of
    from dabench.engine.setup.parts import load_plan

    if out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--animate {out}: end the name in {' or '.join(_SUFFIXES)}")
    spec = spec_of(record)
    if not getattr(registry.protocol(spec.protocol), "online", False):
        raise ConfigError(f"--animate: {spec.protocol} is no stream")
    curves = running_curves(record)
    if not curves:
        raise ConfigError(f"--animate: run {record['run_id']} has no running figure to draw")
    _, data, _, plan = load_plan(spec, settings)
    _check_shown("--animate", record, data, plan)
    out.parent.mkdir(parents=True, exist_ok=True)
    frames = _frames(plan, curves, spec.method)
    first, *rest = frames
    first.save(out, save_all=True, append_images=rest, duration=PAUSE, loop=0, quality=80)
    return out


def _frames(plan: Any, curves: list[Curve], method: str) -> list[Any]:
    """Return the frames as PIL images."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    from dabench.contract.protocol import DensePlan
    from dabench.protocols.streams.layout import batches_of
    from dabench.protocols.streams.pictures import StreamPictures

    batches, segments = batches_of(plan.stream)
    if isinstance(plan, DensePlan):
        pictures = StreamPictures(plan.frames.images, plan.stream, plan.stream.seed)
    else:
        pictures = StreamPictures(plan.images, plan.stream, published=plan.published)
    figure = Figure(figsize=(7.2, 4.05), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # its stubs lack types
    grid = figure.add_gridspec(2, SHOWN, height_ratios=(1.0, 1.7))
    tiles = [figure.add_subplot(grid[0, place]) for place in range(SHOWN)]
    chart = figure.add_subplot(grid[1, :])
    top = max(float(curve.value.max()) for curve in curves)
    chart.set(
        xlim=(0, len(batches)),
        ylim=(0, min(1.0, top * 1.15 + 0.02)),
        xlabel="batch",
        ylabel="running figure",
    )
    lines = [
        chart.plot([], [], label=curve.name or method, color="#888888" if curve.name else "#1f5fa8")
        for curve in curves
    ]
    chart.legend(loc="upper right", fontsize=8)
    for segment in segments[1:]:
        chart.axvline(segment.first, color="#cccccc", linewidth=0.6)
    for tile in tiles:
        tile.axis("off")
    found = []
    for step in np.unique(np.linspace(0, len(batches) - 1, FRAMES).astype(int)).tolist():
        shown = pictures.of_step(step)[:SHOWN]
        for tile, picture in zip(tiles, shown, strict=False):
            tile.clear()
            tile.axis("off")
            tile.imshow(picture)
        for (line,), curve in zip(lines, curves, strict=True):
            past = curve.at <= step + 1
            line.set_data(curve.at[past], curve.value[past])
        now = next(s.name for s in segments if s.first <= step < s.last)
        figure.suptitle(now, fontsize=12, parse_math=False)
        canvas.draw()
        found.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return found
