"""Records that must not reach a table: each is named, and none stops the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench.cli.main import main
from dabench.store.identity import run_digest
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def store(made_run: Make, tmp_path: Path) -> Store:
    """A store with one sound run whose id is the digest of what it holds."""
    record = made_run("usd", 0)
    record["run_id"] = run_digest(record["spec"], record["versions"], record["ids"])
    found = Store(tmp_path / "results")
    found.write(record)
    return found


def only(store: Store) -> Path:
    return next(iter(store.all()))[0]


def problem(store: Store) -> str:
    list(store.all())
    assert len(store.problems) == 1
    assert "\n" not in store.problems[0]
    return store.problems[0]


CHANGES: list[tuple[Change, str]] = [
    (lambda r: r["spec"].update(epochs=99), "edited by hand"),
    (lambda r: r["spec"]["method_options"].update(lr=1), "edited by hand"),
    (lambda r: r["ids"].update(source="other"), "edited by hand"),
    (lambda r: r["versions"].update(method="2"), "edited by hand"),
    (lambda r: r.pop("versions"), "no versions"),
    (lambda r: r.update(run_id="another"), "holds run 'another'"),
    (lambda r: r.update(run_id=7), "no run_id"),
    (lambda r: r.update(schema=2), "not a record of schema 1"),
    (lambda r: r.pop("spec"), "has no spec"),
    (lambda r: r["spec"].pop("backbone"), "spec lacks backbone"),
    (lambda r: r["spec"].update(seed="zero"), "no usable seed"),
    (lambda r: r["spec"].update(dataset="office31"), "its spec says sf-osda/office31"),
    (lambda r: r.update(failed=True), "a failed run under the name of a finished one"),
    (lambda r: r.update(scores={}), "no list of scores"),
    (lambda r: r["scores"].append({"metric": "UNK"}), "lacks its metric or value"),
    (lambda r: r["scores"].append(3), "lacks its metric or value"),
    (lambda r: r["scores"][0].update(value="0.9"), "HOS is '0.9', not a number"),
    (lambda r: r["scores"][0].update(value=True), "HOS is True, not a number"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[words for _, words in CHANGES])
def test_a_changed_record_is_named(store: Store, change: Change, words: str) -> None:
    path = only(store)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    assert words in problem(store)
    assert str(path) in problem(store)
    assert list(store.all()) == []


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1', "[]", "null", "\x00\x00", "[" * 10**5])
def test_a_damaged_file_is_named(store: Store, text: str) -> None:
    path = only(store)
    path.write_text(text)
    assert str(path) in problem(store)


def test_half_a_file_is_named(store: Store) -> None:
    path = only(store)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "is damaged (not JSON)" in problem(store)
    path.write_bytes(b"\xff\xfe" + content)
    assert "is damaged (not JSON)" in problem(store)


def test_a_run_that_lies_in_two_places_counts_once(store: Store) -> None:
    path = only(store)
    copy = path.parent.with_name("zz") / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    assert f"{copy}: run {path.stem} lies in {path} too" in problem(store)
    assert [found for found, _ in store.all()] == [path]


def test_a_score_of_nan_is_read_as_a_hole(store: Store) -> None:
    path = only(store)
    path.write_text(path.read_text().replace("0.5,", "NaN,"))
    assert len(list(store.all())) == 1
    assert store.problems == []


def test_failed_runs_are_counted_until_they_are_finished(store: Store, made_run: Make) -> None:
    store.write_failed(made_run("shot", 1) | {"scores": []}, "Traceback")
    assert [path.name for path in store.failed()] == ["shot-source-handwritten-1.failed.json"]
    assert len(list(store.all())) == 1
    store.write(made_run("shot", 1))
    assert store.failed() == []


def board(store: Store, *words: str) -> int:
    return main(["leaderboard", "--results", str(store.root), "--against", "usd", *words])


def test_results_that_can_only_be_read(
    store: Store, frozen: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with frozen(store.root):
        assert board(store) == 0
        out, error = capsys.readouterr()
        assert "usd" in out
        assert "table:" not in out
        assert "leaderboard.csv: Permission denied" in error
        assert error.rstrip().endswith("with --csv FILE")
        assert board(store, "--csv", str(store.root / "mine.csv")) == 2
        assert main(["show", str(only(store))]) == 0
        assert main(["run", "--method", "source", "--results", str(store.root)]) == 2
        assert "cannot write there (Permission denied)" in capsys.readouterr().err
    table = tmp_path.parent / f"{tmp_path.name}.csv"
    assert board(store, "--csv", str(table)) == 0
    assert table.is_file()


def test_the_command_counts_what_it_leaves_out(
    store: Store, made_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = only(store).parent
    for number in range(25):
        (folder / f"bad{number:02}.json").write_text("{")
    store.write_failed(made_run("shot", 1), "Traceback")
    assert board(store) == 0
    told = capsys.readouterr().err
    assert told.count("is damaged") == 20
    assert "warning: 25 records left out" in told
    assert "warning: 1 runs failed" in told
    assert board(store, "--strict") == 2
    assert "bad00.json is damaged (not JSON); delete it and run again (and 24 more)" in (
        capsys.readouterr().err
    )
    for number in range(25):
        (folder / f"bad{number:02}.json").unlink()
    assert board(store, "--strict") == 0


def test_an_empty_store_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results" / "records").mkdir(parents=True)
    for results in (tmp_path / "results", tmp_path / "absent"):
        assert main(["leaderboard", "--results", str(results)]) == 2
        assert "'dabench run' makes them" in capsys.readouterr().err


def test_control_characters_never_reach_a_terminal(
    store: Store, made_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[31mred\n\ud800" + "長" * 500
    record = made_run("plain", 0)
    record["spec"]["method"] = hostile
    store.write(made_run("source", 0))
    path = store.path("sf-osda", "digits", record["run_id"])
    path.write_text(json.dumps(record))
    folder = str(store.root / "out")
    assert board(store, "--wide", folder, "--markdown", folder, "--latex", folder) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[31mred \\ud800長長" in out
    assert len(max(out.splitlines(), key=len)) < 200
    assert main(["diff", str(path), str(only(store)), "--results", str(store.root)]) == 0
    assert "\x1b" not in capsys.readouterr().out
