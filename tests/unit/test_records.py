"""The store: whole files only, nothing overwritten, many writers at once."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_calls import fork, killed_at, needs_fork

from dabench.config.spec import OPTIONAL_FIELDS
from dabench.contract.types import Score
from dabench.errors import NewerError, StoreError
from dabench.store.files import locked
from dabench.store.identity import INIT_VERSIONS, column_key, id_versions, run_digest
from dabench.store.reading import load_record
from dabench.store.records import score_map, score_to_row
from dabench.store.store import Store

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


def record(name: str = "a", value: float | None = 0.5, **spec: Any) -> dict[str, Any]:
    rows = [score_to_row(Score("HOS", value, 10)), score_to_row(Score("HOS", None, 5, "held-out"))]
    parts = {
        "spec": SPEC | spec,
        "versions": {"method": "1", "protocol": "1"},
        "ids": {"data": name, "stream": "t", "source": "s"},
    }
    return {"run_id": run_digest(*parts.values()), **parts, "scores": rows, "curves": []}


ID = record()["run_id"]


def files(root: Path) -> list[str]:
    """Return what lies there, without the lock."""
    paths = [p for p in root.rglob("*") if p.is_file() and p.name != ".lock"]
    return sorted(str(p.relative_to(root)) for p in paths)


def test_write_and_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record(), {"adapt/id": np.arange(3), "held-out/id": np.arange(2)})
    assert path == store.path("sf-osda", "digits", ID)
    found = load_record(path)
    assert store.finished("sf-osda", "digits", ID) == found
    assert (found["schema"], found["predictions"]) == (1, f"{ID}.npz")
    assert score_map(found) == {"HOS": 0.5, "HOS/held-out": None}
    with np.load(path.with_name(found["predictions"])) as arrays:
        assert arrays["adapt/id"].tolist() == [0, 1, 2]
    assert files(tmp_path) == [
        f"records/sf-osda/digits/{ID}.json",
        f"records/sf-osda/digits/{ID}.npz",
    ]


def test_full_precision_and_holes(tmp_path: Path) -> None:
    path = Store(tmp_path).write(record(value=0.1 + 0.2) | {"cost": {"x": float("nan")}})
    assert score_map(load_record(path))["HOS"] == 0.1 + 0.2
    assert load_record(path)["cost"]["x"] is None
    assert score_to_row(Score("UNK", float("nan"), 0))["value"] is None


def test_a_second_record_supersedes_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (1, 2, 3):
        path = store.write(record(value=number / 10), {"id": np.full(2, number)})
    assert [score_map(found)["HOS"] for _, found in store.all()] == [0.3]
    folder = tmp_path / "records/superseded"
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{ID}.json", f"{ID}.npz"]
    places = [path, folder / f"{ID}.json", folder / f"{ID}.1.json"]
    assert [score_map(load_record(p))["HOS"] for p in places] == [0.3, 0.1, 0.2]
    arrays = [np.load(p.with_suffix(".npz"))["id"].tolist() for p in places]
    assert arrays == [[3, 3], [1, 1], [2, 2]]


def test_what_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"run {ID} makes no record: HOS is 2.5, not between"):
        Store(tmp_path).write(record(value=2.5))
    assert files(tmp_path) == []
    Store(tmp_path).write(record(value=np.float64(0.5)))
    assert len(list(Store(tmp_path).all())) == 1


def test_supersede(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record())
    moved = store.supersede(ID)
    assert moved == tmp_path / "records" / "superseded" / f"{ID}.json"
    assert not path.exists()
    assert list(store.all()) == []
    with pytest.raises(StoreError, match="no run"):
        store.find(ID)


@pytest.mark.parametrize("step", range(5))
def test_a_record_that_is_retired_keeps_its_predictions_whenever_it_is_killed(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    path = store.write(record(), {"id": np.arange(2)})
    calls = itertools.count()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if next(calls) == step:
                raise KeyboardInterrupt
            return real(*given, **named)

        return call

    with monkeypatch.context() as patched:
        for name in ("link", "unlink"):
            patched.setattr(os, name, dying(getattr(os, name)))
        # two links, two files removed
        with pytest.raises(KeyboardInterrupt) if step < 4 else contextlib.nullcontext():
            store.supersede(ID)
    moved = store.superseded / path.name
    whole = [p for p in (path, moved) if p.is_file()]
    assert whole
    assert all(p.with_suffix(".npz").is_file() for p in whole)
    if path.is_file():
        moved = store.supersede(ID)
    assert not path.exists()
    assert np.load(moved.with_suffix(".npz"))["id"].tolist() == [0, 1]


def test_failed_runs_never_look_like_results(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write_failed({"run_id": ID, "spec": SPEC}, "Traceback …")
    assert path.name == f"{ID}.failed.json"
    assert list(store.all()) == []
    assert store.finished("sf-osda", "digits", ID) is None
    assert store.find(ID[:5]) == path
    done = store.write(record())
    assert store.find(ID[:5]) == done
    assert not path.exists()


def test_find_by_prefix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = [store.write(record(str(number))) for number in range(17)]
    assert store.find(paths[1].stem[:12]) == paths[1]
    first = [path.name[0] for path in paths]
    twice = next(sign for sign in first if first.count(sign) > 1)
    with pytest.raises(StoreError, match=f"fits {first.count(twice)} runs"):
        store.find(twice)
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


def test_a_record_of_a_newer_dabench_is_called_so(tmp_path: Path) -> None:
    path = Store(tmp_path).write(record())
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema": content["schema"] + 1}))
    with pytest.raises(NewerError, match=r"written by a newer dabench .schema 2; this"):
        load_record(path)
    store = Store(tmp_path)
    assert not list(store.all())
    assert "newer dabench" in store.problems[0]


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
    names = sorted(store.write(record(name)).name for name in "abc")
    others = sorted(store.write(record(name, dataset="alpha")).name for name in "abc")
    store.supersede(store.write(record("d")).stem)
    (store.records / ".hidden").mkdir()
    (store.records / "notes.txt").write_text("no folder")
    found = [path.relative_to(store.records / "sf-osda").as_posix() for path, _ in store.all()]
    assert found == [*(f"alpha/{name}" for name in others), *(f"digits/{name}" for name in names)]
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


def test_who_waited_for_a_folder_that_is_gone_holds_a_new_one(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    folder, inside = tmp_path / "work", threading.Event()

    def wait() -> None:
        with locked(folder), (folder / ".lock").open() as file:
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inside.set()

    with locked(folder):
        second = threading.Thread(target=wait)
        second.start()
        time.sleep(0.05)  # until it waits
        shutil.rmtree(folder)
    second.join(10)
    assert inside.is_set()


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
    names = {*SPEC, *OPTIONAL_FIELDS} - {*same, "device"}
    keys = {column_key(SPEC | {name: "other"}) for name in names}
    assert len(keys - {column_key(SPEC)}) == len(names)


def test_the_version_of_a_start_is_part_of_a_runs_id() -> None:
    plain, start = (id_versions("1", "1", init) for init in ("source", "bn-target"))
    assert plain == {"method": "1", "protocol": "1"}
    assert start == {**plain, "init": INIT_VERSIONS["bn-target"]}
    ids = {"data": "d", "stream": "t", "source": "s"}
    assert run_digest(SPEC, plain, ids) != run_digest(SPEC, start, ids)


WRITERS = "abcdefgh"


def write_many(root: Path, who: str) -> None:
    """Write eight runs of one's own, and four that all write, twice."""
    for i in range(8):
        for name in (f"own-{who}-{i}", f"shared-{i % 4}"):
            mine = {"note": who * 20000, "who": who}
            Store(root).write(record(name) | mine, {"who": np.full(2000, ord(who))})


