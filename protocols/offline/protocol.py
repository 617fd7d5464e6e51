"""What every offline protocol shares: one split of the target, one way to fit and to score."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract.access import Recorder, Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.data import ClassSplit, DomainData, Labelled
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Build, Outcome, Plan, Run
from dabench.contract.seeding import seed, seed_everything, seeded
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray, Kind, Score, Task
from dabench.engine.fit import adapt, predict_all, predict_also
from dabench.errors import ConfigError, TrainingError
from dabench.metrics.predictions import Predictions
from dabench.metrics.scoring import Scorer, check_order
from dabench.protocols.common.granted import GrantedRecorder
from dabench.protocols.common.grants import check_grant
from dabench.protocols.common.rows import RowView
from dabench.protocols.offline.separations import SeparationRecorder
from dabench.protocols.offline.upper_bound import sees_labels
from dabench.registry.marks import TARGET_LABELS

#: part of the target -> segment of its scores
SEGMENTS = {"adapt": "all", "held-out": "held-out"}


class OfflineProtocol(ABC):
    """Adapt on unlabelled target images; score both parts of the target.

    Transductive scores (segment ``all``) are on the adapt set, inductive ones (``held-out``) on a
    stratified part of the target that was never adapted on. The last epoch counts.

    Args:
        held_out: share of the target per class that is never adapted on; 0 = the literature's
            purely transductive setting.
    """

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "classification"
    primary: ClassVar[str]
    open_set: ClassVar[bool]
    grant: ClassVar[type]
    #: whether the source model is an interface that answers, and not weights
    black_box: ClassVar[bool] = False
    #: whether ``--source`` may name several domains
    several_sources: ClassVar[bool] = False

    def __init__(self, *, held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3) -> None:
        self.held_out = held_out

    @abstractmethod
    def make_grant(self, plan: Plan, source: Any, run: Run, recorder: Recorder, cost: Cost) -> Any:
        """Return the grant: the one object that a method receives.

        What its networks do counts in ``cost``, which it does not hold itself; the target set is
        a copy, so that nothing a method does to it reaches what is scored.
        """

    @abstractmethod
    def class_split(self, data: DomainData) -> ClassSplit:
        """Return which classes source and target have."""

    def check_setting(self, *, init: str, batch_size: int, source: str, target: str) -> None:
        """Refuse what no data are needed to refuse.

        Raises:
            ConfigError: one domain for both.
        """
        if source and source == target:
            raise ConfigError(f"--source and --target are both '{source}'; choose two domains")

    def is_valid(self, data: DomainData) -> str | None:
        """Return why these data cannot be used, or None."""
        if data.source == data.target:
            return f"source and target are both '{data.source}'; choose two domains"
        if data.shifts is not None:
            return (
                f"the published corruptions of {data.dataset} are shifts of the streams "
                "(--protocol continual-tta); its clear images are a set of their own"
            )
        lacking = [name for name in self.class_split(data).source if name in data.unseen]
        if lacking:
            why = "and sf-osda is for such a target" if not self.open_set else "so it knows none"
            return (
                f"the source '{data.source}' has no image of {', '.join(lacking[:5])}"
                f"{f' and {len(lacking) - 5} more' if len(lacking) > 5 else ''}, {why}"
            )
        return None

    def choose_rows(self, rows: IntArray, truth: IntArray, num_known: int) -> IntArray:
        """Return the target rows to use (a hook for sub-sampling)."""
        return rows

    def plan(self, data: DomainData, batch_size: int, seed: int) -> Plan:
        """Select the classes, split the target per class, and freeze the stream."""
        split = self.class_split(data)
        names = split.source
        if split.source_private:  # the shared ones first would say which they are
            names = tuple(name for name in data.classes if name in names)
        own = [data.classes.index(name) for name in names]
        private = [data.classes.index(name) for name in split.unknown]
        table = np.full(len(data.classes), -1)
        table[private] = len(own)
        table[own] = np.arange(len(own))
        truth = table[data.target_all.labels]
        absent = [i for i, name in enumerate(names) if name in split.source_private]
        shown = (truth >= 0) & ~np.isin(truth, absent)
        rows = self.choose_rows(np.flatnonzero(shown), truth, len(own))
        check_order(truth[rows], f"{data.dataset}/{data.target}")
        held = _stratified(rows, data.target_all.labels, self.held_out)
        parts = {"adapt": np.setdiff1d(rows, held)}
        if len(held):
            parts["held-out"] = held
        segments = tuple((Segment(name, data.target), part) for name, part in parts.items())
        return Plan(
            task=Task(
                *("classification", names, data.image_size, self.open_set, data.flip),
                model_classes=data.model_classes,
                partial=bool(split.source_private),
            ),
            source=_select(data.source_train, table, len(own)),
            source_val=data.source_val and _select(data.source_val, table, len(own)),
            parts={name: Unlabelled(data.target_all.images, part) for name, part in parts.items()},
            truth={name: truth[part] for name, part in parts.items()},
            stream=Stream(segments, batch_size, seed, _sides(split)),
        )

    def run(self, build: Build, plan: Plan, source: Any, run: Run) -> Outcome:
        """Hand out the grant, fit, and let the scorers meet the truth.

        ``source`` is a network, or for black boxes a ``Remote``.

        Raises:
            AccessError: the method needs something that this protocol does not grant.
        """
        _, outcome, _ = self.adapt(build, plan, source, run)
        return outcome

    def adapt(
        self, build: Build, plan: Plan, source: Any, run: Run
    ) -> tuple[OfflineMethod, Outcome, dict[int, Predictions]]:
        """As ``run``; return the fitted method, too, and its predictions on the way, by epoch."""
        with seeded(seed(run.seed, "adaptation")):  # for a method that draws where it is built
            method = build()
        check_grant(method, self.grant)
        parts = {name: part.on(run.device) for name, part in plan.parts.items()}
        plan = replace(plan, parts=parts)
        kept = SeparationRecorder(run.recorder)
        cost = Cost()
        access = self.make_grant(plan, source, run, GrantedRecorder(kept), cost)
        seed_everything(seed(run.seed, "adaptation"))
        if labelled := sees_labels(method):
            method.reveal(plan.truth["adapt"])
        extras = (TARGET_LABELS,) if labelled else ()
        keep = self.several_sources
        # a copy: what a method reaches through its trainer is nothing that is scored
        shown = copy.copy(plan.parts["adapt"])
        curve, seconds = adapt(method, access, shown, cost, run, keep=keep)
        spent = {"images_forward": float(cost.forward), "images_backward": float(cost.backward)}
        outcome = Outcome(scores=[], cost=spent | {"adapt_seconds": seconds}, extras=extras)
        outcome.cost["parameters"] = float(sum(p.numel() for p in method.parameters()))
        for epoch, found in curve.items():
            outcome.curves += self.points(plan, found, epoch)
        outcome.curves += kept.scores(plan.truth["adapt"], plan.task.num_classes)
        last = run.budget.epochs if method.trains else 0
        self.score(method, plan, run, cost, last, outcome)
        for name, found in predict_also(method, plan.parts["adapt"], run.device, cost).items():
            if name in SEGMENTS.values():
                raise TrainingError(
                    f"{type(method).__name__}: also answered under the name '{name}', which scores "
                    "have already; give that answer another name"
                )
            outcome.scores += self.scorer(plan, "adapt", name)(found, last)
        if self.black_box:
            outcome.cost["oracle_queries"] = float(cost.queries)
            outcome.cost["oracle_queries_scoring"] = float(cost.scoring_queries)
        outcome.network = method.adapted_network()
        return method, outcome, curve

    def points(self, plan: Plan, found: Predictions, epoch: int) -> list[Score]:
        """Return what the curves have of an epoch, with labels and without."""
        scored = _without_classes(self.scorer(plan, "adapt")(found, epoch))
        return [*scored, *(replace(score, at=epoch) for score in found.judged)]

    def scorer(self, plan: Plan, part: str, segment: str | None = None) -> Scorer:
        """Return what meets a part's truth."""
        named = SEGMENTS[part] if segment is None else segment
        return Scorer(plan.truth[part], plan.task.classes, open_set=self.open_set, segment=named)

    def score(
        self, method: OfflineMethod, plan: Plan, run: Run, cost: Cost, last: int, outcome: Outcome
    ) -> None:
        """Add a method's scores on both parts after epoch ``last``, and its predictions."""
        for name, part in plan.parts.items():
            found = predict_all(
                method, part, run.device, cost, bar=run.progress, judge=name == "adapt"
            )
            outcome.scores += self.scorer(plan, name)(found, last)
            outcome.curves += [replace(score, at=last) for score in found.judged]
            outcome.arrays |= _arrays(name, found, plan)
        outcome.curves += _without_classes([s for s in outcome.scores if s.segment == "all"])


