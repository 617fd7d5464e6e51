"""Roles, orders, shifts and stream metrics against worked examples."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dabench.config.spec import resolve
from dabench.contract.data import DomainData, StreamRoles
from dabench.contract.stream import Segment
from dabench.contract.types import Score
from dabench.errors import ConfigError, DataError
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.gradual_weather import GradualWeather
from dabench.protocols.streams import scores
from dabench.protocols.streams.layout import SegmentSteps, StreamLayout
from dabench.protocols.streams.roles import SHARES, order_rows, split_roles
from dabench.protocols.streams.scores import stream_scores
from dabench.protocols.streams.shifts import parse_shifts, render


@pytest.fixture(scope="module")
def data(tiny: DomainData) -> DomainData:
    return dataclasses.replace(tiny, source="handwritten", source_train=tiny.target_all)


def test_no_image_plays_two_roles(data: DomainData, tiny: DomainData) -> None:
    found = split_roles(data)
    assert found.source is not None
    parts = [found.source, found.stream, found.held_out]
    together = np.concatenate(parts)
    np.testing.assert_array_equal(np.sort(together), np.arange(len(data.target_all.labels)))
    for part, share in zip(parts, SHARES, strict=True):
        counts = np.bincount(data.target_all.labels[part], minlength=10)
        assert (counts == round(20 * share)).all()
    other = split_roles(tiny)
    assert other.source is None
    assert len(other.stream) == 160


@pytest.mark.parametrize(
    ("stream", "held_out", "said"),
    [
        ([0, 1], [1, 2], "name an image twice"),
        ([0, 0], [1], "name an image twice"),
        ([0, 1], [200], "name images that the target has not"),
        ([-1, 0], [1], "name images that the target has not"),
    ],
)
def test_roles_that_a_data_set_gives_are_looked_at(
    tiny: DomainData, stream: list[int], held_out: list[int], said: str
) -> None:
    roles = StreamRoles(np.array(stream), np.array(held_out))
    assert len(tiny.target_all.labels) == 200
    with pytest.raises(DataError, match=said):
        split_roles(dataclasses.replace(tiny, roles=roles))
    sound = StreamRoles(np.array([0, 2]), np.array([], dtype=np.int64))
    found = split_roles(dataclasses.replace(tiny, roles=sound))
    assert (found.source, found.stream.tolist(), found.held_out.tolist()) == (None, [0, 2], [])


def test_roles_do_not_depend_on_the_seed(data: DomainData) -> None:
    one, two = (GradualWeather(weather="fog").plan(data, 16, seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.held_out, two.held_out)
    assert one.source.digest == two.source.digest
    assert one.stream.digest != two.stream.digest
    assert {r for _, rows in one.stream.segments for r in rows}.isdisjoint(one.held_out)


def test_rows_decide_the_source_model(data: DomainData) -> None:
    """A model trained on all images must not be taken for one that never saw the stream."""
    plan = GradualWeather(weather="fog").plan(data, 16, 0)
    assert plan.source.digest != data.source_train.digest


def test_replay_and_disjoint_parts(data: DomainData) -> None:
    replay = GradualWeather(weather="fog").plan(data, 16, 0).stream.segments
    assert [u.severity for u, _ in replay] == [0, 1, 2, 3, 4, 5]
    assert all(set(rows) == set(replay[0][1]) for _, rows in replay)
    parts = GradualWeather(weather="fog", parts="disjoint").plan(data, 16, 0).stream.segments
    rows = np.concatenate([rows for _, rows in parts])
    assert len(set(rows)) == len(rows) == len(replay[0][1])


def test_mixed_weather_has_the_levels_of_the_mildest_kind(data: DomainData) -> None:
    plan = GradualWeather(weather="aid-cc+fog").plan(data, 16, 0)
    names = [u.name for u, _ in plan.stream.segments]
    assert names == ["clear", *(f"aid-cc+fog-{level}" for level in range(1, 6))]
    rows = np.sort(plan.held_out)
    under, _ = plan.stream.segments[-1]
    found = render(plan.images, rows, under)
    alone = {k: render(plan.images, rows, Segment("x", k, 5)) for k in ("aid-cc", "fog")}
    same = {k: (found == v).all(axis=(1, 2, 3)) for k, v in alone.items()}
    assert (same["fog"] ^ same["aid-cc"]).all()
    assert same["fog"].any()
    assert same["aid-cc"].any()


@pytest.mark.parametrize("text", ["frog", "fog+frog", "fog+"])
def test_unknown_weather_is_told(data: DomainData, text: str) -> None:
    with pytest.raises(ConfigError, match="unknown kind"):
        GradualWeather(weather=text).plan(data, 16, 0)


def test_class_correlated_streams_are_correlated() -> None:
    labels = np.repeat(np.arange(5), 100)
    rows = np.arange(500)
    orders = {o: order_rows(rows, labels, o, 0.1, 0) for o in ("random", "class-correlated")}
    for order in orders.values():
        np.testing.assert_array_equal(np.sort(order), rows)

    def repeats(order: np.ndarray) -> float:
        found = labels[order]
        return float((found[1:] == found[:-1]).mean())

    assert repeats(orders["random"]) < 0.3
    assert repeats(orders["class-correlated"]) > 0.4


def test_images_of_a_class_come_in_random_order() -> None:
    order = order_rows(np.arange(500), np.zeros(500, np.int64), "class-correlated", 0.5, 0)
    assert abs(np.corrcoef(order, np.arange(500))[0, 1]) < 0.3


def test_shifts_are_read() -> None:
    found = parse_shifts("fog:5, rain+fog:2,clear")
    assert found == [
        Segment("fog-5", "fog", 5),
        Segment("rain+fog-2", "rain+fog", 2),
        Segment("clear", "clear"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected different shifts"),
        ("fog:5,fog:5", "expected different shifts"),
        ("fog:6", "severities 1 to 5"),
        ("fog:0", "severities 1 to 5"),
        ("fog:\uff15", "severities 1 to 5"),  # a full-width 5
        ("fog", "no severity: write fog:5"),
        ("frog:5", "did you mean 'fog'"),
        ("aid-cc:8", "severities 1 to 7"),
    ],
)
def test_bad_shifts_are_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_shifts(text)


def test_a_picture_depends_on_position_and_weather_alone(data: DomainData) -> None:
    images, under = data.target_all.images, Segment("x", "fog+rain", 4)
    rows = np.arange(20)
    together = render(images, rows, under)
    alone = np.concatenate([render(images, rows[i : i + 1], under) for i in rows])
    np.testing.assert_array_equal(together, alone)
    kinds = {k: render(images, rows, Segment("x", k, 4)) for k in ("fog", "rain")}
    same = {k: (together == v).all(axis=(1, 2, 3)) for k, v in kinds.items()}
    assert (same["fog"] ^ same["rain"]).all()
    assert same["fog"].any()
    assert same["rain"].any()
    np.testing.assert_array_equal(render(images, rows, Segment("c", "clear")), images[rows])


def test_sequences_are_seeded(data: DomainData) -> None:
    def names(seed: int, **options: object) -> list[str]:
        plan = ContinualTTA(shifts="fog:1,rain:1,low-light:1,lens-drops:1", **options)  # type: ignore[arg-type]
        return [u.name for u, _ in plan.plan(data, 16, seed).stream.segments]

    given = ["fog-1", "rain-1", "low-light-1", "lens-drops-1"]
    assert names(3, sequence="given") == given
    assert names(3) == names(3)
    assert sorted(names(3)) == sorted(given)
    assert len({tuple(names(seed)) for seed in range(5)}) > 1
    twice = names(3, sequence="given", rounds=2)
    assert twice == [f"{n}@{turn}" for turn in (1, 2) for n in given]


class Short(StreamLayout):
    """Windows of two batches."""

    @property
    def window(self) -> int:
        return 2


def steps(*shares: float, size: int = 10) -> list[np.ndarray]:
    """Return hits with these accuracies."""
    return [np.arange(size) < round(share * size) for share in shares]


def test_windowed_accuracy() -> None:
    right = steps(1, 0, 1, 0, 1, 0)
    assert scores.windowed_accuracy(right, 2) == [1, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert scores.windowed_accuracy(right, 5)[-1] == pytest.approx(0.4)
    assert StreamLayout((), 64).window == 5
    assert StreamLayout((), 8).window == 25


def test_collapse_is_the_first_step_of_a_loss_that_stays() -> None:
    source = [0.5] * 6
    assert scores.collapse_step([0.5, 0.3, 0.5, 0.4, 0.3, 0.2], source) == 3
    assert scores.collapse_step([0.1, 0.1, 0.1, 0.1, 0.1, 0.5], source) is None
    assert scores.collapse_step([0.4] * 6, source) == 0
    assert scores.collapse_step([0.5, 0.5, 0.5, 0.5, 0.5, 0.1], source, 2) is None
    for low, high in ((0.2, 0.3), (0.7, 0.8)):  # whatever the rounding
        assert scores.collapse_step([low], [high]) == 0


def test_scores_of_a_worked_stream() -> None:
    right, base = steps(0.5, 0.7, 0.1, 0.1), steps(0.5, 0.5, 0.5, 0.5)
    segments = (SegmentSteps("a", 0, 2), SegmentSteps("b", 2, 4))
    found = {s.key: s for s in stream_scores(right, base, Short(segments, 10))}
    assert found["accuracy"].value == pytest.approx(0.35)
    assert found["accuracy/a"].value == pytest.approx(0.6)
    assert found["accuracy/b"].value == found["accuracy/final"].value == pytest.approx(0.1)
    assert found["below_source"].value == 1
    assert found["collapsed"].at == 2
    assert found["collapsed"].value == pytest.approx(0.5)


def test_windows_end_where_a_fresh_method_begins() -> None:
    right, base = steps(0.1, 0.1, 0.9, 0.9), steps(0.6, 0.6, 0.6, 0.6)
    segments = (SegmentSteps("a", 0, 2), SegmentSteps("b", 2, 4))
    found = {
        s.key: s for s in stream_scores(right, base, Short(segments, 10, fresh_per_segment=True))
    }
    assert found["collapsed"].value == pytest.approx(0.5)
    assert found["collapsed"].at == 0
    assert found["accuracy/worst-window"].value == pytest.approx(0.1)
    through = {s.key: s for s in stream_scores(right, base, Short(segments, 10))}
    assert through["collapsed"].value == 0


def test_the_worst_window_is_a_whole_one() -> None:
    right = steps(0, 1, 1, 1)
    found = {s.key: s for s in stream_scores(right, right, Short((SegmentSteps("a", 0, 4),), 10))}
    assert found["accuracy/worst-window"].value == 0.5
    assert found["below_source"].value == 0  # the source itself is not below the source


def test_a_collapse_lasts_a_window() -> None:
    layout = Short((SegmentSteps("a", 0, 4),), 10)
    base = steps(0.8, 0.8, 0.8, 0.8)
    for last, share in ((0.8, 0.0), (0.5, 0.5)):
        right = steps(0.8, 0.8, last, 0.4)
        found = {s.key: s.value for s in stream_scores(right, base, layout)}
        assert found["collapsed"] == share


def test_collapse_without_labels() -> None:
    sure, even = torch.tensor([1.0] + [0.0] * 7), torch.full((8,), 0.125)
    layout = Short((SegmentSteps("a", 0, 4),), 10)
    found = {
        s.key: s.value
        for s in scores.label_free_scores([even, sure, sure, sure], [10] * 4, [True] * 4, layout)
    }
    assert found == {"collapsed/label-free": 0.5, "short": 1.0}


def test_four_classes_cannot_collapse_without_labels() -> None:
    """One class of four is a quarter of them: the score would be 0 whatever happens."""
    sure = torch.tensor([1.0, 0.0, 0.0, 0.0])
    layout = Short((SegmentSteps("a", 0, 4),), 10)
    found = scores.label_free_scores([sure] * 4, [10] * 4, [True] * 4, layout)
    assert {s.key: s.value for s in found}["collapsed/label-free"] is None


def test_a_window_of_effective_classes_counts_images_and_ends_with_its_method() -> None:
    sure, even = torch.tensor([1.0, 0, 0, 0]), torch.full((4,), 0.25)
    segments = (SegmentSteps("a", 0, 2), SegmentSteps("b", 2, 3))
    hits = [np.ones(n, dtype=bool) for n in (3, 1, 1)]
    weighed, both = (
        scores.effective_classes(torch.tensor([p, *[(1 - p) / 3] * 3])) / 4 for p in (0.8125, 0.625)
    )
    for fresh, last in ((True, 0.25), (False, both)):
        layout = Short(segments, 3, fresh_per_segment=fresh)
        curve = scores.stream_curves(hits, hits, [sure, even, sure], [3, 1, 1], layout)
        found = [s.value for s in curve if s.metric == "effective_classes"]
        assert found == pytest.approx([0.25, weighed, last])


def test_a_segment_is_short_by_its_updates() -> None:
    """20 steps of which the method adapted on every second one are 10 updates."""
    layout = Short((SegmentSteps("a", 0, 20), SegmentSteps("b", 20, 40)), 10)
    even = [torch.full((8,), 0.125)] * 40
    adapted = [step % 2 == 0 or step >= 20 for step in range(40)]
    for flags, share in ((adapted, 0.5), ([True] * 40, 0.0)):
        found = {s.key: s.value for s in scores.label_free_scores(even, [10] * 40, flags, layout)}
        assert found["short"] == share


def test_forgetting_is_measured_from_the_best_probe() -> None:
    probes = [(0, "clear", 0.9), (1, "clear", 0.95), (2, "clear", 0.7), (2, "fog-1", 0.6)]
    found = {s.key: s.value for s in scores.held_out_scores(probes, ["fog-1"], 10, 4)}
    assert found["forgetting"] == pytest.approx(0.25)
    assert found["accuracy/held-out"] == 0.6
    assert found["accuracy/held-out-clear"] == 0.7
    both = {s.key: s for s in scores.held_out_scores(probes, ["clear", "fog-1"], 10, 4)}
    assert both["accuracy/held-out"].value == pytest.approx(0.65)
    segments = [SegmentSteps("a", 0, 3), SegmentSteps("b", 3, 7)]
    curve = scores.held_out_curves(probes, segments, 10)
    assert [(s.key, s.at) for s in curve] == [
        ("accuracy/held-out-clear", 0),
        ("accuracy/held-out-clear", 3),
        ("accuracy/held-out-clear", 7),
        ("accuracy/held-out-fog-1", 7),
    ]


def test_effective_classes() -> None:
    assert scores.effective_classes(torch.full((4,), 0.25)) == pytest.approx(4)
    assert scores.effective_classes(torch.tensor([1.0, 0, 0])) == pytest.approx(1)


def test_the_curve_of_the_source_stands_beside_that_of_the_method() -> None:
    layout = Short((SegmentSteps("a", 0, 2), SegmentSteps("b", 2, 3)), 10, fresh_per_segment=True)
    even = [torch.full((4,), 0.25)] * 3
    right, source = steps(0.2, 0.4, 0.6), steps(0.5, 0.5, 0.1)
    curve = scores.stream_curves(right, source, even, [10] * 3, layout)
    found = [(s.segment, s.at, s.value) for s in curve if s.metric == "running_accuracy"]
    assert found == [
        *(("all", 0, 0.2), ("all", 1, pytest.approx(0.3)), ("all", 2, 0.6)),
        *(("source", 0, 0.5), ("source", 1, 0.5), ("source", 2, 0.1)),
    ]


def test_names_of_the_second_timing() -> None:
    right = steps(0.5, 0.5)
    found = stream_scores(right, right, Short((SegmentSteps("a", 0, 2),), 10), "/after")
    assert {"accuracy/after", "accuracy/a/after", "accuracy/final/after"} <= {s.key for s in found}
    assert all(isinstance(s, Score) for s in found)


def test_a_list_of_shifts_has_one_spelling() -> None:
    def options(shifts: str) -> dict[str, object]:
        words = {"method": "source", "protocol": "continual-tta", "device": "cpu", "threads": 1}
        (spec,) = resolve({**words, "protocol.shifts": shifts})
        return spec.protocol_options

    assert options("fog:5, rain:05") == options("fog:5,rain:5")
    assert options("fog:5,rain:5")["shifts"] == "fog:5,rain:5"
