"""``load_results`` and ``load_curves`` on a small store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dabench
from dabench.contract.types import Score
from dabench.errors import ConfigError, StoreError
from dabench.store.identity import run_digest
from dabench.store.store import Store

SPEC = {
    "method": "usd",
    "protocol": "sf-osda",
    "dataset": "digits",
    "source": "print",
    "target": "handwritten",
    "init": "bn-target",
    "backbone": "small-cnn",
    "weights": "none",
    "image_size": 32,
    "epochs": 2,
    "batch_size": 64,
    "source_epochs": 2,
    "freeze": 0,
    "seed": 3,
    "device": "cpu",
    "threads": 1,
    "method_options": {"lr": 0.1},
    "protocol_options": {"split": "r3"},
}
FINAL = [Score("HOS", 0.5, 10, at=2), Score("UNK", None, 4, at=2), Score("HOS", 0.4, 5, "held-out")]
ON_THE_WAY = [Score("HOS", 0.3, 10, at=1), Score("im", 1.2, 10, at=1), *FINAL[:1]]


def write(store: Store, **spec: Any) -> Path:
    versions = {"method": "2", "protocol": "1"}
    ids = {"data": "d", "stream": "s", "source": "m"}
    return store.write(
        {
            "run_id": run_digest(SPEC | spec, versions, ids),
            "spec": SPEC | spec,
            "variant": {"lr": 0.1},
            "versions": versions,
            "ids": ids,
            "cost": {"adapt_seconds": 7.5},
            "scores": [vars(score) for score in FINAL],
            "curves": [vars(score) for score in ON_THE_WAY],
        }
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs of sf-osda on digits, one of another protocol."""
    store = Store(tmp_path)
    write(store)
    write(store, seed=4)
    write(store, protocol="sf-uda", protocol_options={}, init="source")
    return tmp_path


def test_one_line_a_run_metric_and_segment(results: Path) -> None:
    frame = dabench.load_results(results)
    assert len(frame) == 9
    assert frame["run_id"].nunique() == 3
    line = frame[(frame["method"] == "usd+bn") & (frame["segment"] == "held-out")]
    line = line[line["seed"] == 3].iloc[0]
    assert (line["metric"], line["value"], line["n"], line["seed"]) == ("HOS", 0.4, 5, 3)
    assert (line["method"], line["variant"], line["version"]) == ("usd+bn", "lr=0.1", "2/1")
    assert (line["task"], line["adapt_seconds"]) == ("print→handwritten", 7.5)
    assert frame.loc[frame["metric"] == "UNK", "value"].isna().all()
    assert frame["value"].dtype == "float64"
    columns = frame.groupby("column")["protocol"].unique()
    assert sorted(len(found) for found in columns) == [1, 1]


def test_filters_and_option_columns(results: Path) -> None:
    frame = dabench.load_results(
        str(results), protocol="sf-osda", options=("method.lr", "protocol.split", "method.tau")
    )
    assert set(frame["protocol"]) == {"sf-osda"}
    assert set(frame["method.lr"]) == {0.1}
    assert set(frame["protocol.split"]) == {"r3"}
    assert frame["method.tau"].isna().all()
    with pytest.raises(ConfigError, match=r"'lr'; 'method\.NAME' or"):
        dabench.load_results(results, options=["lr"])


def test_curves(results: Path) -> None:
    frame = dabench.load_curves(results, dataset="digits", protocol="sf-osda")
    assert len(frame) == 6
    hos = dabench.load_curves(results, metrics=["HOS"])
    assert set(hos["metric"]) == {"HOS"}
    assert hos.groupby("run_id")["at"].apply(list).tolist() == [[1, 2]] * 3


def test_damaged_records_are_counted(results: Path) -> None:
    (results / "records" / "sf-osda" / "digits" / "run-d.json").write_text('{"schema": 1, "sp')
    with pytest.warns(UserWarning, match=r"1 damaged records left out: .*run-d\.json"):
        frame = dabench.load_results(results)
    assert len(frame) == 9
    with pytest.raises(StoreError, match=r"run-d\.json"):
        dabench.load_results(results, strict=True)


def test_nothing_there(results: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'dabench run' makes them"):
        dabench.load_results(tmp_path / "absent")
    with pytest.raises(StoreError, match=r"no records in .*sf-usda"):
        dabench.load_curves(results, protocol="sf-usda")
    with pytest.raises(StoreError, match="did you mean 'sf-uda'"):
        dabench.load_results(results, protocol="sfuda")
    with pytest.raises(ConfigError, match="no curve of HSO; did you mean 'HOS'"):
        dabench.load_curves(results, metrics=["im", "HSO"])


def test_pandas_comes_when_it_is_needed_and_torch_never() -> None:
    code = (
        "import sys, dabench; assert 'pandas' not in sys.modules; assert dabench.__version__; "
        "dabench.load_results; assert 'pandas' in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_result'"):
        dabench.load_result  # noqa: B018
