"""The index beside the records: no table differs for it, and nobody hears of it when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dabench
from dabench.board.tables.csv_file import write_csv
from dabench.board.tables.leaderboard import table
from dabench.cli.main import main
from dabench.errors import StoreError
from dabench.store import index, lean_reader
from dabench.store.lean import LeanScores
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a moment ago get entries, and several fetches are needed."""
    monkeypatch.setattr(index, "SETTLED", -1)
    monkeypatch.setattr(lean_reader, "_BATCH", 3)


@pytest.fixture
def store(made_run: Make, tmp_path: Path) -> Store:
    """Twelve runs on two data sets, as a table reads them."""
    found = Store(tmp_path / "results", curves=False)
    for seed in range(3):
        for method, value in (("source", 0.5 + seed / 7), ("usd", 0.6 + seed / 9)):
            scores = {"UNK": None if seed == 2 else 0.25, "FPR95": 0.1 * seed}
            more = {"environment": {"device": "cpu"}, "source_model": {"val_accuracy": 0.1 * seed}}
            found.write(made_run(method, seed, value, scores=scores, **more))
            found.write(made_run(method, seed, value, dataset="aerial", cost={"seconds": None}))
    return found


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of the files that are read."""
    names: list[str] = []
    load = lean_reader.load_record

    def noted(path: Path, *, curves: bool = True, strict: bool = False) -> dict[str, Any]:
        names.append(path.name)
        return load(path, curves=curves, strict=strict)

    monkeypatch.setattr(lean_reader, "load_record", noted)
    return names


def csv_of(store: Store, path: Path) -> bytes:
    write_csv(table(record for _, record in store.all()), path)
    return path.read_bytes()


def plain(store: Store) -> Store:
    return Store(store.root, curves=False, index=False)


def index_of(store: Store) -> Path:
    return store.root / index.NAME


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    for name in ("checksum", "curves_checksum"):
        record.pop(name)
    path.write_text(json.dumps(record))


def test_records_from_the_index_equal_those_of_the_files(
    store: Store, read_files: list[str]
) -> None:
    whole = [
        (path, {k: v for k, v in r.items() if k != "curves"}) for path, r in Store(store.root).all()
    ]
    assert store.read() == whole
    assert len(read_files) == 12
    assert store.read() == whole
    assert len(read_files) == 12
    assert isinstance(store.read()[0][1]["scores"], LeanScores)
    assert store.read("sf-osda", "aerial") == [w for w in whole if w[0].parent.name == "aerial"]
    assert len(read_files) == 12


def test_tables_are_the_same_with_and_without_it(
    store: Store, made_run: Make, tmp_path: Path
) -> None:
    paths = [path for path, _ in plain(store).all()]
    runs = plain(store).all("*", "digits")
    bad = next(path for path, record in runs if record["spec"]["method"] == "source")

    def change_text() -> None:
        text = paths[1].read_text()
        rewritten(paths[1], lambda r: r["scores"][0].update(value=0.123))
        assert paths[1].read_text() != text

    def damage() -> None:
        bad.write_bytes(bad.read_bytes()[:-20])

    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: store.write(made_run("shot", 0, 0.7)),
        change_text,
        damage,
        paths[3].unlink,
        lambda: store.supersede(paths[4]),
        lambda: store.write(made_run("usd", 0, 0.9, scores={"UNK": 0.5})),
        lambda: [p.unlink() for p in paths if p.parent.name == "aerial" and p.exists()],
    ]
    seen = []
    for number, step in enumerate(steps):
        step()
        for again in range(2):
            found = csv_of(store, tmp_path / "a.csv")
            assert found == csv_of(plain(store), tmp_path / "b.csv"), (number, again)
            assert store.problems == [p for p in store.problems if str(bad) in p]
        seen.append(found)
    assert len(set(seen)) == len(steps)
    assert len(store.problems) == 1
    query = "SELECT run_id FROM records WHERE folder = CAST('sf-osda/digits' AS BLOB)"
    with contextlib.closing(sqlite3.connect(index_of(store))) as file:
        kept = {run_id for (run_id,) in file.execute(query)}
    assert kept == {path.stem for path, _ in store.all("*", "digits")}


def test_an_edit_that_keeps_size_and_time_is_seen(store: Store) -> None:
    path = store.read()[0][0]
    before = path.stat()
    text = path.read_text()
    path.write_text(text.replace('"value": 0.', '"value": 1.', 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    store.read()
    assert [str(path) in problem for problem in store.problems] == [True]


def test_a_file_of_this_moment_gets_no_entry(
    store: Store, read_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SETTLED", 3600 * 10**9)
    store.read()
    store.read()
    assert len(read_files) == 24
    assert not index_of(store).exists()


def test_strict_reads_the_files(store: Store, read_files: list[str]) -> None:
    store.read()
    with contextlib.closing(sqlite3.connect(index_of(store))) as file, file:
        file.execute("UPDATE records SET seed = seed + 7")  # an index that lies
    read_files.clear()
    assert set(dabench.load_results(store.root)["seed"]) == {7, 8, 9}
    assert read_files == []
    assert set(dabench.load_results(store.root, strict=True)["seed"]) == {0, 1, 2}
    assert main(["leaderboard", "--results", str(store.root), "--strict"]) == 0
    frame = pd.read_csv(store.root / "leaderboard" / "leaderboard.csv")
    assert set(frame["seeds"]) == {"0 1 2"}


def test_what_is_no_index_is_replaced(store: Store, read_files: list[str]) -> None:
    whole = store.read()
    for content in (b"no database" * 1000, b"", index_of(store).read_bytes()[:8192]):
        index_of(store).write_bytes(content)
        assert store.read() == whole
        read_files.clear()
        assert store.read() == whole
        assert read_files == []


def test_rows_that_make_no_record_are_read_again(store: Store, read_files: list[str]) -> None:
    whole = store.read()
    for change in (
        "records SET numbers = x'00'",
        "records SET numbers = zeroblob(800)",
        "records SET parts = x'00'",
        "records SET own = 'x'",
        "records SET seed = NULL, numbers = NULL",
        "parts SET text = 'null'",
        "parts SET text = '['",
    ):
        with contextlib.closing(sqlite3.connect(index_of(store))) as file, file:
            file.execute(f"UPDATE {change}")
        assert store.read() == whole, change
        read_files.clear()
        assert store.read() == whole
        assert read_files == [], change


def test_other_code_makes_its_own(
    store: Store, read_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store.read()
    version = index._version()
    monkeypatch.setattr(index, "_version", lambda: version ^ 1)
    read_files.clear()
    assert store.read() == whole
    assert len(read_files) == 12
    assert store.read() == whole
    assert len(read_files) == 12


def test_a_locked_one_is_done_without(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PATIENCE", 0.01)
    whole = store.read()
    with contextlib.closing(sqlite3.connect(index_of(store))) as file:
        file.execute("BEGIN EXCLUSIVE")
        assert store.read() == whole
        file.execute("ROLLBACK")
    with contextlib.closing(sqlite3.connect(index_of(store))) as file:
        file.execute("BEGIN IMMEDIATE")  # can be read, not written
        store.supersede(whole[0][0])
        assert store.read() == whole[1:]


def test_a_folder_that_cannot_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        raise StoreError(f"cannot write {folder}")

    monkeypatch.setattr(index, "locked", refused)
    assert len(store.read()) == 12
    assert not index_of(store).exists()


def test_whoever_stops_early_spoils_nothing(store: Store, read_files: list[str]) -> None:
    whole = store.read()
    next(iter(store.all()))
    read_files.clear()
    assert store.read() == whole
    assert read_files == []


def test_two_readers_at_once(store: Store) -> None:
    whole = Store(store.root, curves=False, index=False).read()
    pairs = list(zip(store.all(), Store(store.root, curves=False).all(), strict=True))
    assert [a for a, _ in pairs] == whole
    assert [b for _, b in pairs] == whole
    assert store.read() == whole


def test_records_without_curves_only(store: Store) -> None:
    assert all("curves" in record for _, record in Store(store.root).all())
    assert not index_of(store).exists()
