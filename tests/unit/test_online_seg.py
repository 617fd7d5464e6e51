"""Protocol ``online-seg`` on a tiny made-up stream: numbers by hand, timings, pictures."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dabench.config.spec import resolve
from dabench.contract.protocol import Outcome, Resume
from dabench.contract.types import IGNORE, Prediction
from dabench.engine.recording import BoardRecorder
from dabench.errors import AccessError, CacheError, ConfigError, DataError, TrainingError
from dabench.protocols.dense import strips
from dabench.protocols.dense.outcome import dense_outcome
from dabench.protocols.dense.scores import DenseStreamLayout, ScoreGroups, check_names
from dabench.protocols.offline.upper_bound import TargetSupervised
from dabench.protocols.online_seg import OnlineSegmentation
from dabench.protocols.streams import extras as granted
from dabench.protocols.streams.layout import SegmentSteps
from dabench.protocols.streams.shifts import render

CONDITIONS = ("fog-3", "rain-3", "low-light-3")


def same_arrays(one: Outcome, two: Outcome, *names: str) -> bool:
    """Return whether some arrays (default: all) are equal."""
    return all((one.arrays[n] == two.arrays[n]).all() for n in names or one.arrays)


def iou_by_hand(predicted: np.ndarray, truth: np.ndarray) -> list[float | None]:
    """Return the IoU by class, counted pixel set by pixel set."""
    seen = truth != IGNORE
    found: list[float | None] = []
    for c in range(3):
        said, true = (predicted == c) & seen, (truth == c) & seen
        found.append((said & true).sum() / (said | true).sum() if (said | true).any() else None)
    return found


def test_a_method_that_stands_still_scores_as_the_source(dense: Any) -> None:
    outcome = dense.run(dense.Still)
    found = dense.values(outcome)
    assert (outcome.arrays["stream.before"] == outcome.arrays["stream.source"]).all()
    assert (outcome.arrays["stream.after"] == outcome.arrays["stream.source"]).all()
    for key in ("mIoU", "mIoU/mean-conditions", "mIoU/fog-3", "pixel_accuracy/rain-3"):
        metric, _, segment = key.partition("/")
        assert found[key] == found[f"{metric}/{segment}/before".replace("//", "/")]
    assert [found[f"below_source{s}"] for s in ("", "/fog-3", "/before")] == [0, 0, 0]
    own, source = ([s.value for s in outcome.curves if s.segment == n] for n in ("all", "source"))
    assert own == source
    assert len(own) == 3 * dense.FRAMES


def test_scores_by_hand(dense: Any) -> None:
    """Pictures, network and truth once more, frame by frame, without the protocol."""
    protocol = OnlineSegmentation()
    data = dense.data()
    plan = protocol.plan(data, 1, 0)
    net = dense.Net().eval()
    outcome = dense.run(dense.Still, protocol, plan)
    found, means = dense.values(outcome), []
    everything: list[np.ndarray] = []
    for under, rows in plan.stream.segments:
        pictures = render(data.target_all.images, rows, under, 0)
        with torch.no_grad():
            answer = net(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255).argmax(1).numpy()
        iou = iou_by_hand(answer, data.target_all.masks[rows])
        for name, value in zip(dense.CLASSES, iou, strict=True):
            assert found[f"class_iou/{under.name}/{name}"] == pytest.approx(value)
        means.append(np.mean(iou))
        assert found[f"mIoU/{under.name}"] == pytest.approx(means[-1])
        assert found[f"mIoU-2/{under.name}"] == pytest.approx((iou[0] + iou[2]) / 2)
        everything.append(np.stack((answer, data.target_all.masks[rows])))
    answer, truth = np.concatenate(everything, axis=1)
    assert found["mIoU"] == pytest.approx(np.mean(iou_by_hand(answer, truth)))
    assert found["mIoU/mean-conditions"] == pytest.approx(np.mean(means))
    assert found["mIoU/worst-condition"] == pytest.approx(min(means))
    right = (answer == truth)[truth != IGNORE]
    assert found["pixel_accuracy"] == pytest.approx(right.mean())
    assert 0.2 < found["mIoU"] < 0.99, "these frames test nothing"


def test_who_is_below_the_source() -> None:
    good, fair, bad = (torch.tensor([[[n, 4 - n], [4 - n, n]]]) for n in (4, 3, 2))
    groups = ScoreGroups(("a", "b"), ("fog-1",), ("fog-1",), (1,), 1)
    layout = DenseStreamLayout((SegmentSteps("fog-1", 0, 1),), 1)
    steps = {"before": good, "after": bad, "source": fair}
    found = {s.key: s.value for s in dense_outcome(steps, layout, groups, "after").scores}
    assert (found["below_source"], found["below_source/fog-1"]) == (1.0, 1.0)
    assert (found["below_source/before"], found["below_source/fog-1/before"]) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["Learner", "LateLearner"])
def test_the_two_timings(dense: Any, name: str) -> None:
    build = getattr(dense, name)
    after, before = (dense.run(build, OnlineSegmentation(timing=t)) for t in ("after", "before"))
    assert same_arrays(after, before)  # what ranks does not move what is learned
    assert (after.arrays["stream.before"] != after.arrays["stream.after"]).any()
    one, two = dense.values(after), dense.values(before)
    for key in ("mIoU/mean-conditions", "below_source/fog-3", "mIoU-2/rain-3"):
        assert one[key] == two[f"{key}/after"]
        assert two[key] == one[f"{key}/before"]
    assert "mIoU/before" not in two
    # the pass that only the other timing needs costs nothing
    steps = 3 * dense.FRAMES
    passes = {"Learner": (2, 1), "LateLearner": (2, 3)}[name]
    assert [o.cost["images_forward"] for o in (after, before)] == [steps * n for n in passes]
    assert after.cost["images_backward"] == before.cost["images_backward"]


def test_before_is_before(dense: Any) -> None:
    """The answer before a step is the one after the last step's update, given anew."""
    once = OnlineSegmentation(conditions="clear")
    early, late = (dense.run(getattr(dense, n), once) for n in ("Learner", "LateLearner"))
    assert same_arrays(early, late, "stream.before", "stream.after")
    first = early.arrays["stream.before"][0]
    assert (first == early.arrays["stream.source"][0]).all()


