"""The texts of the pages: protocols, metrics, verdicts, numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from dabench.board.statistics.seeds import LOWER_IS_BETTER, MIN_PAIRS
from dabench.registry import STREAMS
from dabench.registry.method_info import TARGET_TUNED

#: metric, or ``metric/segment`` -> what it is; this is also the order of a table's columns
METRICS: dict[str, str] = {
    "HOS": "harmonic mean of OS*, accuracy on the known classes, and UNK, the share of the private "
    "images called unknown",
    "OS*": "mean over the known classes of per-class accuracy",
    "UNK": "share of the private images that are called unknown",
    "accuracy": "share of the images that are right",
    "accuracy/final": "accuracy on the last, worst level of the stream",
    "mean_class_accuracy": "mean over the classes of per-class accuracy",
    "mIoU/mean-conditions": "mean over the conditions of the pooled intersection over union",
    "mIoU": "mean over the classes of intersection over union, pooled over the stream",
    "mIoU/worst-condition": "mIoU under the condition where it is least",
    "AUROC": "chance that a private image has the higher unknown score",
    "OSCR": "known images right and accepted, against private images accepted (area)",
    "FPR95": "private images accepted where 95 % of the known ones are",
    "NMI": "whether clusters of their features tell the private classes apart",
    "H3": "harmonic mean of OS*, UNK and NMI",
    "OS": "mean over the known classes and UNK; never ranked",
    "AUROC-maxprob": "AUROC of 1 − the largest probability: one ruler for all rows",
    "pixel_accuracy": "share of the labelled pixels that are right",
    "accuracy/last-round": "accuracy over the last visit of a stream that comes again",
    "accuracy/worst-window": "least accuracy over a window of the stream",
    "collapsed": "share of the stream after accuracy fell .10 below the source model's for good",
    "forgetting": "accuracy on clear held-out images that was lost on the way",
    "ECE": "calibration error of the top-1 confidence, 15 bins",
    "recovery": "images from a shift until accuracy is what it stays at, mean over shifts",
    "missed": "share of the batches that came while the method was still at work",
    "below_source": "1 where the source model would have done better",
    "share_below": "share of the conditions in which the row is below source or bn-adapt",
}
#: segments that are part of a table; all others stand in the list of a cell's scores
SEGMENTS = (
    *("", "held-out", "final", "last-round", "worst-window"),
    *("mean-conditions", "worst-condition"),
)
#: metrics that never have a column of their own in a table
HIDDEN = frozenset({"class_accuracy", "class_iou", "short", "unlabelled"})
#: a row's mark -> what it says; in the order of the legend
MARKS: dict[str, str] = {
    "reconstruction": "the paper's own code or text was not at hand",
    "upper bound": "trained with target labels; it does not rank",
    "+target-labels": "was shown target labels; it does not rank",
    TARGET_TUNED: "labels of the target chose its options; it does not rank",
    "below source": "worse than the source model on its stream",
    "+answers-after": "answers a stream after its update; it does not rank",
    "+buffer": "keeps images of the target",
    "+source-parts": "has modules that were trained on source data in advance",
    "+source-statistics": "has means and variances of the source's features",
    "+fisher-images": "has source images without labels",
    "+frozen-trunk": "another source model: its trunk is as it was pretrained",
}
SIGNS = {"win": "▲", "loss": "▼", "tie": "="}
#: what a method gets under a protocol, in the order of the tabs
GRANTS: dict[str, str] = {
    "sf-osda": "unlabelled target images and a copy of the source model; some of the images "
    "belong to classes that the source never saw",
    "sf-uda": "unlabelled target images and a copy of the source model; both domains have the "
    "same classes",
    "sf-pda": "unlabelled target images and a copy of the source model, which also knows classes "
    "that the target lacks",
    "sf-unida": "unlabelled target images and a copy of the source model; each domain also has "
    "classes that the other lacks",
    "sf-msda": "unlabelled target images and copies of several source models, one at a time; their "
    "mean answers",
    "bb-uda": "unlabelled target images and the answers of a source model whose weights it never "
    "sees",
    "bb-osda": "as in bb-uda; some of the images belong to classes that the source never saw",
    "gradual-weather": "a copy of the source model and one batch at a time, each once, while the "
    "weather worsens level by level",
    "online-tta": "a copy of the source model and one batch at a time, each once; under every "
    "shift it begins afresh",
    "continual-tta": "a copy of the source model and one batch at a time, each once, under shift "
    "after shift without a reset",
    "online-seg": "a copy of the source model and one frame at a time, which it segments at once, "
    "under changing weather",
}
#: how a remark begins that needs more room than a column of numbers has
_SHORT = (
    *("tuned", "other protocol version", "other start version"),
    *("seeds of several machines", "other machine"),
)


@dataclass(frozen=True)
class Explained:
    """A term and its meaning."""

    term: str
    meaning: str


def protocol_summary(protocol: str) -> str:
    """Return what a protocol is, in one sentence."""
    granted = GRANTS.get(protocol)
    return f"The method gets {granted}." if granted else "A protocol of your own."


def ranked_by(protocol: str, metric: str) -> str:
    """Return how the rows of a protocol are compared."""
    counts = "as it was answered when it came" if is_stream(protocol) else "after the last epoch"
    means = "".join(f" ({entry.meaning})" for entry in explain([metric]))
    return (
        f"Ranked by {metric}{means}, {counts}, as the mean over seeds. Intervals are 95 % "
        f"t-intervals over seeds; with fewer than {MIN_PAIRS} seeds the range stands in their "
        "place, and there is no verdict. Differences are paired by seed."
    )


def is_stream(protocol: str) -> bool:
    """Return whether images come batch by batch and are answered at once."""
    return protocol in STREAMS


def headline_metrics(keys: Iterable[str], primary: str, most: int) -> list[str]:
    """Return the metrics that have a column beside the primary one, in reading order."""
    order = {name: place for place, name in enumerate(METRICS)}

    def place(key: str) -> tuple[bool, bool, int, str]:
        held_out = key.endswith("/held-out")
        name = key.removesuffix("/held-out")
        return (held_out and name != primary, name not in order, order.get(name, 99), key)

    kept = [k for k in keys if k != primary and in_table(k)]
    return sorted(kept, key=place)[:most]


def in_table(key: str) -> bool:
    """Return whether a metric may have a column of its own."""
    name, _, segment = key.partition("/")
    return name not in HIDDEN and segment in SEGMENTS


def explain(keys: Sequence[str]) -> list[Explained]:
    """Return the meaning of metrics; lower-is-better ones say so."""
    found = {}
    for key in keys:
        name = key if key in METRICS else key.partition("/")[0]
        if name in METRICS:
            less = " (less is better)" if name.partition("/")[0] in LOWER_IS_BETTER else ""
            found[name] = METRICS[name] + less
    return [Explained(name, meaning) for name, meaning in found.items()]


def explain_marks(marks: Iterable[str]) -> list[Explained]:
    """Return the meaning of rows' marks, as far as they have one."""
    found = set(marks)
    return [Explained(name, meaning) for name, meaning in MARKS.items() if name in found]


