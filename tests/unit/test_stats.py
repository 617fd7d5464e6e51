"""Intervals against scipy, verdicts against hand-worked cases, the table against small records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats as reference

from dabench.board.statistics.seeds import NO_SPREAD, better_sign, compare, summarise
from dabench.board.tables.csv_file import write_csv
from dabench.board.tables.leaderboard import table
from dabench.board.tables.source_run import source_run

VALUES = [0.61, 0.58, 0.66, 0.63, 0.6]


def test_where_less_is_better() -> None:
    less = ("FPR95", "ECE/fog-5", "running_ECE", "forgetting", "collapsed/label-free", "recovery")
    less += ("below_source", "share_below", "short", "missed")
    assert {better_sign(metric) for metric in less} == {-1.0}
    more = ("accuracy/final", "HOS", "OS*", "UNK", "AUROC", "mIoU/mean-conditions", "NMI")
    assert {better_sign(metric) for metric in more} == {1.0}


def test_summary_agrees_with_scipy() -> None:
    found = summarise(VALUES)
    low, high = reference.t.interval(0.95, 4, loc=found.mean, scale=reference.sem(VALUES))
    assert found.mean == pytest.approx(0.616)
    assert found.sd == pytest.approx(reference.tstd(VALUES))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_three_seeds_by_hand() -> None:
    found = summarise([1.0, 2.0, 3.0])
    assert found.sd == 1.0
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_one_seed_has_no_spread() -> None:
    found = summarise([0.5])
    assert (found.mean, found.sd, found.low, found.high, found.n) == (0.5, None, None, None, 1)


def test_paired_interval_agrees_with_scipy() -> None:
    theirs = [0.5, 0.49, 0.52, 0.55, 0.51]
    found = compare(dict(enumerate(VALUES)), dict(enumerate(theirs)))
    interval = reference.ttest_rel(VALUES, theirs).confidence_interval(0.95)
    assert found is not None
    assert found.low == pytest.approx(interval.low)
    assert found.high == pytest.approx(interval.high)
    assert found.verdict == "win"


def test_verdicts() -> None:
    base = {seed: 0.5 + 0.1 * seed for seed in range(5)}

    def verdict(shifts: list[float], better: bool = True) -> str:
        ours = {seed: base[seed] + shift for seed, shift in enumerate(shifts)}
        found = compare(ours, base, higher_is_better=better)
        assert found is not None
        return found.verdict

    assert verdict([0.1, 0.11, 0.12, 0.1, 0.09]) == "win"
    assert verdict([-0.1, -0.11, -0.12, -0.1, -0.09]) == "loss"
    assert verdict([0.1, 0.11, 0.12, 0.1, 0.09], better=False) == "loss"
    assert verdict([0.1, -0.11, 0.12, -0.1, 0.0]) == "tie"
    assert verdict([0.0] * 5) == "tie"
    assert verdict([0.1] * 4) == "4 pairs: no verdict"
    assert verdict([0.1] * 5) == NO_SPREAD  # unequal by rounding: .7 - .6 and .8 - .7
    assert verdict([0.1, 0.1, 0.1, 0.1, 0.1 + 1e-9]) == "win"


def test_seeds_that_vary_nothing_carry_no_verdict() -> None:
    def verdict(ours: list[float], theirs: list[float]) -> str:
        found = compare(dict(enumerate(ours)), dict(enumerate(theirs)))
        assert found is not None
        assert found.low == pytest.approx(found.mean)  # the interval is there, and says nothing
        return found.verdict

    # sums of equal values are rounded: the interval of five times .1 is not quite [.1, .1]
    assert verdict([0.7] * 5, [0.6] * 5) == NO_SPREAD
    assert verdict([0.6] * 5, [0.7] * 5) == NO_SPREAD
    assert verdict([0.6] * 5, [0.6] * 5) == NO_SPREAD
    varied = [0.51, 0.57, 0.62, 0.55, 0.6]
    assert verdict(varied, varied) == "tie"  # the same on five seeds that do differ
    records = [record(m, s, v) for m, v in (("source", 0.5), ("usd", 0.7)) for s in range(5)]
    found = line(table(records), "usd")
    assert (found["verdict"], found["best_verdict"]) == (NO_SPREAD, NO_SPREAD)
    assert found["diff_mean"] == pytest.approx(0.2)


def test_pairs_are_made_by_seed() -> None:
    found = compare({1: 0.9, 2: 0.5}, {2: 0.4, 3: 0.1})
    assert found is not None
    assert found.n == 1
    assert found.mean == pytest.approx(0.1)
    assert compare({1: 0.9}, {2: 0.4}) is None


def record(method: str, seed: int, value: float | None, **changes: Any) -> dict[str, Any]:
    spec = {
        "method": method,
        "protocol": "sf-osda",
        "dataset": "digits",
        "source": "print",
        "target": "handwritten",
        "init": "source",
        "backbone": "small-cnn",
        "weights": "none",
        "image_size": 32,
        "epochs": 2,
        "batch_size": 64,
        "source_epochs": 2,
        "freeze": 0,
        "seed": seed,
        "device": "cpu",
        "threads": 1,
        "method_options": changes.pop("options", {}),
        "protocol_options": {"split": "default"},
    }
    spec |= {name: changes.pop(name) for name in list(changes) if name in spec}
    ids = {"data": "d", "stream": f"t{seed}", "source": f"s{seed}"}
    score = {"metric": "HOS", "value": value, "n": 100, "segment": "all", "at": 2}
    return {
        "schema": 1,
        "run_id": f"{method}{seed}",
        "spec": spec,
        "variant": {},
        "ids": ids | changes.pop("ids", {}),
        "versions": {"method": "1", "protocol": "1"},
        "scores": [score, score | {"segment": "held-out"}],
    } | changes


def line(frame: pd.DataFrame, method: str, metric: str = "HOS") -> Any:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_table_pairs_with_source() -> None:
    records = [record("source", seed, 0.5 + seed / 100) for seed in range(5)]
    records += [record("usd", seed, 0.7 + seed / 99, init="bn-target") for seed in range(5)]
    frame = table(records)
    usd = line(frame, "usd+bn")
    assert usd["mean"] == pytest.approx(0.7 + 2 / 99)
    assert (usd["n"], usd["seeds"], usd["verdict"], usd["note"]) == (5, "0 1 2 3 4", "win", "")
    assert usd["diff_mean"] == pytest.approx(0.2 + 2 / 99 - 0.02)
    assert (usd["task"], usd["split"]) == ("print→handwritten", "default")
    assert pd.isna(line(frame, "source")["diff_mean"])
    assert len(frame) == 4


def test_table_pairs_with_another_row() -> None:
    records = [record("source", seed, 0.5, init="bn-target") for seed in range(5)]
    records += [record("usd", seed, 0.7 + seed / 99) for seed in range(5)]
    frame = table(records, against="source+bn")
    assert line(frame, "usd")["diff_mean"] == pytest.approx(0.2 + 2 / 99)
    assert pd.isna(line(frame, "source+bn")["diff_mean"])
    assert set(frame["against"]) == {"source+bn"}


def test_disagreeing_ids_refuse_the_cell() -> None:
    records = [record("source", seed, 0.5) for seed in range(2)]
    records += [record("usd", 0, 0.7), record("usd", 1, 0.7, ids={"source": "other"})]
    frame = table(records)
    usd = line(frame, "usd")
    assert pd.isna(usd["mean"])
    assert usd["note"] == (
        "refused; seed 1: source id differs in this column; see usd1.json; "
        "'dabench store retire' takes old ones out"
    )
    assert line(frame, "source")["mean"] == 0.5


def test_without_source_nobody_is_right() -> None:
    frame = table([record("usd", 0, 0.7), record("shot", 0, 0.6, ids={"stream": "other"})])
    assert frame["mean"].isna().all()
    assert frame["note"].str.startswith("refused").all()


def test_two_records_of_a_seed_refuse_the_cell() -> None:
    frame = table([record("usd", 0, 0.7), record("usd", 0, 0.8, threads=2)])
    assert line(frame, "usd")["note"] == (
        "refused; seed 0 has 2 records, of other threads: 1, 2; see usd0.json, usd0.json; "
        "'dabench store retire' takes old ones out"
    )


def test_a_hole_stays_a_hole() -> None:
    frame = table([record("usd", 0, None), record("usd", 1, 0.7)])
    assert pd.isna(line(frame, "usd")["mean"])
    assert line(frame, "usd")["n"] == 0


def test_variants_and_columns_are_kept_apart() -> None:
    records = [record("usd", 0, 0.7), record("usd", 0, 0.6, variant={"criterion": "ce"})]
    records += [record("usd", 0, 0.1, epochs=9)]
    frame = table(records)
    hos = frame[frame["metric"] == "HOS"]
    assert sorted(hos["variant"]) == ["", "", "criterion=ce"]
    assert hos["column"].nunique() == 2


def test_varying_options_stand_in_for_a_missing_variant() -> None:
    records = [record("usd", 0, 0.7, options={"a": 1, "b": 1})]
    records += [record("usd", 0, 0.6, options={"a": 1, "b": 2})]
    for one in records:
        del one["variant"]
    assert sorted(table(records)["variant"].unique()) == ["b=1", "b=2"]


def test_less_is_better_for_fpr() -> None:
    rows = [(m, s, v) for m, v in (("source", 0.5), ("usd", 0.3)) for s in range(5)]
    records = [record(m, seed, value + value * seed / 1000) for m, seed, value in rows]
    for one in records:
        one["scores"][0]["metric"] = "FPR95"
    assert line(table(records), "usd", "FPR95")["verdict"] == "win"


def test_csv_is_repeatable_and_exact(tmp_path: Path) -> None:
    records = [record("usd", seed, 0.1 + 0.2 * seed) for seed in range(3)]
    write_csv(table(records), tmp_path / "a" / "one.csv")
    write_csv(table(records[::-1]), tmp_path / "a" / "two.csv")
    assert (tmp_path / "a/one.csv").read_bytes() == (tmp_path / "a/two.csv").read_bytes()
    mean = pd.read_csv(tmp_path / "a" / "one.csv")["mean"][0]
    assert mean == summarise([0.1 + 0.2 * seed for seed in range(3)]).mean


def test_baseline_is_the_plain_source_run_of_the_same_column() -> None:
    ours = record("usd", 1, 0.7)
    others = [record("source", 2, 0.5), record("source", 1, 0.5, init="bn-target")]
    others += [record("source", 1, 0.5, epochs=9), record("source", 1, 0.5, variant={"x": 1})]
    assert source_run(others, ours) is None
    right = record("source", 1, 0.4)
    assert source_run([*others, right], ours) is right
    for name in ("data", "stream", "source"):
        strange = right | {"ids": right["ids"] | {name: "other"}}
        assert source_run([strange], ours) is None
    assert source_run([right | {"versions": {"method": "1", "protocol": "9"}}], ours) is None


def test_runs_with_a_source_seed_of_their_own_are_another_column() -> None:
    records = [record("source", seed, 0.5) for seed in range(2)]
    other = record("source", 0, 0.6)
    other["spec"] = other["spec"] | {"source_seed": 3}
    assert table([*records, other])["column"].nunique() == 2
