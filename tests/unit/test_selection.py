"""Rules of selection on small records that are worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dabench.board.tables.selection import (
    LABEL_FREE,
    RULES,
    choose_epoch,
    side_by_side,
    with_chosen_epoch,
)
from dabench.board.tables.variants import choose_variants, chosen_runs
from dabench.errors import ConfigError
from dabench.registry.method_info import registered_info

NAMES = registered_info()

SPEC = {
    "method": "usd",
    "protocol": "sf-osda",
    "dataset": "digits",
    "source": "print",
    "target": "handwritten",
    "init": "source",
    "backbone": "small-cnn",
    "weights": "none",
    "image_size": 32,
    "epochs": 3,
    "batch_size": 64,
    "source_epochs": 2,
    "freeze": 0,
    "seed": 0,
    "device": "cpu",
    "threads": 1,
    "method_options": {"lr": 0.1},
    "protocol_options": {"split": "default"},
}
#: HOS is best after epoch 1; im after epoch 2; entropy is lowest at the end (a collapse)
CURVES = {
    "HOS": [0.8, 0.7, 0.1],
    "OS*": [0.9, 0.6, 0.2],
    "im": [0.5, 1.5, 0.0],
    "entropy": [0.9, 0.4, 0.1],
    "entropy-classes": [0.9, 0.3, 0.6],
    "snd": [2.0, 2.0, 1.0],
}


def record(
    curves: dict[str, list[float | None]] | None = None,
    *,
    seed: int = 0,
    method: str = "usd",
    variant: dict[str, Any] | None = None,
    source: str = "s",
) -> dict[str, Any]:
    """Return a run whose final scores are the last of its curves, with one of held-out images."""
    found: dict[str, list[float | None]] = {**(curves or CURVES)}
    rows = [
        {"metric": name, "value": value, "n": 9, "segment": "all", "at": epoch + 1}
        for name, values in found.items()
        for epoch, value in enumerate(values)
    ]
    final = [r for r in rows if r["at"] == 3 and r["metric"] not in LABEL_FREE]
    held_out = {"metric": "HOS", "value": 0.05, "n": 4, "segment": "held-out", "at": 3}
    return {
        "run_id": f"{method}-{variant}-{seed}",
        "spec": {**SPEC, "seed": seed, "method": method},
        "variant": variant or {},
        "versions": {"method": "1", "protocol": "1"},
        "ids": {"data": "d", "stream": f"t{seed}", "source": f"{source}{seed}"},
        "scores": [*final, held_out],
        "curves": rows,
    }


@pytest.mark.parametrize(
    ("rule", "at", "hos"),
    [
        *(("last", 3, 0.1), ("im", 2, 0.7), ("entropy", 3, 0.1), ("entropy-classes", 2, 0.7)),
        *(("snd", 2, 0.7), ("oracle", 1, 0.8)),
    ],
)
def test_each_rule_chooses_its_epoch(rule: str, at: int, hos: float) -> None:
    found = choose_epoch(record(), rule, NAMES)
    assert (found.at, found.values["HOS"], found.note) == (at, hos, "")
    # held-out images are scored once, at the end: only 'last' can speak of them
    assert ("HOS/held-out" in found.values) == (rule == "last")


def test_among_equals_the_latest_epoch_wins() -> None:
    assert choose_epoch(record(), "snd").at == 2


def test_what_a_rule_chose_stands_in_the_copy() -> None:
    before = record()
    copy = with_chosen_epoch(before, "im")
    assert [(s["metric"], s["value"], s["at"]) for s in copy["scores"]] == [
        ("HOS", 0.7, 2),
        ("OS*", 0.6, 2),
    ]
    assert copy["selection"] == {"rule": "im", "at": 2, "judged": 1.5, "note": ""}
    assert before == record()
    assert with_chosen_epoch(before, "last")["scores"] == before["scores"]


def test_holes_are_passed_over_and_nothing_but_holes_is_a_hole() -> None:
    some = record(CURVES | {"im": [0.5, None, 0.2]})
    assert choose_epoch(some, "im").at == 1
    none = choose_epoch(record(CURVES | {"im": [None, None, None]}), "im")
    assert (none.at, none.values) == (None, {"HOS": None, "OS*": None})
    assert "hole at every epoch" in none.note


def test_records_without_the_curve_say_so() -> None:
    old = record({"HOS": [0.8, 0.7, 0.1]})
    assert "no curve of 'im'" in choose_epoch(old, "im").note
    assert choose_epoch(old, "oracle", NAMES).at == 1
    without = {name: part for name, part in old.items() if name != "curves"}
    assert choose_epoch(without, "im").note == "read without its curves"
    assert choose_epoch(without, "last").values["HOS"] == 0.1
    with pytest.raises(ConfigError, match="did you mean 'oracle'"):
        choose_epoch(old, "orcale")


def test_rules_stand_side_by_side() -> None:
    records = []
    for seed in range(5):
        shift = 0.01 * seed
        records.append(record(seed=seed, method="source"))
        better = [0.9, 0.75 + shift, 0.3 + shift]
        records.append(record(CURVES | {"HOS": better}, seed=seed))
    frame = side_by_side(records, info=NAMES)
    assert list(dict.fromkeys(frame["selection"])) == list(RULES)
    shown = frame[(frame["metric"] == "HOS") & (frame["method"] == "usd")].set_index("selection")
    assert shown["mean"].to_dict() == pytest.approx(
        {"last": 0.32, "im": 0.77, "entropy": 0.32, "snd": 0.77, "oracle": 0.9}
        | {"entropy-classes": 0.77}
    )
    assert shown.loc["im", "diff_mean"] == pytest.approx(0.07)
    assert shown.loc["im", "verdict"] == "win"
    assert shown["optimistic"].to_dict() == {rule: rule == "oracle" for rule in RULES}
    for name in ("ci_low", "ci_high", "diff_low", "diff_high", "verdict"):
        assert shown[name].isna().to_dict() == {rule: rule == "oracle" for rule in RULES}, name


def test_a_hole_stays_a_hole_in_the_table() -> None:
    records = [record(seed=0), record({"HOS": [0.8, 0.7, 0.1], "OS*": [0.1] * 3}, seed=1)]
    frame = side_by_side(records, ["last", "im"]).set_index(["selection", "metric"])
    assert frame.loc[("last", "HOS"), "mean"] == pytest.approx(0.1)
    assert math.isnan(frame.loc[("im", "HOS"), "mean"])
    assert "no curve of 'im'" in frame.loc[("im", "HOS"), "note"]


def candidates() -> list[dict[str, Any]]:
    """Two seeds of the defaults and of lr=1, which is better by im and worse by labels."""
    found = []
    for seed in range(2):
        found.append(record(seed=seed))
        other = {"HOS": [0.3, 0.2, 0.2], "im": [1.0, 1.7, 1.9], "snd": [2.0, 2.0, 1.0]}
        found.append(record(CURVES | other, seed=seed, variant={"lr": 1.0}))
    return found


def test_hyper_parameters_are_chosen_within_a_column() -> None:
    chosen = {rule: choose_variants(candidates(), rule, NAMES)[0] for rule in RULES}
    assert {rule: c.variant for rule, c in chosen.items()} == {
        "last": "",
        "im": "lr=1.0",
        "entropy": "",
        "entropy-classes": "",
        "snd": "",  # equal scores: the defaults
        "oracle": "",
    }
    assert chosen["im"].judged == pytest.approx({"": 1.5, "lr=1.0": 1.9})
    assert chosen["entropy"].judged == pytest.approx({"": -0.1, "lr=1.0": -0.1})
    assert [rule for rule, c in chosen.items() if c.target_tuned] == ["oracle"]
    assert {c.runs for c in chosen.values()} == {2}


def test_the_chosen_runs_are_marked_and_the_mark_reaches_the_table() -> None:
    runs = chosen_runs(candidates(), "oracle", NAMES)
    assert [(r["variant"], r["target_tuned"]) for r in runs] == [({}, True)] * 2
    assert side_by_side(runs, ["last"])["target_tuned"].all()
    free = chosen_runs(candidates(), "im")
    assert [(r["variant"], r["target_tuned"]) for r in free] == [({"lr": 1.0}, False)] * 2
    assert {row["at"] for row in free[0]["scores"]} == {3}
    tuned = [record | {"target_tuned": True} for record in candidates()]
    assert all(run["target_tuned"] for run in chosen_runs(tuned, "im"))
    assert not side_by_side(free, ["last"])["target_tuned"].any()


def test_candidates_are_held_against_each_other_on_common_runs_only() -> None:
    lucky = record(CURVES | {"im": [9.0, 9.0, 9.0]}, seed=7)  # a seed that lr=1 was not run with
    assert choose_variants([*candidates(), lucky], "im")[0].variant == "lr=1.0"
    apart = [record(seed=0), record(seed=0, variant={"lr": 1.0}, source="other")]
    none = choose_variants(apart, "im")[0]
    assert (none.variant, none.runs, none.note) == (None, 0, "the candidates share no run")
    assert chosen_runs(apart, "im") == []


def test_a_candidate_without_a_score_stops_the_choice() -> None:
    old = record({"HOS": [0.8, 0.7, 0.1]}, variant={"lr": 1.0})
    found = choose_variants([record(), old], "im")[0]
    assert (found.variant, found.note) == (None, "no score of lr=1.0")
    assert not choose_variants([record()], "oracle", NAMES)[
        0
    ].target_tuned  # nothing was chosen from
    assert (
        choose_variants([record(variant={"lr": 1.0})], "last")[0].note
        == "no run with default options"
    )
