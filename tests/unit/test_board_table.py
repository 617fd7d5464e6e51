"""The leaderboard's further columns: the best baseline, the gain, what is missing, costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dabench.board.statistics.cells import gains
from dabench.board.statistics.seeds import summarise
from dabench.board.tables.csv_file import write_csv
from dabench.board.tables.leaderboard import COLUMNS, table
from dabench.registry.method_info import MethodInfo, registered_info

Make = Callable[..., dict[str, Any]]
ROSTER = MethodInfo(baselines=frozenset({"source", "bn-adapt"}))


def lines(records: list[dict[str, Any]], metric: str = "HOS", **more: Any) -> pd.DataFrame:
    frame = table(records, info=ROSTER, **more)
    return frame[frame["metric"] == metric].set_index("method")


def runs(made: Make, method: str, values: list[float | None], **more: Any) -> list[dict[str, Any]]:
    return [made(method, seed, value, **more) for seed, value in enumerate(values)]


def test_three_seeds_are_four_point_three_standard_errors() -> None:
    found = summarise([0.5, 0.6, 0.7])
    assert found.high is not None
    assert found.sd is not None
    assert (found.high - found.mean) / (found.sd / math.sqrt(3)) == pytest.approx(4.30, abs=0.005)


def test_the_best_baseline_is_the_one_to_beat(made_run: Make) -> None:
    records = runs(made_run, "source", [0.5] * 5) + runs(made_run, "bn-adapt", [0.6] * 5)
    records += runs(made_run, "source", [0.55] * 5, init="bn-target")
    records += runs(made_run, "usd", [0.62, 0.64, 0.66, 0.63, 0.65])
    # neither a method that learns nor a changed baseline is a baseline row
    records += runs(made_run, "shot", [0.9] * 5)
    records += runs(made_run, "bn-adapt", [0.9] * 5, variant={"rho": 0.5}, options={"rho": 0.5})
    found = lines(records)
    usd = found.loc["usd"]
    assert (usd["best_baseline"], usd["best_n"], usd["best_verdict"]) == ("bn-adapt", 5, "win")
    assert usd["best_mean"] == pytest.approx(0.04)
    assert usd["diff_mean"] == pytest.approx(0.14)
    plain = found[(found.index == "bn-adapt") & (found["variant"] == "")].iloc[0]
    assert pd.isna(plain["best_mean"])
    assert plain["best_baseline"] == "bn-adapt"


def test_who_says_nothing_of_the_registry_gets_its_baselines(made_run: Make) -> None:
    """A table made in Python ranks and judges as the command's does."""
    records = []
    for method, value in (("source", 0.5), ("bn-adapt", 0.6), ("tent", 0.55)):
        records += [made_run(method, seed, value + seed / 1000) for seed in range(5)]
    plain, told = table(records), table(records, info=registered_info())
    pd.testing.assert_frame_equal(plain, told)
    assert set(plain.loc[plain["method"] == "tent", "best_baseline"]) == {"bn-adapt"}


def test_the_best_baseline_of_an_error_is_the_lowest(made_run: Make) -> None:
    pairs = {"source": 0.5, "bn-adapt": 0.3, "usd": 0.2}
    records = [made_run(m, 0, scores={"FPR95": v}) for m, v in pairs.items()]
    found = lines(records, "FPR95")
    assert found.loc["usd", "best_baseline"] == "bn-adapt"


def test_a_baseline_with_more_seeds_goes_first(made_run: Make) -> None:
    records = runs(made_run, "source", [0.5] * 3) + runs(made_run, "bn-adapt", [0.9])
    assert set(lines(records + runs(made_run, "usd", [0.7] * 3))["best_baseline"]) == {"source"}


def test_gain_between_source_and_upper_bound(made_run: Make) -> None:
    records = runs(made_run, "source", [0.4, 0.5]) + runs(made_run, "usd", [0.7, 0.8])
    assert lines(records)["gain"].isna().all()
    found = lines(records + runs(made_run, "target-supervised", [0.9, 1.0]))
    assert found["gain"].to_dict() == {
        "source": 0.0,
        "target-supervised": pytest.approx(1.0),
        "usd": pytest.approx(0.6),
    }
    assert found["oracle"].to_dict() == {
        "source": False,
        "target-supervised": True,
        "usd": False,
    }
    worse = lines(records + runs(made_run, "target-supervised", [0.3, 0.5]))
    assert worse["gain"].isna().all()


def test_gain_takes_the_seeds_that_all_have() -> None:
    hole = math.nan
    source, bound = np.array([[0.4, 0.0, hole, hole], [0.8, hole, 0.0, hole]])
    ours = np.array([[0.6, 0.9, 0.9, hole], [hole, hole, hole, 0.6]]).T
    found = gains(ours, source[:, None], bound[:, None], np.ones(()))
    assert found.tolist() == [pytest.approx(0.5), pytest.approx(hole, nan_ok=True)]

    def of_one(*values: float, sign: float = 1.0) -> float:
        return float(gains(*(np.array([[value]]) for value in values), np.array([sign]))[0])

    assert of_one(0.4, 0.8, 0.2, sign=-1.0) == pytest.approx(2 / 3)
    assert math.isnan(of_one(0.4, 0.5, 0.5))