def runs_said(runs: int, remark: str) -> str:
    """Return how many runs a row has, with its remark in few words: no screen hides those.

    Args:
        runs: their number.
        remark: as ``column.RowResult`` makes it.
    """
    said, more = str(runs), []
    for part in filter(None, remark.split("; ")):
        if part == TARGET_TUNED:
            more.append(part)
        elif found := re.fullmatch(r"(\d+) of (\d+) seeds", part):
            whole = int(found[1]) == runs
            said = f"{runs} of {found[2]}" if whole else f"{runs}, {part}"
        elif found := re.match(r"hole in (\d+) ", part):
            more.append(f"{found[1]} hole{'s' if found[1] != '1' else ''}")
        else:
            more.append(next((w for w in _SHORT if part.startswith(w)), "see its runs"))
    return ", ".join(dict.fromkeys([said, *more]))


def number(value: float | None, digits: int = 3) -> str:
    """Return a fraction; a hole is a dash."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None) -> str:
    """Return a difference with its sign."""
    return number(value) if value is None or value < 0 else f"+{number(value + 0.0)}"


def span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Return an interval, or nothing where there is none."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    show = signed if sign else number
    return f"[{show(low)}, {show(high)}]"


def seconds(value: float) -> str:
    """Return a duration as people say it."""
    if value < 90:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def size(value: float) -> str:
    """Return bytes as people say them."""
    return f"{value / 2**20:.0f} MiB" if value < 2**30 else f"{value / 2**30:.1f} GiB"


def fragment(text: str) -> str:
    """Return text as a part of a link within the page; no sign of it ends the part."""
    return quote(text, safe="", errors="replace")


def count(value: float) -> str:
    """Return a number of things with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")
