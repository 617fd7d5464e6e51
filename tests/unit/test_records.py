"""The store: whole files only, nothing overwritten, many writers at once."""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.contract.types import Score
from dabench.errors import StoreError
from dabench.store.identity import column_key
from dabench.store.reading import load_record
from dabench.store.records import score_map, score_to_row
from dabench.store.store import Store

ROOT = Path(__file__).parents[2]
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
    "epochs": 2,
    "batch_size": 64,
    "source_epochs": 2,
    "freeze": 0,
    "seed": 0,
    "device": "cpu",
    "threads": 1,
    "method_options": {"lr": 0.1},
    "protocol_options": {"split": "default"},
}


def record(run_id: str = "abc123", value: float | None = 0.5) -> dict[str, Any]:
    rows = [score_to_row(Score("HOS", value, 10)), score_to_row(Score("HOS", None, 5, "held-out"))]
    return {"run_id": run_id, "spec": SPEC, "scores": rows, "curves": []}


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_write_and_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record(), {"adapt/id": np.arange(3), "held-out/id": np.arange(2)})
    assert path == store.path("sf-osda", "digits", "abc123")
    assert store.exists("sf-osda", "digits", "abc123")
    found = load_record(path)
    assert (found["schema"], found["predictions"]) == (1, "abc123.npz")
    assert score_map(found) == {"HOS": 0.5, "HOS/held-out": None}
    with np.load(path.with_name(found["predictions"])) as arrays:
        assert arrays["adapt/id"].tolist() == [0, 1, 2]
    assert files(tmp_path) == [
        "records/sf-osda/digits/abc123.json",
        "records/sf-osda/digits/abc123.npz",
    ]


def test_full_precision_and_holes(tmp_path: Path) -> None:
    path = Store(tmp_path).write(record(value=0.1 + 0.2) | {"cost": {"x": float("nan")}})
    assert score_map(load_record(path))["HOS"] == 0.1 + 0.2
    assert load_record(path)["cost"]["x"] is None
    assert score_to_row(Score("UNK", float("nan"), 0))["value"] is None


def test_a_second_record_supersedes_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for value in (0.1, 0.2, 0.3):
        store.write(record(value=value), {"id": np.arange(2)})
    assert [score_map(found)["HOS"] for _, found in store.all()] == [0.3]
    old = [
        load_record(tmp_path / "records/superseded" / n) for n in ("abc123.json", "abc123.1.json")
    ]
    assert [score_map(found)["HOS"] for found in old] == [0.1, 0.2]
    assert (tmp_path / "records/superseded/abc123.1.npz").is_file()


def test_supersede(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record())
    moved = store.supersede("abc123")
    assert moved == tmp_path / "records" / "superseded" / "abc123.json"
    assert not path.exists()
    assert list(store.all()) == []
    with pytest.raises(StoreError, match="no run"):
        store.find("abc123")


