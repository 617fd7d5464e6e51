"""Curves and predictions beside a record: the same to the last bit, shared, and checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.cli.main import main
from dabench.errors import StoreError
from dabench.store.arrays import file_beside, read_arrays
from dabench.store.checksum import sealed, text_of
from dabench.store.frames import load_curves, load_results
from dabench.store.reading import load_record
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
POINT: dict[str, Any] = {
    **{"metric": "running_accuracy", "value": 0.5},
    **{"n": 64, "segment": "all", "at": 0},
}
CURVES = [
    *(POINT | {"value": 0.1 + 0.2 * (at % 3), "at": at} for at in range(300)),
    POINT | {"value": None, "n": 7, "segment": "fog/\u96fe", "at": 2**40},
]
ARRAYS = {
    "stream.row": np.arange(50)[::-1],
    "stream.truth": np.arange(50, dtype=np.int16) % 7,
    "stream.prediction": np.arange(50, dtype=np.int16) % 5,
    "stream.confidence": np.linspace(0.1, 1, 50, dtype=np.float32),
    "stream.before": np.arange(500, dtype=np.uint32).reshape(5, 10, 10),
    "stream.after": np.arange(500, dtype=np.uint32)[::-1].reshape(5, 10, 10),
}


def in_old_form(path: Path, arrays: dict[str, Any]) -> None:
    """Write a record and what lies beside it as earlier versions did."""
    whole = {k: v for k, v in load_record(path).items() if k != "predictions_checksum"}
    np.savez_compressed(path.with_suffix(".npz"), allow_pickle=False, **arrays)
    path.write_bytes(text_of(sealed(whole)))


@pytest.fixture
def path(made_run: Make, tmp_path: Path) -> Path:
    """The record of a run with curves and predictions."""
    return Store(tmp_path).write(made_run("usd", 0, curves=CURVES), ARRAYS)


def test_curves_come_back_to_the_last_bit(path: Path, tmp_path: Path) -> None:
    kept = json.loads(path.read_text())
    assert "curves" not in kept
    assert len(path.read_bytes()) < 8000 < len(json.dumps(CURVES))
    assert json.dumps(load_record(path)["curves"]) == json.dumps(CURVES)
    lean = [load_results(tmp_path), load_curves(tmp_path)]
    in_old_form(path, ARRAYS)
    assert json.dumps(load_record(path)["curves"]) == json.dumps(CURVES)
    for new, old in zip(lean, (load_results(tmp_path), load_curves(tmp_path)), strict=True):
        assert new.equals(old)


def test_curves_that_columns_would_change_stay_with_the_record(
    made_run: Make, tmp_path: Path
) -> None:
    for curves in ([POINT | {"value": 1}], [{"metric": "x", "n": 1, "value": 0.5}]):
        path = Store(tmp_path).write(made_run("usd", 0, curves=curves), ARRAYS)
        assert json.dumps(json.loads(path.read_text())["curves"]) == json.dumps(curves)
        assert json.dumps(load_record(path)["curves"]) == json.dumps(curves)
        assert read_arrays(file_beside(path, load_record(path))).keys() == ARRAYS.keys()


def test_predictions_come_back_and_confidences_nearly(path: Path) -> None:
    found = read_arrays(path.with_suffix(".npz"))
    assert found.keys() == ARRAYS.keys()
    in_old_form(path, ARRAYS)
    old = read_arrays(path.with_suffix(".npz"))
    assert all((old[name] == array).all() for name, array in ARRAYS.items())
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        gap = np.abs(found[name] - array.astype(np.float64)).max()
        assert gap == 0 if name != "stream.confidence" else 0 < gap <= 2**-10


def test_what_runs_of_a_stream_share_lies_there_once(made_run: Make, path: Path) -> None:
    store = Store(path.parents[3])
    other = store.write(made_run("shot", 0, curves=CURVES), ARRAYS)
    (shared,) = (store.records / "shared").iterdir()
    reversed_rows = ARRAYS | {"stream.row": np.arange(50)}
    store.write(made_run("shot", 1), reversed_rows)
    assert len(list((store.records / "shared").iterdir())) == 2
    moved = store.supersede(path)
    for record in (moved, other):
        found = read_arrays(file_beside(record, load_record(record)))
        assert (found["stream.row"] == ARRAYS["stream.row"]).all()
    shared.write_bytes(shared.read_bytes()[:-40])
    with pytest.raises(StoreError, match="cannot be read"):
        read_arrays(other.with_suffix(".npz"))
    store.write(made_run("usd", 0), ARRAYS)  # is made again by who needs it
    assert (read_arrays(other.with_suffix(".npz"))["stream.row"] == ARRAYS["stream.row"]).all()


def swap(path: Path) -> None:
    """Put another run's sound file there: one value of a curve, or the order of rows, differs."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    name = "curves.values" if "curves.values" in arrays else "stream.row"
    arrays[name] = arrays[name][::-1]
    np.savez(path, allow_pickle=False, **arrays)


@pytest.mark.parametrize("change", [swap, Path.unlink, lambda path: path.write_bytes(b"PK")])
@pytest.mark.parametrize("where", ["beside", "shared"])
def test_what_lies_beside_is_checked_by_strict(
    path: Path,
    tmp_path: Path,
    where: str,
    change: Callable[[Path], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    board = ["leaderboard", "--results", str(tmp_path), "--csv", str(tmp_path / "a.csv")]
    assert main([*board, "--strict"]) == 0
    table = (tmp_path / "a.csv").read_bytes()
    (shared,) = (tmp_path / "records" / "shared").iterdir()
    file = {"beside": path.with_suffix(".npz"), "shared": shared}[where]
    change(file)
    assert main([*board, "--strict"]) == 2
    assert str(file) in capsys.readouterr().err
    with pytest.raises(StoreError, match=file.name):
        load_results(tmp_path, strict=True)
    assert main(board) == 0  # no curve stands in a table
    assert (tmp_path / "a.csv").read_bytes() == table
    if where == "beside":
        with pytest.raises(StoreError, match=file.name):
            load_record(path)


def test_a_record_without_its_file_is_no_record(path: Path, tmp_path: Path) -> None:
    """Copied without what lies beside it, it is named."""
    other = tmp_path / "alone" / path.name
    other.parent.mkdir()
    shutil.copy(path, other)
    with pytest.raises(StoreError, match=rf"{path.stem}\.npz: predictions cannot be read"):
        load_record(other)