@pytest.mark.parametrize("name", ["Learner", "LateLearner"])
def test_a_method_that_spoils_its_pictures_spoils_no_other_row(dense: Any, name: str) -> None:
    base = getattr(dense, name)

    class Spoiler(base):  # type: ignore[misc, valid-type]
        """Wipes what it was asked about."""

        def predict(self, images: Any) -> Any:
            found = super().predict(images)
            images.zero_()
            return found

    honest, spoilt = dense.run(base), dense.run(Spoiler)
    for kept in ("stream.source", "stream.before", "stream.after"):
        assert np.array_equal(honest.arrays[kept], spoilt.arrays[kept])


def test_a_method_without_state_is_asked_once(dense: Any) -> None:
    fixed = type("Fixed", (dense.Still,), {"trains": False})
    outcome = dense.run(fixed)
    assert outcome.cost["images_forward"] == 3 * dense.FRAMES
    assert dense.values(outcome) == dense.values(dense.run(dense.Still))
    assert outcome.cost["frames_per_second"] > 0
    speed = 3 * dense.FRAMES / outcome.cost["adapt_seconds"]
    assert outcome.cost["frames_per_second"] == pytest.approx(speed)


def test_classes_without_a_pixel(dense: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Absent and never said: left out. Absent but said: 0."""
    masks = np.where(dense.frames(2).masks == 1, 0, dense.frames(2).masks)
    target = dataclasses.replace(dense.frames(2), masks=masks)

    class Says(dense.Still):  # type: ignore[name-defined,misc]
        said: ClassVar[Any] = (0, 2)

        def answer(self, images: Tensor) -> Tensor:
            logits = torch.zeros(len(images), 3, *images.shape[2:])
            for half, c in enumerate(self.said):
                logits[:, c, :, half * 16 : half * 16 + 16] = 1
            return logits

        def step(self, batch: Any) -> Tensor:
            return self.answer(batch.images)

        def predict(self, images: Tensor) -> Any:
            return Prediction(self.answer(images))

    protocol = OnlineSegmentation(conditions="clear")
    plan = protocol.plan(dense.data(target_all=target), 1, 0)
    with caplog.at_level(logging.WARNING, logger="dabench"):
        found = dense.values(dense.run(Says, protocol, plan))
    answer = np.zeros_like(masks)
    answer[:, :, 16:] = 2
    iou = iou_by_hand(answer, masks)
    assert iou[1] is None
    assert found["class_iou/tree"] is found["class_iou/clear/tree"] is None
    assert found["mIoU"] == pytest.approx((iou[0] + iou[2]) / 2)
    told = [r.message for r in caplog.records if "left out" in r.message]
    assert told == ["no pixel in truth or answers, left out of the mean IoU: clear: tree"]
    Says.said = (0, 1)
    found = dense.values(dense.run(Says, protocol, plan))
    answer[:, :, 16:] = 1
    assert found["class_iou/tree"] == found["class_iou/sky"] == 0
    assert found["mIoU"] == pytest.approx(iou_by_hand(answer, masks)[0] / 3)


def test_frames_without_labels_are_adapted_on(dense: Any, caplog: pytest.LogCaptureFixture) -> None:
    masks = dense.frames(2).masks.copy()
    masks[4] = IGNORE
    target = dataclasses.replace(dense.frames(2), masks=masks)
    protocol = OnlineSegmentation(conditions="fog:3")
    outcome = dense.run(dense.Learner, protocol, protocol.plan(dense.data(target_all=target), 1, 0))
    whole = dense.run(dense.Learner, protocol)
    step = int(np.flatnonzero(outcome.arrays["stream.row"] == 4)[0])
    assert outcome.arrays["stream.after"][step].sum() == 0
    others = [i for i in range(dense.FRAMES) if i != step]
    for name in ("stream.before", "stream.after"):
        np.testing.assert_array_equal(outcome.arrays[name][others], whole.arrays[name][others])
    assert dense.values(outcome)["unlabelled"] == pytest.approx(1 / 9)
    assert dense.values(whole)["unlabelled"] == 0
    assert "1 of 9 frames have no labelled pixel" in caplog.text
    masks[:] = IGNORE
    nothing = dense.run(dense.Still, protocol, protocol.plan(dense.data(target_all=target), 1, 0))
    found = dense.values(nothing)
    assert found["mIoU/mean-conditions"] is found["below_source"] is found["mIoU"] is None
    assert nothing.curves == []


# -- schedules ------------------------------------------------------------


def starts(dense: Any, protocol: OnlineSegmentation) -> tuple[list[str], int]:
    """Return the segments' names, and how many methods were begun."""
    begun: list[int] = []

    class Counted(dense.Still):  # type: ignore[name-defined,misc]
        def begin(self, access: Any) -> None:
            super().begin(access)
            begun.append(1)

    plan = protocol.plan(dense.data(), 1, 0)
    dense.run(Counted, protocol, plan)
    return [under.name for under, _ in plan.stream.segments], len(begun)


def test_schedules(dense: Any) -> None:
    assert starts(dense, OnlineSegmentation()) == (list(CONDITIONS), 3)
    assert starts(dense, OnlineSegmentation(schedule="cycle")) == (list(CONDITIONS), 1)
    twice = OnlineSegmentation(schedule="cycle", rounds=2, conditions="fog:3,clear")
    assert starts(dense, twice) == (["fog-3@1", "clear@1", "fog-3@2", "clear@2"], 1)
    ramp = OnlineSegmentation(schedule="ramp", conditions="clear,fog:3,rain:2")
    names = ["clear", "fog-1", "fog-2", "fog-3", "rain-1", "rain-2"]
    assert starts(dense, ramp) == (names, 3)
    plan = ramp.plan(dense.data(), 1, 0)
    order = [list(rows) for _, rows in plan.stream.segments]
    assert order[0] == order[1] + order[2] + order[3] == order[4] + order[5]
    keys = dense.values(dense.run(dense.Still, ramp))
    assert {"mIoU/fog-to-3", "mIoU/rain-to-2", "mIoU/clear", "mIoU/fog-2"} <= keys.keys()
    values = [keys[f"mIoU/{name}"] for name in ("fog-to-3", "rain-to-2", "clear")]
    assert keys["mIoU/mean-conditions"] == pytest.approx(np.mean(values))


def test_rounds_are_scored_apart_and_together(dense: Any) -> None:
    protocol = OnlineSegmentation(schedule="cycle", rounds=2, conditions="fog:3,rain:3")
    outcome = dense.run(dense.Learner, protocol)
    found = dense.values(outcome)
    counts = outcome.arrays["segment.after"]  # fog@1, rain@1, fog@2, rain@2

    def iou(*segments: int) -> float:
        pooled = counts[list(segments)].sum(0)
        union = pooled.sum(0) + pooled.sum(1) - np.diag(pooled)
        return float(np.mean(np.diag(pooled) / union))

    expected = {"fog-3": (0, 2), "rain-3": (1, 3), "round-1": (0, 1), "round-2": (2, 3)}
    expected |= {"fog-3@1": (0,), "rain-3@1": (1,), "fog-3@2": (2,), "rain-3@2": (3,)}
    for name, segments in expected.items():
        assert found[f"mIoU/{name}"] == pytest.approx(iou(*segments))
    assert found["mIoU"] == pytest.approx(iou(0, 1, 2, 3))
    assert found["mIoU/mean-conditions"] == pytest.approx((iou(0, 2) + iou(1, 3)) / 2)
    np.testing.assert_array_equal(counts.sum(0), outcome.arrays["stream.after"].sum(0))


def test_a_seed_draws_the_start_and_the_weather(dense: Any) -> None:
    protocol, data = OnlineSegmentation(), dense.data()
    plans = [protocol.plan(data, 64, seed) for seed in range(8)]
    orders = [plan.stream.segments[0][1] for plan in plans]
    for order in orders:
        assert sorted(order) == list(range(dense.FRAMES))
        assert set(np.diff(order)) <= {1, 1 - dense.FRAMES}  # frame order, but for one seam
    assert len({int(order[0]) for order in orders}) > 3
    assert len({plan.stream.digest for plan in plans}) == 8
    assert {plan.stream.batch_size for plan in plans} == {1}
    moved = dataclasses.replace(plans[0].stream, seed=1)
    one = dense.run(dense.Still, protocol, plans[0])
    two = dense.run(dense.Still, protocol, dataclasses.replace(plans[0], stream=moved))
    assert (one.arrays["stream.row"] == two.arrays["stream.row"]).all()
    assert (one.arrays["stream.source"] != two.arrays["stream.source"]).any()


# -- what must not matter ------------------------------------------------------------


def shown(outcome: Outcome) -> np.ndarray:
    """Return (steps, K) pixels answered by class, whatever the truth."""
    counts: np.ndarray = outcome.arrays["stream.after"].sum(1)
    return counts


def test_labels_do_not_matter(dense: Any) -> None:
    class Watched(dense.Learner):  # type: ignore[name-defined,misc]
        answers_given: ClassVar[list[bytes]] = []

        def step(self, batch: Any) -> Tensor:
            logits = super().step(batch)
            self.answers_given.append(logits.numpy().tobytes())
            return logits

    protocol = OnlineSegmentation()
    plan = protocol.plan(dense.data(), 1, 0)
    rng = np.random.default_rng(0)
    masks = rng.permuted(plan.frames.masks.reshape(dense.FRAMES, -1), axis=1)
    masks = masks.reshape(plan.frames.masks.shape)
    blinded = dataclasses.replace(plan, frames=dataclasses.replace(plan.frames, masks=masks))
    one = dense.run(Watched, protocol, plan)
    honest, Watched.answers_given = Watched.answers_given, []
    two = dense.run(Watched, protocol, blinded)
    assert Watched.answers_given == honest
    assert len(honest) == 3 * dense.FRAMES
    assert one.scores != two.scores


def test_the_upper_bound_is_shown_the_labels_of_the_present_frame(
    dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def begin(self: Any, access: Any) -> None:
        self.access, self.net = access, access.source_model.eval()

    def step(self: Any, batch: Any) -> Tensor:
        seen.append(self.truth.numpy())
        return self.net(batch.images).detach()

    monkeypatch.setattr(TargetSupervised, "begin", begin)
    monkeypatch.setattr(TargetSupervised, "step", step)
    monkeypatch.setattr(TargetSupervised, "predict", lambda self, x: Prediction(self.net(x)))
    protocol = OnlineSegmentation(conditions="fog:3")
    plan = protocol.plan(dense.data(), 1, 0)
    found = dense.run(TargetSupervised, protocol, plan)
    rows = found.arrays["stream.row"]
    np.testing.assert_array_equal(np.concatenate(seen), plan.frames.masks[rows])
    assert found.extras == ("target-labels",)


def test_who_inherits_from_the_upper_bound_is_shown_no_labels(dense: Any) -> None:
    class Heir(dense.Still, TargetSupervised):  # type: ignore[name-defined,misc]
        def begin(self, access: Any) -> None:
            self.access, self.net = access, access.source_model.eval()

        def reveal(self, truth: Any) -> None:
            raise AssertionError("labels were handed over")

    assert dense.run(Heir, OnlineSegmentation(conditions="fog:3")).extras == ()


def test_what_a_method_was_built_as_says_who_sees_labels(
    dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    class Turncoat(dense.Still, TargetSupervised):  # type: ignore[name-defined,misc]
        def begin(self, access: Any) -> None:
            super().begin(access)
            self.__class__ = TargetSupervised

    def begin(self: Any, access: Any) -> None:
        self.access, self.net = access, access.source_model.eval()

    def step(self: Any, batch: Any) -> Tensor:
        self.__class__ = Turncoat
        return self.net(batch.images).detach()

    monkeypatch.setattr(TargetSupervised, "begin", begin)
    monkeypatch.setattr(TargetSupervised, "step", step)
    monkeypatch.setattr(TargetSupervised, "reveal", lambda self, truth: shown.append("labels"))
    protocol = OnlineSegmentation(conditions="fog:3")
    assert dense.run(Turncoat, protocol).extras == ()
    assert not shown
    assert dense.run(TargetSupervised, protocol).extras == ("target-labels",)
    assert shown


def test_the_future_does_not_matter(dense: Any) -> None:
    protocol = OnlineSegmentation(schedule="cycle")
    plan = protocol.plan(dense.data(), 1, 0)
    *past, (under, rows) = plan.stream.segments
    changed = dataclasses.replace(plan.stream, segments=(*past, (under, rows[::-1].copy())))
    one = dense.run(dense.Learner, protocol, plan)
    two = dense.run(dense.Learner, protocol, dataclasses.replace(plan, stream=changed))
    n = 2 * dense.FRAMES
    np.testing.assert_array_equal(one.arrays["stream.after"][:n], two.arrays["stream.after"][:n])
    assert (one.arrays["stream.after"][n:] != two.arrays["stream.after"][n:]).any()


# -- pictures ------------------------------------------------------------


def test_strips(dense: Any, tmp_path: Path) -> None:
    with BoardRecorder(tmp_path / "board") as recorder:
        protocol = OnlineSegmentation()
        plan = protocol.plan(dense.data(), 1, 0)
        outcome = dense.run(dense.Still, protocol, plan, report=tmp_path / "r", recorder=recorder)
        recorder.finish(outcome, plan)
    names = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert names == sorted(f"{c}-{row:06d}.png" for c in CONDITIONS for row in (0, 3, 5, 8))
    dense.run(dense.Still, seed=5, report=tmp_path / "other")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == names
    picture = cv2.imread(str(tmp_path / "r" / "fog-3-000003.png"))[..., ::-1]
    large, gap = 8 * dense.WIDTH, 4
    assert picture.shape[1] == 4 * large + 3 * gap
    panel = picture[18 : 18 + 8 * dense.HEIGHT : 8, large + gap : 2 * large + gap : 8]
    np.testing.assert_array_equal(panel, strips.paint_classes(dense.frames(2).masks[3]))
    found = EventAccumulator(str(tmp_path / "board"), {"images": 0, "scalars": 0}).Reload()
    assert len(found.Images("strips/fog-3")) == 4
    assert len(found.Images("confusion/before")) == 1
    assert [e.step for e in found.Scalars("live/running_mIoU")] == [0, 10, 20]


def test_which_frames_are_drawn() -> None:
    assert strips.steps_to_draw(["a"] * 9, [5, 6, 7, 8, 0, 1, 2, 3, 4]) == {4, 7, 0, 3}
    assert strips.steps_to_draw(["a", "a"], [1, 0]) == {0, 1}
    assert strips.steps_to_draw(["a", "b", "a", "b"], [0, 0, 0, 0]) == {2, 3}  # the last round
    assert len(strips.steps_to_draw([str(i // 9) for i in range(90)], list(range(90)))) == 10
    assert len(strips.steps_to_draw([str(i) for i in range(40)], [0] * 40)) == strips.MOST_IN_ALL


def test_colours() -> None:
    assert len({strips.class_colour(i) for i in range(40)}) == 40
    assert (0, 0, 0) not in {strips.class_colour(i) for i in range(40)}
    assert (strips.paint_classes(np.array([[0, IGNORE]])) == [[strips.PALETTE[0], (0, 0, 0)]]).all()


def test_many_counts_are_kept_by_segment(dense: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dabench.protocols.dense.outcome.MOST_BYTES", 100)
    found = dense.run(dense.Still).arrays
    assert "stream.after" not in found
    assert found["segment.after"].shape == (3, 3, 3)
    assert found["stream.segment"].tolist() == [0] * 9 + [1] * 9 + [2] * 9


# -- a run that was killed ------------------------------------------------------------


class Killed(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("schedule", ["constant", "cycle"])
@pytest.mark.parametrize("die", [4, 12, 20])
def test_a_killed_run_goes_on_bit_for_bit(
    dense: Any, tmp_path: Path, schedule: Any, die: int
) -> None:
    class Mortal(dense.LateLearner):  # type: ignore[name-defined,misc]
        done: ClassVar[int] = 0

        def step(self, batch: Any) -> Tensor:
            if Mortal.done >= die:
                raise Killed
            Mortal.done += 1
            return super().step(batch)

    protocol = OnlineSegmentation(schedule=schedule)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        dense.run(Mortal, protocol, resume=Resume(path, "a", 3, False))
    torch.manual_seed(7)
    resumed = dense.run(dense.LateLearner, protocol, resume=Resume(path, "a", 3, True))
    whole = dense.run(dense.LateLearner, protocol)
    assert resumed.scores == whole.scores
    assert resumed.curves == whole.curves
    assert same_arrays(resumed, whole)
    for key in ("images_forward", "images_backward"):
        assert resumed.cost[key] == whole.cost[key]
    with pytest.raises(CacheError, match="belongs to run a, not to b"):
        dense.run(dense.LateLearner, protocol, resume=Resume(path, "b", 3, True))


# -- bad input ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rounds": 2}, "only a cycle comes round again"),
        ({"schedule": "ramp", "conditions": "fog:3,fog:5"}, "name every kind once"),
        ({"conditions": "fog:9"}, "severities 1 to 5"),
        ({"conditions": ""}, "--protocol.conditions ''"),
        ({"conditions": "frog:3"}, "did you mean 'fog'"),
    ],
)
def test_bad_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        OnlineSegmentation(**options)


def test_an_empty_condition_is_refused(dense: Any) -> None:
    few = dense.data(target_all=dense.frames(2, 2))
    with pytest.raises(ConfigError, match="condition 'fog-3' has no frame: fake/b has 2"):
        OnlineSegmentation(schedule="ramp").plan(few, 1, 0)
    with pytest.raises(ConfigError, match="condition 'fog-3' has no frame"):
        OnlineSegmentation().plan(dense.data(target_all=dense.frames(2, 0)), 1, 0)


def test_data_that_do_not_fit(dense: Any, tiny: Any) -> None:
    protocol = OnlineSegmentation()
    assert protocol.is_valid(dense.data()) is None
    assert "weather needs 16" in str(protocol.is_valid(dense.data(width=8)))
    assert "classification" in str(protocol.is_valid(tiny))
    target = dense.frames(2)
    plan = protocol.plan(dense.data(), 1, 0)
    for masks, told in (
        (target.masks[:, ::2], r"labels of \(12, 32\) pixels for a picture of \(24, 32\)"),
        (target.masks + 2, "expected classes 0 to 2, or 255"),
    ):
        frames = dataclasses.replace(target, masks=masks)
        with pytest.raises(DataError, match=told):
            dense.run(dense.Still, protocol, dataclasses.replace(plan, frames=frames))


def test_methods_that_do_not_fit(dense: Any) -> None:
    small = {"step": lambda self, batch: torch.zeros(1, 3, 4, 4)}
    with pytest.raises(TrainingError, match=r"step returned \(1, 3, 4, 4\) .* images' size"):
        dense.run(type("Small", (dense.Still,), small))
    flat = {"predict": lambda self, images: Prediction(torch.zeros(1, 3))}
    with pytest.raises(TrainingError, match="predict returned"):
        dense.run(type("Flat", (dense.Still,), flat))
    nan = {"step": lambda self, batch: torch.full((1, 3, 24, 32), torch.nan)}
    with pytest.raises(TrainingError, match="Nan: logits are not finite at step 0"):
        dense.run(type("Nan", (dense.Still,), nan))
    classes_alone = {"kinds": frozenset({"classification"})}
    with pytest.raises(AccessError, match="serves classification, this is segmentation"):
        dense.run(type("Whole", (dense.Still,), classes_alone))
    with pytest.raises(AccessError, match="labels"):
        dense.run(type("Greedy", (dense.Still,), {"extras": frozenset({"labels"})}))


def test_fisher_images_are_clear_source_frames_from_end_to_end(
    dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first ones: frames come drive after drive, and the first drive is one street."""
    monkeypatch.setattr(granted, "FISHER_FRAMES", 3)
    handed: list[Tensor] = []

    class Wants(dense.Still):  # type: ignore[name-defined,misc]
        extras: ClassVar[Any] = frozenset({"fisher-images"})

        def begin(self, access: Any) -> None:
            super().begin(access)
            handed.append(access.extras["fisher-images"])

    assert dense.run(Wants).extras == ("fisher-images",)
    source = dense.data().source_train.images
    expected = torch.from_numpy(source[[0, 4, 8]]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(handed[0], expected)


def test_what_was_handed_out_stays_on_record(dense: Any) -> None:
    class Forgets(dense.Still):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            vars(self)["extras"] = frozenset({"fisher-images"})

        def begin(self, access: Any) -> None:
            super().begin(access)
            del vars(self)["extras"]

    assert dense.run(Forgets).extras == ("fisher-images",)


def test_source_parts_are_handed_out_afresh(dense: Any) -> None:
    trained = nn.Linear(2, 1)
    wishes: list[Any] = []

    class Wants(dense.Still):  # type: ignore[name-defined,misc]
        extras: ClassVar[Any] = frozenset({"source-parts"})

        def begin(self, access: Any) -> None:
            super().begin(access)
            self.parts = access.extras["source-parts"]
            assert torch.equal(self.parts.weight, trained.weight)
            wishes.append(self.parts)

        def step(self, batch: Any) -> Tensor:
            with torch.no_grad():
                self.parts.weight += 1
            return super().step(batch)  # type: ignore[no-any-return]

    assert dense.run(Wants, source_parts=lambda method: trained).extras == ("source-parts",)
    assert len({id(parts) for parts in wishes}) == 3
    with pytest.raises(AccessError, match="asks for source-parts, and nothing makes them"):
        dense.run(Wants)


def test_the_command_line_shows_one_frame_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"method": "source", "protocol": "online-seg", "dataset": "streets"}
    (spec,) = resolve(words)
    assert (spec.epochs, spec.batch_size) == (1, 1)
    with pytest.raises(ConfigError, match="--batch-size 4: online-seg shows one image"):
        resolve(words | {"batch-size": 4})


def test_a_stream_of_source_validation_frames_is_for_development(dense: Any) -> None:
    data = dense.data()
    target = OnlineSegmentation().plan(data, 1, 0)
    own = OnlineSegmentation(frames="source-val").plan(data, 1, 0)
    assert own.frames is data.source_val
    assert target.frames is data.target_all
    assert {len(rows) for _, rows in own.stream.segments} == {len(data.source_val.images)}


@pytest.mark.parametrize(
    ("conditions", "classes"),
    [
        (("all", "night"), ("road", "sky")),
        (("worst-condition",), ("road", "sky")),
        (("round-2",), ("road", "sky")),
        (("clear", "night"), ("road", "clear/road")),
    ],
)
def test_two_scores_under_one_name_are_refused(conditions: Any, classes: Any) -> None:
    with pytest.raises(ConfigError, match="two scores would be called"):
        check_names(conditions, classes, rounds=2)
    check_names(("fog-3", "fog-3", "night"), ("road", "all"), rounds=2)
