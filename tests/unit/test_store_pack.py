"""``dabench store pack``: a smaller folder, the same numbers, whenever it is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_calls import killed_at, needs_fork

from dabench.cli.main import main
from dabench.errors import StoreError
from dabench.store.arrays import file_beside, read_arrays
from dabench.store.checksum import sealed, text_of
from dabench.store.packing import pack
from dabench.store.reading import load_record
from dabench.store.records import Record
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
SEEDS = 3


def arrays(number: int) -> dict[str, Any]:
    return {"adapt.row": np.arange(40), "adapt.prediction": np.full(40, number, np.int16)}


def curves(number: int) -> list[Record]:
    return [
        {"metric": "HOS", "value": number / 7, "n": 9, "segment": "all", "at": at}
        for at in range(1, 40)
    ]


def write_old(store: Store, record: Record, number: int) -> Path:
    """Write a record as earlier versions did: curves inside, all predictions beside it."""
    path = store.path("sf-osda", "digits", record["run_id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path.with_suffix(".npz"), allow_pickle=False, **arrays(number))
    marks = {"schema": 1, "curves": curves(number), "predictions": f"{path.stem}.npz"}
    path.write_bytes(text_of(sealed(record | marks)))
    return path


def fill(store: Store, make: Make) -> None:
    """Three old records, one of today, and two that were superseded."""
    for seed in range(SEEDS):
        write_old(store, make("usd", seed, 0.5), seed)
    for number in (1, 2, 3):
        store.write(make("shot", 0, 0.5, curves=curves(number)), arrays(number))


@pytest.fixture
def store(made_run: Make, tmp_path: Path) -> Store:
    found = Store(tmp_path / "results")
    fill(found, made_run)
    return found


def numbers(store: Store) -> list[tuple[str, str, list[int]]]:
    """Return what each record holds but for the names of files: id, scores and curves, answers."""
    found = []
    for path, record in store.all():
        beside = read_arrays(file_beside(path, record))
        assert beside.keys() == arrays(0).keys()
        text = json.dumps([record["scores"], record["curves"], record["cost"]])
        found.append((record["run_id"], text, beside["adapt.prediction"].tolist()))
    assert store.problems == []
    return found


def superseded(store: Store) -> list[tuple[str, int, int]]:
    """Return what the superseded ones hold, each under the name that it got."""
    found = []
    for name in ("", ".1"):
        run = next(r["run_id"] for _, r in store.all() if r["spec"]["method"] == "shot")
        path = store.superseded / f"{run}{name}.json"
        record = load_record(path)
        answer = read_arrays(file_beside(path, record))["adapt.prediction"]
        found.append((path.name, round(7 * record["curves"][0]["value"]), int(answer[0])))
    return found


def content(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.name[0] != "."
    }


def test_packed_records_are_the_same_and_stay_so(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before, old = numbers(store), superseded(store)
    packing = ["store", "pack", "--results", str(store.root)]
    files = content(store.root)
    assert main([*packing, "--dry-run"]) == 0
    assert "3 records would be rewritten" in capsys.readouterr().out
    assert content(store.root) == files
    assert main(packing) == 0
    said = capsys.readouterr().out
    assert "3 records rewritten" in said
    assert "4 superseded files moved" in said
    assert (numbers(store), superseded(store)) == (before, old)
    assert [number for _, *rest in old for number in rest] == [1, 1, 2, 2]
    assert all("curves" not in json.loads(path.read_text()) for path, _ in store.all())
    assert not store.superseded.exists()
    packed = content(store.root)
    assert sum(map(len, packed.values())) < sum(map(len, files.values()))
    assert main(packing) == 0
    assert "0 records rewritten" in capsys.readouterr().out
    assert content(store.root) == packed


def test_what_is_superseded_later_finds_a_name_of_its_own(store: Store, made_run: Make) -> None:
    pack(store.root)
    old = superseded(store)
    store.write(made_run("shot", 0, 0.5, curves=curves(4)), arrays(4))
    assert superseded(store) == old
    (third,) = store.superseded.glob("*.json")
    assert third.name.endswith(".2.json")
    assert pack(store.root).archived == 2
    assert superseded(store) == old
    assert load_record(third)["curves"] == curves(3)
    assert store.find(third.name[:16])  # the one in its place
    store.supersede(third.name[:16])
    with pytest.raises(StoreError, match="is superseded"):
        store.find(third.name[:16])


def test_what_cannot_be_packed_stays_and_is_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, *_ = (p for p, r in store.all() if r["spec"]["method"] == "usd")
    damaged.with_suffix(".npz").write_bytes(b"PK")
    text = damaged.read_bytes()
    pack(store.root)
    store.superseded.mkdir()
    run = superseded(store)[0][0]
    (store.superseded / run).write_text("another")
    assert main(["store", "pack", "--results", str(store.root)]) == 0
    said = capsys.readouterr().err
    assert f"{damaged.with_suffix('.npz')}: predictions cannot be read" in said
    assert f"{store.superseded / run}: " in said
    assert "holds another file of this name" in said
    assert damaged.read_bytes() == text
    assert (store.superseded / run).read_text() == "another"


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_folder_without_records_is_none_that_was_packed(
    tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "pack", "--results", str(tmp_path / "typo"), *words]) == 2
    assert f"{tmp_path / 'typo' / 'records'}: no such folder; give" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_pack_takes_no_choice(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["abc"], ["--data", "d"], ["--protocol", "sf-osda"]):
        assert main(["store", "pack", "--results", str(store.root), *words]) == 2
        assert "packs the whole folder" in capsys.readouterr().err


def test_a_damaged_archive_is_named(store: Store) -> None:
    pack(store.root)
    archive = store.records / "superseded.zip"
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"superseded\.zip"):
        superseded(store)
    with pytest.raises(StoreError, match=r"superseded\.zip"):
        pack(store.root)
    assert len(list(store.all())) == SEEDS + 1


@pytest.mark.slow
@needs_fork
@pytest.mark.timeout(300)
def test_wherever_it_is_killed_each_record_is_there_and_the_next_call_ends_it(
    made_run: Make, tmp_path: Path
) -> None:
    whole = None
    for step in range(0, 400, 3):
        store = Store(tmp_path / str(step))
        fill(store, made_run)
        whole = whole or (numbers(store), superseded(store))
        died = killed_at(step, partial(pack, store.root))
        assert (numbers(store), superseded(store)) == whole
        if not died:
            break
        pack(store.root)
        assert (numbers(store), superseded(store)) == whole
        assert not store.superseded.exists()
    assert step > 60
    assert not died