@pytest.mark.slow
@needs_fork
@pytest.mark.timeout(120)
def test_eight_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    """What any of them wrote is in its place or superseded, each beside its own predictions."""
    store = Store(tmp_path)
    writers = [fork(partial(write_many, tmp_path, who)) for who in WRITERS]
    codes: dict[int, int] = {}
    while len(codes) < len(writers):
        for path, found in store.all():
            assert found["note"] == found["who"] * 20000
            assert found["run_id"] == path.stem
        assert store.problems == []
        ended = [os.waitpid(child, os.WNOHANG) for child in writers if child not in codes]
        codes |= {child: os.waitstatus_to_exitcode(status) for child, status in ended if child}
    assert set(codes.values()) == {0}
    assert len(list(store.all())) == 8 * 8 + 4
    superseded = list((store.records / "superseded").glob("*.json"))
    assert len(superseded) == 8 * 8 - 4
    written: Counter[tuple[str, str]] = Counter()
    for path in [*superseded, *(path for path, _ in store.all())]:
        found = load_record(path)
        written[found["who"], found["ids"]["data"]] += 1
        moved = path.parent.name == "superseded"
        beside = path.with_suffix(".npz") if moved else path.with_name(found["predictions"])
        with np.load(beside) as arrays:
            assert arrays["who"].tolist() == [ord(found["who"])] * 2000
    shared = {(who, f"shared-{i}"): 2 for who in WRITERS for i in range(4)}
    assert written == {(w, f"own-{w}-{i}"): 1 for w in WRITERS for i in range(8)} | shared
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {"", ".json", ".npz"}


@pytest.mark.slow
@needs_fork
def test_a_run_keeps_its_place_wherever_a_second_write_is_killed(tmp_path: Path) -> None:
    """The table has one of the two, beside its own predictions, and the next write works."""
    seen = []
    for step in range(100):
        root = tmp_path / str(step)
        Store(root).write(record(value=0.1), {"id": np.full(3, 1)})
        second = {"id": np.full(3, 2)}
        died = killed_at(step, partial(Store(root).write, record(value=0.2), second))
        ((path, found),) = Store(root).all()
        number = round(10 * (score_map(found)["HOS"] or 0))
        with np.load(path.with_name(found["predictions"])) as arrays:
            assert arrays["id"].tolist() == [number] * 3
        seen.append(number)
        if not died:
            break
        Store(root).write(record(value=0.3), {"id": np.full(3, 3)})
        assert [score_map(found)["HOS"] for _, found in Store(root).all()] == [0.3]
    assert seen == sorted(seen)
    assert set(seen) == {1, 2}
    assert 10 < len(seen) < 100