def test_failed_runs_never_look_like_results(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write_failed({"run_id": "abc123", "spec": SPEC}, "Traceback …")
    assert path.name == "abc123.failed.json"
    assert list(store.all()) == []
    assert not store.exists("sf-osda", "digits", "abc123")
    assert store.find("abc") == path
    done = store.write(record())
    assert store.find("abc") == done
    assert not path.exists()


def test_find_by_prefix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = [store.write(record(name)) for name in ("abc1", "abc2")]
    assert store.find("abc2") == paths[1]
    with pytest.raises(StoreError, match="fits 2 runs"):
        store.find("abc")
    with pytest.raises(StoreError, match="no run ''"):
        store.find("")


def test_damaged_files_are_named_and_skipped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good = store.write(record())
    good.with_name("bad.json").write_text('{"schema": 1, "run')
    good.with_name("old.json").write_text('{"schema": 0}')
    assert [path for path, _ in store.all()] == [good]
    assert len(store.problems) == 2
    assert "bad.json is damaged" in store.problems[0]


def test_curves_can_be_left_out(tmp_path: Path) -> None:
    """A quicker way to the same record, for tables; names that look like the end do no harm."""
    rows = [score_to_row(Score('x],\n "curves": [\n ]', 0.5, 1, at=step)) for step in range(3)]
    whole = {**record(), "curves": rows, "extras": ["a"], "note": '],\n "curves": [\n {'}
    path = Store(tmp_path).write(whole)
    assert load_record(path)["curves"] == rows
    expected = {name: part for name, part in load_record(path).items() if name != "curves"}
    assert load_record(path, curves=False) == expected
    assert [found for _, found in Store(tmp_path, curves=False).all()] == [expected]
    # other layouts, and curves at the very end, are read as a whole
    for text in (json.dumps(load_record(path)), json.dumps(expected | {"curves": rows}, indent=1)):
        path.write_text(text)
        assert load_record(path, curves=False) == expected
    path.write_text(json.dumps(load_record(path), indent=1)[:400])
    with pytest.raises(StoreError, match="damaged"):
        load_record(path, curves=False)


def test_reading_at_once_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    assert store.read() == list(store.all())
    assert gc.isenabled()
    gc.disable()
    try:
        store.read()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_files_come_in_a_fixed_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("b2", "a1", "c3"):
        store.write(record(name))
        store.write(record(f"{name}-x") | {"spec": SPEC | {"dataset": "alpha"}})
    store.supersede(store.write(record("d4")).stem)
    (store.records / ".hidden").mkdir()
    (store.records / "notes.txt").write_text("no folder")
    found = [path.relative_to(store.records / "sf-osda").as_posix() for path, _ in store.all()]
    first = [f"alpha/{name}-x.json" for name in ("a1", "b2", "c3")]
    assert found == [*first, *(f"digits/{name}.json" for name in ("a1", "b2", "c3"))]
    assert len(list(store.all("sf-*", "digits"))) == 3
    assert list(store.all("sf-uda")) == []


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.write(record())
    assert files(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).write(record())
    assert files(tmp_path) == []


def test_check_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path / "results").check_writable()
    with pytest.raises(StoreError, match="does not exist"):
        Store(tmp_path / "absent" / "results").check_writable()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Store(tmp_path / "file").check_writable()

    def read_only(**_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(StoreError, match="Read-only"):
        Store(tmp_path / "results").check_writable()


def test_column_ignores_method_and_seed() -> None:
    same = {"method": "shot", "seed": 9, "init": "bn-target", "method_options": {}, "threads": 4}
    assert column_key(SPEC | same) == column_key(SPEC)
    for name, value in (("epochs", 3), ("protocol_options", {"split": "r3"}), ("target", "mnist")):
        assert column_key(SPEC | {name: value}) != column_key(SPEC)


WRITER = """
import json, sys
import numpy as np
from pathlib import Path
from dabench.store.store import Store
store, spec, who = Store(Path(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3]
for i in range(40):
    big = {"note": who * 20000, "spec": spec, "scores": [], "who": who}
    store.write({"run_id": f"own-{who}-{i}", **big}, {"id": np.arange(2000)})
    store.write({"run_id": f"shared-{i}", **big}, {"id": np.arange(2000)})
"""


@pytest.mark.timeout(120)
def test_two_processes_at_once_stay_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), json.dumps(SPEC), who], env=environment
        )
        for who in "ab"
    ]
    while any(writer.poll() is None for writer in writers):
        for path, found in store.all():
            assert found["note"] == found["who"] * 20000
            assert found["run_id"] == path.stem
        assert [p for p in store.problems if "damaged" in p] == []
    assert [writer.returncode for writer in writers] == [0, 0]
    found = {path.stem: one for path, one in store.all()}
    assert len(found) == 120
    for path in tmp_path.rglob("*"):
        assert path.suffix in ("", ".json", ".npz")
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                assert len(arrays["id"]) == 2000
        elif path.suffix == ".json":
            assert json.loads(path.read_text())["schema"] == 1