def _stratified(rows: IntArray, labels: IntArray, share: float) -> IntArray:
    """Draw ``share`` of every class, by image position, the same for every seed."""
    rng = np.random.default_rng(seed(0, "target", "held-out"))
    groups = [rows[labels[rows] == c] for c in np.unique(labels[rows])]
    drawn = [rng.permutation(group)[: round(share * len(group))] for group in groups]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _sides(split: ClassSplit) -> str:
    """Return what else decides the stream: the classes of a split whose name does not fix them."""
    return f"|{split.known}|{split.unknown}" if split.own else ""


def _select(data: Labelled, table: IntArray, num_known: int) -> Labelled:
    """Keep the known classes of source images, labelled 0..K-1."""
    labels = table[data.labels]
    rows = np.flatnonzero((labels >= 0) & (labels < num_known))
    if len(rows) == len(labels):
        return Labelled(data.images, labels, data.digest)
    return Labelled(RowView(data, rows), labels[rows], data.digest)


def _without_classes(scores: list[Score]) -> list[Score]:
    return [s for s in scores if s.metric != "class_accuracy"]


def _arrays(name: str, found: Predictions, plan: Plan) -> dict[str, np.ndarray]:
    """Per-sample predictions for the file beside the record (not the logits)."""
    decided = found.decided(plan.task.num_classes).astype(np.int16)
    columns: dict[str, np.ndarray] = {
        "row": dict(zip(plan.parts, (r for _, r in plan.stream.segments), strict=True))[name],
        "truth": plan.truth[name].astype(np.int16),
        "prediction": decided,
        "confidence": found.confidence.astype(np.float32),
    }
    if found.unknown_score is not None:
        columns["unknown_score"] = found.unknown_score.astype(np.float32)
    return {f"{name}.{key}": value for key, value in columns.items()}
