"""What runs and sweeps make of the records that they find, and how old ones leave the tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dabench.cli.main import main
from dabench.store.reading import load_record
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two domains of two classes, eight small pictures each."""
    root = tmp_path / "data"
    for place in (root / d / c for d in ("a", "b") for c in ("cat", "dog")):
        place.mkdir(parents=True)
        for number in range(8):
            rng = np.random.default_rng([number, *place.name.encode()])
            pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    return root


@pytest.fixture
def words(folder: Path, tmp_path: Path) -> list[str]:
    common = "--dataset image-folder --target b --image-size 16 --backbone small-cnn --weights none"
    common += " --source-epochs 1 --epochs 1 --batch-size 8 --device cpu --threads 1 --no-progress"
    places = ["--data-root", folder, "--results", tmp_path / "r", "--cache-dir", tmp_path / "c"]
    return [*common.split(), *map(str, places)]


def test_what_no_table_would_take_is_run_again(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two spellings of a domain are one run; an edited, cut or failed record is none."""
    run = ["run", "--method", "source", "--protocol", "sf-uda", *words, "--source"]
    sweep = ["sweep", "--methods", "source", "--protocols", "sf-uda", *words, "--source"]
    sweep[sweep.index("--dataset")] = "--datasets"
    assert main([*run, "a"]) == 0
    ((path, first),) = Store(tmp_path / "r").all()
    assert first["spec"]["source"] == "a"
    assert main([*run, "A"]) == 0
    assert "was already there" in capsys.readouterr().out
    assert main([*sweep, "a", "--dry-run"]) == 0
    assert "1 have a record, 0 to do" in capsys.readouterr().out
    whole = path.read_text()
    edits = [
        (whole.replace('"batch_size": 8', '"batch_size": 9'), "do not give its run id"),
        (whole.replace('"run_id"', '"failed": true,\n "run_id"'), "a failed run under the name"),
        (whole[: len(whole) // 2], "is damaged (not JSON)"),
    ]
    for text, why in edits:
        path.write_text(text)
        assert main([*sweep, "a", "--dry-run"]) == 0
        said = capsys.readouterr()
        assert "0 have a record, 1 to do" in said.out
        assert why in said.err
        assert main([*run, "a"]) == 0
        said = capsys.readouterr()
        assert "was already there" not in said.out
        (line,) = (line for line in said.err.splitlines() if str(path) in line)
        assert line.startswith("warning: ")
        assert why in line
        assert line.endswith("(now it is made again)")
        assert load_record(path)["scores"] == first["scores"]
    kept = sorted((tmp_path / "r/records/superseded").glob("*.json"))
    assert {old.read_text() for old in kept} == {text for text, _ in edits}


@pytest.fixture
def store(made_run: Make, tmp_path: Path) -> Store:
    """Two seeds of two methods; the second was run once more on other data, with two threads."""
    found = Store(tmp_path / "results")
    for seed in (0, 1):
        found.write(made_run("source", seed, 0.5))
        found.write(made_run("usd", seed, 0.7), {"id": np.arange(3)})
    other = {"data": "new", "stream": "t0", "source": "s0"}
    found.write(made_run("usd", 0, 0.8, ids=other, threads=2))
    return found


def retire(store: Store, *words: str) -> int:
    return main(["store", "retire", "--results", str(store.root), *words])


def test_a_refused_row_names_its_files_and_the_way_out(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    board = ["leaderboard", "--results", str(store.root)]
    assert main(board) == 0
    said = capsys.readouterr().out
    twice = [p for p, r in store.all() if r["spec"]["method"] == "usd" and r["spec"]["seed"] == 0]
    assert "seed 0 has 2 records, of other threads: 1, 2" in said
    assert all(path.name in said for path in twice)
    assert "'dabench store retire' takes old ones out" in said
    assert "other data under the same names want a --results of their own" in said
    assert retire(store, "--data", "new") == 0
    assert main(board) == 0
    assert "refused; seed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--data", "new"], 1),
        (["--data", "d"], 4),
        (["--data", "d", "--stream", "t1"], 2),
        (["--source-model", "s0"], 3),
        (["--threads", "2"], 1),
        (["--data", "d", "--protocol", "sf-osda", "--dataset", "digits"], 4),
    ],
)
def test_records_are_retired_by_what_they_share(
    store: Store, words: list[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(store.all())
    assert retire(store, *words, "--dry-run") == 0
    assert f"{count} record{'s' * (count > 1)} would be moved" in capsys.readouterr().out
    assert dict(store.all()) == before
    assert retire(store, *words) == 0
    said = capsys.readouterr().out
    gone = [path for path in before if path not in dict(store.all())]
    assert len(gone) == count
    assert f"{count} record{'s' * (count > 1)} moved" in said
    for path in gone:
        moved = store.records / "superseded" / path.name
        assert load_record(moved) == before[path]
        assert f"moved {path} to {moved}" in said
        assert moved.with_suffix(".npz").is_file() == bool(before[path]["predictions"])
        assert not path.with_suffix(".npz").exists()


def test_records_are_retired_by_name_sound_or_not(store: Store) -> None:
    first, second, third = list(dict(store.all()))[:3]
    second.write_text("{")
    assert retire(store, first.stem, str(second), second.stem) == 0
    left = [path for path, _ in store.all()]
    assert len(left) == 3
    assert third in left
    assert (store.records / "superseded" / second.name).read_text() == "{"


def test_a_file_that_lies_elsewhere_retires_no_run_of_its_id(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    other = Store(tmp_path / "other")
    before = dict(store.all())
    path, record = next(iter(before.items()))
    copy = other.write(record)
    assert retire(store, str(copy)) == 2
    said = capsys.readouterr().err
    assert f"{copy} is no record of {store.records}; give --results {other.root}" in said
    assert retire(store, path.name) == 2  # a file's name is that of a file here
    assert "the --results in whose records/ it lies" in capsys.readouterr().err
    assert retire(store, str(path.with_name("none.json"))) == 2
    assert "no such file" in capsys.readouterr().err
    assert dict(store.all()) == before
    monkeypatch.chdir(path.parent)
    assert retire(store, path.name, str(path)) == 0  # one record, named twice
    assert "1 record moved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name runs, or what they share"),
        (["abc", "--data", "d"], "name runs, or what they share"),
        (["abc"], "no run 'abc'"),
        (["--data", "zz"], "nothing was moved"),
        (["--data", "d", "--dataset", "mnist"], "nothing was moved"),
        (["--threads", "two"], "--threads two: expected a whole number"),
        (["abc", "--dataset", "digits"], "drop them"),
    ],
)
def test_what_cannot_be_meant_moves_nothing(
    store: Store, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(store.all())
    assert retire(store, *words) == 2
    assert message in capsys.readouterr().err
    assert dict(store.all()) == before


def test_runs_on_other_data_are_not_comparable(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {(r["spec"]["method"], r["ids"]["data"], r["spec"]["seed"]): p for p, r in store.all()}
    pair = [runs["usd", "new", 0], runs["source", "d", 0]]
    assert main(["diff", *map(str, pair), "--results", str(store.root)]) == 0
    said = capsys.readouterr().out
    assert "not comparable:\n  data id new against d at equal settings" in said
    assert "\ncomparable\n" not in said


def test_one_record_may_be_kept_in_another_layout(store: Store) -> None:
    path, record = next(iter(store.all()))
    path.write_text(json.dumps(record, indent=4, ensure_ascii=True))
    assert load_record(path) == record