def test_fewer_seeds_than_the_others_are_marked(made_run: Make) -> None:
    records = [*runs(made_run, "source", [0.5] * 3), *runs(made_run, "shot", [0.5] * 3)]
    records += runs(made_run, "usd", [0.7] * 2)
    records += [made_run("shot", 9, 0.5)]  # one seed more than the others is nothing to mark
    found = lines(records)
    assert found["remark"].to_dict() == {"source": "", "shot": "", "usd": "2 of 3 seeds"}
    assert found.loc["usd", "n"] == 2


def test_a_metric_that_some_runs_lack_is_a_hole(made_run: Make) -> None:
    records = [made_run("usd", 0, scores={"AUROC": 0.9}), made_run("usd", 1)]
    records += [made_run("source", seed, scores={"AUROC": 0.5}) for seed in range(2)]
    found = lines(records, "AUROC")
    assert pd.isna(found.loc["usd", "mean"])
    assert found.loc["usd", "remark"] == "hole in 1 of 2 runs"
    assert pd.isna(found.loc["usd", "diff_mean"])


def test_a_hole_of_the_reference_is_one_of_the_difference(made_run: Make) -> None:
    """A seed without a run is none: the others are paired."""
    holed, short = [0.5, 0.51, None, 0.52, 0.53, 0.54], [0.5, 0.51, 0.52, 0.53, 0.55]
    ours = runs(made_run, "usd", [0.7, 0.72, 0.69, 0.7, 0.71, 0.73])
    bound = runs(made_run, "target-supervised", spread(0.9))
    usd = lines(runs(made_run, "source", holed) + ours + bound).loc["usd"]
    assert usd["n"] == 6
    assert usd[["diff_mean", "verdict", "best_mean", "gain"]].isna().all()
    usd = lines(runs(made_run, "source", short) + ours + bound).loc["usd"]
    assert (usd["diff_n"], usd["verdict"]) == (5, "win")
    assert usd["gain"] > 0


def test_nan_is_a_hole(made_run: Make) -> None:
    found = lines([made_run("usd", 0, math.nan), made_run("usd", 1, 0.7)])
    assert pd.isna(found.loc["usd", "mean"])
    assert (found.loc["usd", "n"], found.loc["usd", "remark"]) == (0, "hole in 1 of 2 runs")
    assert pd.isna(lines([made_run("usd", 0, math.inf)]).loc["usd", "mean"])


def test_a_default_that_moved_refuses_the_row(made_run: Make) -> None:
    records = [made_run("usd", 0, options={"lr": 0.1}), made_run("usd", 1, options={"lr": 0.2})]
    assert set(lines(records)["note"]) == {"refused; options differ between seeds: lr"}
    more = [
        made_run("usd", 0, options={"lr": 0.1}),
        made_run("usd", 1, options={"lr": 0.1, "x": 1}),
    ]
    assert set(lines(more)["note"]) == {""}


def test_a_start_of_another_version_is_a_row_of_its_own(made_run: Make) -> None:
    records = [made_run("usd", 0, value, init="bn-target") for value in (0.7, 0.8)]
    records[1]["versions"] = records[1]["versions"] | {"init": "2"}
    found = lines(records)
    assert found[["version", "mean"]].values.tolist() == [["1/1", 0.7], ["1/1/2", 0.8]]
    assert set(found["note"]) == {""}


def version(method: str, protocol: str, init: str = "") -> dict[str, Any]:
    """Return the versions of a record."""
    found = {"method": method, "protocol": protocol} | ({"init": init} if init else {})
    return {"versions": found | {"dabench": "0.1.0"}}


def spread(level: float) -> list[float | None]:
    return [level + 0.01 * seed * level for seed in range(5)]


def test_another_version_of_the_protocol_is_another_task(made_run: Make) -> None:
    """Ids may be equal; what was done with the data is not."""
    records = runs(made_run, "source", spread(0.5), **version("1", "2"))
    records += runs(made_run, "tent", spread(0.6), **version("1", "1"))
    records += runs(made_run, "usd", spread(0.7), **version("3", "2"))
    records += runs(made_run, "target-supervised", spread(0.9), **version("1", "2"))
    found = lines(records)
    tent, usd = found.loc["tent"], found.loc["usd"]
    assert tent["remark"] == "other protocol version than source"
    pairs = ["diff_mean", "verdict", "best_baseline", "best_mean", "best_verdict", "gain"]
    assert tent[pairs].isna().all()
    assert (usd["verdict"], usd["best_verdict"], usd["remark"]) == ("win", "win", "")
    assert usd["gain"] == pytest.approx(0.5)


