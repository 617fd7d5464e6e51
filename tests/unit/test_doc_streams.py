"""Tables of streams from made-up records: names, runs that diverged, seeds that lack."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dabench.store.identity import run_digest
from dabench.store.store import Store

PARAMS = {"dataset": "aid", "weather": "fog"}
DEFAULTS = {"lr": 1e-3, "replay": None, "grad_norm": "none"}
DIVERGED = "Traceback\ndabench.errors.TrainingError: ConDA: logits are not finite at step 3; lower"


def record(method: str, seed: int, final: float, collapsed: float = 0.0, **options: Any) -> Any:
    """Return a record of a stream of 100 images in two levels."""
    own = {} if method in {"source", "bn-adapt"} else DEFAULTS | options
    scores = [("accuracy", "all", 0.5), ("accuracy", "clear", 0.6), ("accuracy", "fog-1", final)]
    scores += [("accuracy", "final", final), ("accuracy", "worst-window", 0.1)]
    scores += [("forgetting", "all", 0.02), ("collapsed", "all", collapsed)]
    scores += [("below_source", "all", float(final < 0.35))]
    curve = [("running_accuracy", "all", step, 0.5 + step / 100) for step in range(4)]
    curve += [("effective_classes", "all", step, 0.9 - 0.5 * step * collapsed) for step in range(4)]
    curve += [("accuracy", "held-out-clear", step, 0.5) for step in (0, 2, 4)]
    made = {
        "spec": {
            **{"method": method, "protocol": "gradual-weather", "dataset": "aid", "seed": seed},
            **{"source": "clear", "target": "clear", "init": "source", "backbone": "small-cnn"},
            **{"weights": "none", "image_size": 64, "epochs": 1, "batch_size": 25, "freeze": 0},
            **{"source_epochs": 1, "device": "cpu", "threads": 1, "method_options": own},
            "protocol_options": {"weather": "fog"},
        },
        "variant": {n: v for n, v in own.items() if v != DEFAULTS[n]},
        "ids": {"data": "d", "stream": "s", "source": f"m{seed}"},
        "versions": {"method": "1", "protocol": "1"},
        "cost": {"images_forward": 250.0, "images_backward": 125.0},
        "extras": ["buffer"] if method == "conda" else [],
        "reconstruction": method == "conda",
        "scores": [
            {"metric": m, "segment": s, "value": v, "n": 100, "at": 4} for m, s, v in scores
        ],
        "curves": [
            {"metric": m, "segment": s, "value": v, "n": 75, "at": at} for m, s, at, v in curve
        ],
    }
    return {"run_id": run_digest(made["spec"], made["versions"], made["ids"])} | made


def failed(seed: int, traceback: str = DIVERGED, **options: Any) -> Any:
    found = record("conda", seed, 0.0, **options)
    return found | {"scores": [], "curves": [], "cost": {}, "failed": True, "traceback": traceback}


def cells(table: str, name: str) -> list[str]:
    """Return the cells after the first of the one line that begins with ``name``."""
    (line,) = (li for li in table.splitlines() if li.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("| ").split(" | ")][1:]


def grid() -> list[Any]:
    """Return three seeds of conda at two rates and two norms; one run collapsed."""
    found = [record("source", seed, 0.2) for seed in range(3)]
    for seed in range(3):
        found += [record("conda", seed, 0.3 + seed / 100, lr=0.01, replay=64)]
        fallen = 0.5 if seed == 2 else 0.0
        clip = {"grad_norm": "clip", "replay": 64}
        found += [record("conda", seed, 0.4, fallen, lr=0.01, **clip)]
        found += [record("conda", seed, 0.4, lr=0.1, **clip)]
    return found


def test_a_line_a_row_with_short_names(tables: ModuleType) -> None:
    found = tables.Tables(grid())
    table = tables.stream_tables.stream(
        found, {**PARAMS, "common": "lr,replay", "methods": "conda"}
    )
    assert cells(table, "`conda lr=0.01`")[:3] == ["3", "0.310", "0.300–0.320"]
    shown = cells(table, "`conda grad_norm=clip lr=0.01` (reconstruction, +buffer)")
    assert shown == [
        *("3", "0.400", "0.400–0.400", "0.500", "0.100", "0.020", "0.167", "+0.200"),
    ]
    assert table.endswith("\n\nOptions left out of the names: replay=64: `conda`.")
    assert "`source`" not in table.replace("− `source`", "")
    assert [line.split("`")[1] for line in table.splitlines()[2:5]] == [
        *("conda lr=0.01", "conda grad_norm=clip lr=0.01", "conda grad_norm=clip lr=0.1"),
    ]


def test_an_option_with_one_value_is_told_below(tables: ModuleType) -> None:
    records = [r for r in grid() if r["spec"]["method_options"].get("lr") != 0.1]
    records += [record("tent", seed, 0.25) for seed in range(3)]
    table = tables.stream_tables.stream(tables.Tables(records), {**PARAMS, "common": "lr,replay"})
    assert cells(table, "`conda grad_norm=clip` (")[0] == "3"
    assert cells(table, "`conda` (")[1] == "0.310"
    told = table.splitlines()[-1]
    left_out = "lr=0.01: `conda`; replay=64: `conda`; lr=0.001: `tent`."
    assert told == f"Options left out of the names: {left_out}"


def test_collapse_is_a_column_where_there_is_one(tables: ModuleType) -> None:
    calm = tables.Tables([run for run in grid() if run["scores"][-2]["value"] == 0.0])
    table = tables.stream_tables.stream(calm, PARAMS)
    assert "collapsed" not in table.splitlines()[0]
    assert table.endswith("\n\nNo run collapsed.")
    lost = tables.Tables([record("source", 0, 0.2)], [failed(0, lr=0.1)])
    assert "| collapsed |" in tables.stream_tables.stream(lost, PARAMS).splitlines()[0]


def test_passes_stand_in_a_table_of_their_own(tables: ModuleType) -> None:
    params = {**PARAMS, "rows": "conda~lr=0.01~replay=64", "common": "lr,replay"}
    table = tables.stream_tables.passes(tables.Tables(grid()), params)
    assert table.splitlines()[0] == "| row | forwards | backwards |"
    assert cells(table, "`conda` (") == ["2.50", "1.25"]
    assert table.endswith("Options left out of the names: lr=0.01: `conda`; replay=64: `conda`.")


def test_spread_and_verdict_need_five_seeds(tables: ModuleType) -> None:
    records = [record("source", seed, 0.2 + seed / 1000) for seed in range(5)]
    records += [record("tent", seed, 0.3 + seed / 500) for seed in range(5)]
    table = tables.stream_tables.stream(tables.Tables(records), PARAMS)
    assert cells(table, "row")[2] == "sd"
    assert cells(table, "`source`")[-1] == "–"
    assert cells(table, "`tent`")[2] == "0.003"
    assert cells(table, "`tent`")[-1] == "+0.102 [+0.100, +0.104] win"


def test_rows_by_name_norm_and_value(tables: ModuleType) -> None:
    found, stream = tables.Tables(grid()), tables.stream_tables.stream
    assert stream(found, {**PARAMS, "norms": "clip"}).count("`conda") == 2
    assert stream(found, {**PARAMS, "with": "conda.lr=0.01"}).count("`conda") == 2
    assert stream(found, {**PARAMS, "with": "conda.lr=0.5|0.1"}).count("`conda") == 1
    assert stream(found, {**PARAMS, "with": "conda.lr=0.01|0.1"}).count("`conda") == 3
    name = "conda~grad_norm=clip~lr=0.1~replay=64"
    assert stream(found, {**PARAMS, "rows": f"source,{name}"}).count("`conda") == 1
    with pytest.raises(ValueError, match="no row conda lr=5"):
        stream(found, {**PARAMS, "rows": "source,conda~lr=5"})


def test_diverged_and_missing_seeds_are_told_apart(tables: ModuleType) -> None:
    gone = {record("conda", seed, 0.3, lr=0.01, replay=64)["run_id"] for seed in (0, 1)}
    records = [r for r in grid() if r["run_id"] not in gone]
    found = tables.Tables(records, [failed(0, lr=0.01, replay=64)])
    assert cells(tables.stream_tables.stream(found, PARAMS), "`conda lr=0.01")[:2] == [
        "1 of 3; 1 missing",
        "0.320",
    ]
    table = tables.rate_tables.rates(found, {**PARAMS, "row": "conda"})
    assert cells(table, "none") == [
        "0.320 (1 of 3; 1 missing)",
        "– (3 missing)",
        *("0.50 (1 of 2; 4 missing)", "1.00 (2 of 2; 4 missing)", "0.50 (1 of 2; 4 missing)"),
    ]
    assert "count as collapsed" in table


def test_failed_runs_count_as_collapsed(tables: ModuleType) -> None:
    unit = {"grad_norm": "unit-global", "replay": 64}
    lost = [failed(seed, lr=0.1, **unit) for seed in range(3)] + [failed(0, lr=0.01, **unit)]
    ended = [record("conda", seed, 0.5, lr=0.01, **unit) for seed in (1, 2)]
    found = tables.Tables(grid() + ended, lost)
    table = tables.rate_tables.rates(found, {**PARAMS, "row": "conda"})
    assert cells(table, "accuracy/final of `conda`") == [
        *("0.01", "0.1", "collapsed", "below `source`", "few classes"),
    ]
    assert cells(table, "unit-global") == [
        *("0.500 ± 0.000 (2 of 3)", "– (0 of 3)", *["0.67 (4 of 6)"] * 3),
    ]
    assert cells(table, "clip") == [
        *("0.400 ± 0.000", "0.400 ± 0.000", "0.17 (1 of 6)", "0.00 (0 of 6)", "0.17 (1 of 6)"),
    ]
    everything = tables.stream_tables.stream(found, PARAMS)
    assert cells(everything, "`conda grad_norm=unit-global lr=0.1 ")[:2] == ["0 of 3", "–"]


def test_evidence_of_instability_by_rate(tables: ModuleType) -> None:
    found = tables.Tables(grid(), [failed(0, lr=1.0, grad_norm="clip", replay=64)])
    params = {**PARAMS, "row": "conda"}
    table = tables.rate_tables.unstable(found, params)
    assert cells(table, "`conda`: norm")[-5:] == [
        *("classes", "collapsed", "below `source`", "few classes", "unstable"),
    ]
    none, clip, _, lost = (line.strip("| ").split(" | ") for line in table.splitlines()[2:6])
    yes, no = "1.00 (3 of 3)", "0.00 (0 of 3)"
    assert none == ["none", "0.01", "0.310 ± 0.010", "0.500", "0.100", "0.900", no, yes, no, yes]
    # one seed of three ends with 0.9 - 0.5 * 3 * 0.5 of the classes, and collapsed
    third = "0.33 (1 of 3)"
    assert clip[1:] == ["0.01", "0.400 ± 0.000", "0.500", "0.100", "0.150", third, no, third, third]
    gone = "1.00 (1 of 1; 2 missing)"
    assert lost[1:] == ["1", "– (0 of 3; 2 missing)", "–", "–", "–", *[gone] * 4]
    reference = [record("bn-adapt", seed, 0.3) for seed in range(3)]
    for run in reference[:2]:
        run["scores"][0]["value"] = 0.6  # the accuracy over the whole stream
    found = tables.Tables([*grid(), *reference])
    table = tables.rate_tables.unstable(found, {**params, "reference": "bn-adapt"})
    assert "| below `bn-adapt` | unstable |" in table
    assert table.splitlines()[4].endswith("| 0.00 (0 of 3) | 0.67 (2 of 3) | 0.67 (2 of 3) |")
    with pytest.raises(ValueError, match="no row bn-adept"):
        tables.rate_tables.unstable(found, {**params, "reference": "bn-adept"})


def test_a_failed_run_that_was_run_again_is_forgotten(tables: ModuleType) -> None:
    found = tables.Tables(grid(), [failed(0, lr=0.01, replay=64)])
    table = tables.rate_tables.rates(found, {**PARAMS, "row": "conda", "norms": "none"})
    assert cells(table, "none") == [
        *("0.310 ± 0.010", "0.00 (0 of 3)", "1.00 (3 of 3)", "0.00 (0 of 3)"),
    ]


def test_a_run_that_failed_otherwise_is_no_collapse(tables: ModuleType) -> None:
    found = tables.Tables(grid(), [failed(3, "Traceback\nMemoryError: no", lr=0.01)])
    with pytest.raises(ValueError, match=r"did not diverge \(MemoryError: no\)"):
        tables.rate_tables.rates(found, {**PARAMS, "row": "conda"})


def test_what_else_differs_must_be_said(tables: ModuleType) -> None:
    found = tables.Tables([*grid(), record("conda", 0, 0.9, lr=0.01, replay=8)])
    with pytest.raises(ValueError, match="rows differ in replay; set with="):
        tables.rate_tables.rates(found, {**PARAMS, "row": "conda"})
    params = {**PARAMS, "row": "conda", "with": "replay=64", "norms": "none"}
    assert cells(tables.rate_tables.rates(found, params), "none")[0] == "0.310 ± 0.010"


def test_seeds_select(tables: ModuleType) -> None:
    found = tables.Tables(grid())
    params = {**PARAMS, "row": "conda", "norms": "clip"}
    table = tables.rate_tables.rates(found, {**params, "seeds": "0,1"})
    assert cells(table, "clip")[-1] == "0.00 (0 of 4)"
    table = tables.rate_tables.rates(found, {**params, "seeds": "0,1,2,3"})
    assert cells(table, "clip")[0] == "0.400 ± 0.000 (3 of 4; 1 missing)"


def test_a_refused_cell_stops_the_page(tables: ModuleType) -> None:
    wrong = record("tent", 0, 0.3)
    wrong["ids"]["source"] = "another"
    with pytest.raises(ValueError, match="source id differs"):
        tables.stream_tables.stream(tables.Tables([*grid(), wrong]), PARAMS)


def test_pages_name_figures(tables: ModuleType, tmp_path: Path) -> None:
    import matplotlib.image

    marks = (
        "<!-- figure: stability file=a.png dataset=aid weather=fog rows=conda -->\n"
        "<!-- figure: streams file=b.png dataset=aid weather=fog rows=source,conda -->\n"
    )
    found = tables.Tables(grid(), [failed(4, lr=0.1, replay=64)])
    assert tables.draw(marks, found, tmp_path) == ["a.png", "b.png"]
    for name in ("a.png", "b.png"):
        assert 800 <= matplotlib.image.imread(tmp_path / name).shape[1] <= 1000
    assert tables.fill(marks, found) == marks


def test_failed_runs_are_found_on_disk(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    store.write(record("source", 0, 0.2))
    lost = failed(0, lr=0.1)
    store.write_failed(lost, DIVERGED)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert [r["run_id"] for r in tables.committed_failures()] == [lost["run_id"]]
    assert [r["spec"]["method"] for r in tables.committed()] == ["source"]
    store.write(record("conda", 0, 0.0, lr=0.1))  # sets the failure aside
    assert tables.committed_failures() == []


def recurring(method: str, seed: int, visits: list[float]) -> Any:
    """Return a record of a stream whose domains come again."""
    found = record(method, seed, visits[-1])
    for number, value in enumerate(visits, start=1):
        more = {"metric": "accuracy", "segment": f"round-{number}", "value": value}
        found["scores"].append(more | {"n": 100, "at": 4})
    return found


def test_a_figure_of_visits(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    records = [recurring("source", seed, [0.4, 0.4, 0.4]) for seed in range(2)]
    records += [recurring("tent", seed, [0.6, 0.5 - seed / 10, 0.3]) for seed in range(2)]
    found, drawn = tables.Tables(records), []
    save = tables.stream_figures._save
    monkeypatch.setattr(
        tables.stream_figures, "_save", lambda *a, **k: (drawn.append(a[1]), save(*a, **k))
    )
    mark = "<!-- figure: visits file=c.png dataset=aid weather=fog rows=source,tent -->\n"
    assert tables.draw(mark, found, tmp_path) == ["c.png"]
    assert (tmp_path / "c.png").stat().st_size > 5000
    (axis,) = drawn
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert list(lines) == ["source", "tent"]
    np.testing.assert_allclose(lines["tent"], [(1, 0.6), (2, 0.45), (3, 0.3)])
    band = axis.collections[1].get_paths()[0].vertices
    half = 0.1 / 2**0.5  # sd of .5 and .4
    at_two = sorted({round(float(y), 6) for x, y in band if x == 2})
    np.testing.assert_allclose(at_two, [0.45 - half, 0.45 + half], atol=1e-6)
    with pytest.raises(ValueError, match="seed 0 of `source` is not of a recurring stream"):
        tables.draw(mark.replace("source,tent", "source"), tables.Tables(grid()), tmp_path)
