"""Do no harm: the share of a dense stream's conditions in which a row is below a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from dabench.board.statistics.seeds import better_sign
from dabench.board.tables.leaderboard import table

Make = Callable[..., dict[str, Any]]
FOG, RAIN = "mIoU/fog-3", "mIoU/rain-3"


def run(
    made: Make, method: str, seed: int, fog: float | None, rain: float | None, **more: Any
) -> dict[str, Any]:
    """Return the record of a dense stream under two conditions."""
    scores = {FOG: fog, RAIN: rain, "mIoU/mean-conditions": 0.9, "mIoU/worst-condition": 0.9}
    # none of these is a condition, though they look like one
    scores |= {"mIoU/before": 0.0, "below_source": 1.0, "below_source/before": 1.0}
    scores |= {"mIoU/fog-3/before": 0.0, "below_source/fog-3/before": 1.0}
    scores |= {"below_source/fog-3": 0.0, "below_source/rain-3": 0.0}
    return made(method, seed, None, protocol="online-seg", scores=scores, **more)


def shares(records: list[dict[str, Any]], of: str) -> pd.DataFrame:
    frame = table(records)
    rows = (frame["method"] + " " + frame["variant"]).str.strip()
    return frame.assign(row=rows)[frame["metric"] == f"share_below/{of}"].set_index("row")


def test_a_reference_is_of_the_same_version_of_the_protocol(made_run: Make) -> None:
    old, new = ({"versions": {"method": "1", "protocol": version}} for version in ("1", "2"))
    records = [run(made_run, "source", 0, 0.9, 0.9, **new), run(made_run, "tent", 0, 0, 0, **old)]
    records += [run(made_run, "bn-adapt", 0, 0.9, 0.9, **old)]
    assert list(shares(records, "source").index) == []
    assert shares(records, "bn-adapt")["mean"].to_dict() == {"tent": 1.0}


def test_share_of_conditions_below_each_reference(made_run: Make) -> None:
    records = [run(made_run, "source", s, 0.2, 0.4) for s in (0, 1)]
    records += [run(made_run, "bn-adapt", s, 0.3, 0.3) for s in (0, 1)]
    # seed 0: one of two below source, none below bn-adapt (equal is not below); seed 1: 1 and 2
    records += [run(made_run, "tent", 0, 0.3, 0.3), run(made_run, "tent", 1, 0.25, 0.29)]
    below_source, below_bn = shares(records, "source"), shares(records, "bn-adapt")
    assert below_source["mean"].to_dict() == {"bn-adapt": 0.5, "tent": 0.5}
    assert below_bn["mean"].to_dict() == {"source": 0.5, "tent": 0.5}
    assert below_bn.loc["tent", ["min", "max", "n"]].tolist() == [0.0, 1.0, 2]


def test_the_best_setting_is_the_reference(made_run: Make) -> None:
    records = [run(made_run, "source", 0, 0.1, 0.1), run(made_run, "bn-adapt", 0, 0.2, 0.2)]
    half = {"variant": {"rho": 0.5}, "options": {"rho": 0.5}}
    records += [run(made_run, "bn-adapt", 0, 0.3, 0.3, **half), run(made_run, "tent", 0, 0.25, 0.4)]
    found = shares(records, "bn-adapt")["mean"].to_dict()
    assert found == {"source": 1.0, "bn-adapt": 1.0, "tent": 0.5}


def test_a_hole_stays_one(made_run: Make) -> None:
    records = [run(made_run, "source", s, 0.2, 0.2) for s in range(5)]
    records += [run(made_run, "bn-adapt", s, 0.4, 0.4 + s / 100) for s in range(5)]
    records += [run(made_run, "tent", s, 0.5, 0.1) for s in range(4)]
    records += [run(made_run, "tent", 4, 0.5, None)]
    found = shares(records, "source")
    assert found.loc["bn-adapt", "mean"] == 0.0
    assert pd.isna(found.loc["tent", "mean"])
    assert found.loc["tent", "remark"] == "hole in 1 of 5 runs; below source"


def test_a_missing_run_of_the_reference_is_no_hole(made_run: Make) -> None:
    records = [run(made_run, "source", s, 0.2, 0.2) for s in range(3)]
    records += [run(made_run, "tent", s, 0.5, 0.1) for s in range(5)]
    found = shares(records, "source").loc["tent"]
    assert (found["mean"], found["n"]) == (0.5, 3)
    assert "hole" not in found["remark"]


def test_other_streams_have_no_such_figure(made_run: Make) -> None:
    assert better_sign("share_below/source") == -1  # what a table needs beside the figure
    scores = {"accuracy/fog-5": 0.2, "below_source/fog-5": 1.0}
    records = [made_run(m, 0, 0.5, scores=scores) for m in ("source", "bn-adapt", "tent")]
    assert not table(records)["metric"].str.startswith("share_below").any()
    assert not shares([run(made_run, "tent", 0, 0.1, 0.1)], "source").index.size