def test_another_version_of_a_start_is_not_paired_with_that_start(made_run: Make) -> None:
    bn = {"init": "bn-target"}
    records = runs(made_run, "source", spread(0.5)) + runs(made_run, "usd", spread(0.7), **bn)
    records += runs(made_run, "source", spread(0.6), init="bn-target", **version("1", "1", "2"))
    found = lines(records, against="source+bn").loc["usd+bn"]
    assert pd.isna(found["diff_mean"])
    assert found["remark"] == "other start version than source+bn"
    assert lines(records).loc["usd+bn", "diff_mean"] == pytest.approx(0.204)


def test_differences_go_to_the_newest_version_of_a_row_that_stands(made_run: Make) -> None:
    records = runs(made_run, "source", spread(0.5), **version("9", "1"))
    records += runs(made_run, "source", spread(0.55), **version("10", "1"))
    records += runs(made_run, "source", spread(0.1), **version("11", "2"))
    refused = made_run("source", 0, 0.2, **version("12", "1"))
    refused["ids"] = refused["ids"] | {"data": "other"}
    records += [refused, *runs(made_run, "usd", spread(0.6))]
    usd = lines(records).loc["usd"]
    assert usd["diff_mean"] == usd["best_mean"] == pytest.approx(0.05 * 1.02)
    assert (usd["verdict"], usd["best_verdict"], usd["remark"]) == ("win", "win", "")


def test_what_a_line_came_from(made_run: Make) -> None:
    records = runs(made_run, "usd", [0.7, 0.8])
    found = lines(records).loc["usd"]
    assert found["runs"] == " ".join(record["run_id"] for record in records)
    assert (found["data_id"], found["stream_id"], found["source_id"]) == ("d", "t0 t1", "s0 s1")
    assert (found["selection"], found["dabench"]) == ("last", "0.1.0")
    assert (found["seconds"], found["peak_memory_bytes"]) == (10.5, 200.0)
    assert pd.isna(found["images_forward"])


def test_target_labels_make_an_upper_bound_under_any_name(made_run: Make) -> None:
    """Records of the bound itself that are older than the mark stand as they did."""
    told = [made_run("shiny", seed, 0.99, extras=["target-labels"]) for seed in (0, 1)]
    found = lines([*told, *runs(made_run, "usd", [0.7, 0.8]), made_run("target-supervised", 0)])
    assert found["oracle"].to_dict() == {"shiny": True, "usd": False, "target-supervised": True}
    assert found.loc["shiny", "extras"] == "target-labels"


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    frame = table([])
    assert list(frame.columns) == COLUMNS
    write_csv(frame, tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_csv_survives_every_name(made_run: Make, tmp_path: Path) -> None:
    names = ["源→目标 ✓", 'a,"b"\nc', "x" * 5000, "\ud800"]
    records = [made_run(f"m{i}", 0, 0.5, extras=[name]) for i, name in enumerate(names)]
    write_csv(table(records), tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv", encoding="utf-8")
    assert read["extras"].tolist() == [*names[:3], "\\ud800"]
    assert read["diff_n"].isna().all()


def test_counts_have_no_point_in_csv(made_run: Make, tmp_path: Path) -> None:
    records = runs(made_run, "source", [0.5] * 5) + runs(made_run, "usd", [0.7] * 5)
    write_csv(table(records), tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv", dtype=str).set_index("method")
    assert (read.loc["usd", "diff_n"], read.loc["usd", "best_n"]) == ("5", "5")


def test_the_registry_tells_the_board() -> None:
    found = registered_info()
    assert found.baselines == {"source", "linear-probe", "bn-adapt", "tta-aug"}
    assert found.primary("sf-osda", "digits") == "HOS"
    assert found.primary("sf-uda", "visda-c") == "mean_class_accuracy"


def test_versions_of_a_protocol_may_have_streams_of_their_own(made_run: Make) -> None:
    """What agrees with its own version is not refused for the other's ids."""
    records = []
    for number in ("1", "2"):
        made = runs(made_run, "source", spread(0.5), **version("1", number))
        made += runs(made_run, "usd", spread(0.7), **version("1", number))
        for record in made:
            record["ids"] = record["ids"] | {"stream": f"{number}-{record['spec']['seed']}"}
        records += made
    assert set(lines(records)["note"]) == {""}
    assert lines(records).loc["usd", "verdict"].tolist() == ["win", "win"]
    records[-1]["ids"] = records[-1]["ids"] | {"stream": "1-4"}  # that of the other version
    usd = lines(records).loc["usd"].set_index("version")
    assert usd.loc["1/1", "note"] == ""
    assert "stream id differs" in usd.loc["1/2", "note"]


def test_seeds_of_several_machines_say_so(made_run: Make) -> None:
    """Last digits and seconds are those of a machine: a mean or a pair over two of them is told."""
    records = runs(made_run, "source", spread(0.5)) + runs(made_run, "usd", spread(0.7))
    records += runs(made_run, "shot", spread(0.6), device="cuda")
    records[9]["spec"]["threads"] = 4
    found = lines(records)
    said = "other machine than source"
    assert found["remark"].to_dict() == {
        **{"source": "", "shot": said, "usd": f"{said}; seeds of several machines"}
    }
    assert found["seconds"].isna().to_dict() == {"source": False, "shot": False, "usd": True}
    assert not found["peak_memory_bytes"].isna().any()
