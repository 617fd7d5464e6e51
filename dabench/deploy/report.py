"""``report.html``: what an adaptation changed, and what can be said of it without labels."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dabench.board.page.render import render
from dabench.board.page.svg import Picture, clipped, scale
from dabench.deploy.adapted import Adapted
from dabench.deploy.pictures import Pile

#: pictures that are shown of a kind; classes in the chart
SHOWN, MOST = 24, 40
_MEANINGS = {
    "im": "higher is better: sure answers that use the classes evenly",
    "entropy": "lower is surer; lowest for a model that calls everything by one name",
    "entropy-classes": "as entropy, every class that is answered counting alike",
    "snd": "higher is better: pictures have many neighbours with like answers",
}
_ROW, _NAME, _WIDTH, _NUMBER = 22, 130, 560, 110


def write_report(
    adapted: Adapted, pile: Pile, method: str, facts: Sequence[tuple[str, Any]]
) -> bytes:
    """Return the page.

    Args:
        adapted: the outcome.
        pile: the pictures, in the same order.
        method: its name.
        facts: name and value of what decided the outcome.
    """
    before, after = adapted.before.known, adapted.after.decided(len(adapted.classes))
    names = [*adapted.classes, "unknown"]
    changed = np.flatnonzero(before != after)
    unknown = np.flatnonzero(after == len(adapted.classes))
    order = changed[np.argsort(-adapted.after.confidence[changed], kind="stable")]
    share = len(changed) / len(after)
    headline = [
        ("images", f"{len(after):,}", f"{len(pile.unreadable)} could not be read"),
        ("answers changed", f"{share:.1%}", "disagreement with the model as it was"),
        ("classes in use", f"{effective(before):.1f} → {effective(after):.1f}", "exp of entropy"),
        (
            "mean confidence",
            f"{adapted.before.confidence.mean():.3f} → {adapted.after.confidence.mean():.3f}",
            "sureness is not accuracy",
        ),
    ]
    shown = {
        "changed": [
            _shot(pile, i, f"{names[before[i]]} → {names[after[i]]}") for i in order[:SHOWN]
        ],
        "unknown": [_shot(pile, i, f"was {names[before[i]]}") for i in unknown[:SHOWN]],
    }
    return render(
        "adapt.html.j2",
        method=method,
        where=f"{len(after):,} images, {len(adapted.classes)} classes",
        headline=headline,
        warnings=warnings_of(adapted),
        scores=_scores(adapted),
        histogram=_histogram(before, after, names).markup,
        changed_remark=f"{len(changed):,} of them; the surest {min(SHOWN, len(changed))}",
        unknown_remark=f"{len(unknown):,} of them; the first {min(SHOWN, len(unknown))}",
        facts=[*facts, *((k, f"{v:,.6g}") for k, v in adapted.cost.items())],
        **shown,
    )


def effective(labels: np.ndarray) -> float:
    """Return how many classes are in use: exp of the entropy of their shares, 1 to K."""
    counts = np.bincount(labels)
    p = counts[counts > 0] / len(labels)
    return float(np.exp(-(p * np.log(p)).sum()))


def warnings_of(adapted: Adapted) -> list[str]:
    """Return what speaks against the outcome, a sentence each."""
    k = len(adapted.classes)
    before, after = adapted.before.known, adapted.after.decided(k)
    found = []
    counts = np.bincount(after, minlength=k + 1)
    top = int(counts[:k].argmax())
    share, was = counts[top] / len(after), float((before == top).mean())
    if effective(after) < 0.6 * effective(before):
        found.append(
            f"Collapse: {effective(before):.1f} classes were in use, now {effective(after):.1f}. "
            "Methods that fail do so by calling everything by few names; lower the learning rate, "
            "or keep the model as it was."
        )
    elif k > 2 and min(share, was) > 0.95:
        found.append(
            f"Before and after nearly all images are called {adapted.classes[top]}: look at the "
            "model, its mean and std, and the order of the classes."
        )
    elif k > 2 and (share > 0.95 or (share > 0.5 and share > 1.5 * was)):
        found.append(
            f"{share:.0%} of the images are now {adapted.classes[top]} ({was:.0%} before). "
            "If that is not what they show, the adaptation has gone wrong."
        )
    if counts[k] > 0.6 * len(after):
        found.append(f"{counts[k] / len(after):.0%} of the images are called unknown.")
    changed = float((before != after).mean())
    if changed > 0.3:
        found.append(f"{changed:.0%} of the answers changed: look at the pictures.")
    scores = {s.metric: s.value for s in adapted.after.judged}
    old = {s.metric: s.value for s in adapted.before.judged}
    if (scores.get("im") or 0.0) < (old.get("im") or 0.0):
        found.append("The information maximisation score fell: answers are less sure or less even.")
    return found


def _scores(adapted: Adapted) -> list[tuple[str, str, str, str]]:
    old = {s.metric: s.value for s in adapted.before.judged}
    new = {s.metric: s.value for s in adapted.after.judged}
    return [(n, _number(old.get(n)), _number(new.get(n)), text) for n, text in _MEANINGS.items()]


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _histogram(before: np.ndarray, after: np.ndarray, names: Sequence[str]) -> Picture:
    size = len(names)
    old, new = (np.bincount(v, minlength=size) / len(v) for v in (before, after))
    shown = [i for i in range(size) if old[i] or new[i]]
    shown = sorted(shown, key=lambda i: -max(old[i], new[i]))[:MOST]
    end = max(float(max(old[i], new[i])) for i in shown)
    picture = Picture(_WIDTH, len(shown) * _ROW + 6, f"shares of {len(shown)} classes")
    x = scale(0, end, _NAME, _WIDTH - _NUMBER)
    for row, i in enumerate(shown):
        y = row * _ROW + 4.0
        told = f"{names[i]}: {old[i]:.1%} before, {new[i]:.1%} after"
        picture.text(_NAME - 8, y + 13, clipped(names[i], 18), told, css="end")
        for place, value, css in ((y, old[i], "bar baseline"), (y + 8, new[i], "bar method")):
            width = float(x(float(value))) - _NAME
            picture.mark("rect", told, css=css, x=_NAME, y=place, width=width, height=7.0)
        end_of_bars = x(float(max(old[i], new[i]))) + 6
        picture.text(end_of_bars, y + 13, f"{old[i]:.1%} → {new[i]:.1%}", css="tick")
    return picture


def _shot(pile: Pile, i: int, caption: str) -> dict[str, str]:
    from PIL import Image

    picture = Image.fromarray(pile.images[i])
    picture.thumbnail((96, 96))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    source = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return {"source": source, "name": pile.names[i], "caption": caption}
