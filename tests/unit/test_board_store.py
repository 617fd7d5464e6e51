"""Records that must not reach a table: each is named, and none stops the others."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench.cli.main import main
from dabench.store.checksum import sealed, text_of
from dabench.store.identity import run_digest
from dabench.store.reading import load_record
from dabench.store.schema import SHARES
from dabench.store.store import Store

ROOT = Path(__file__).parents[2]
Make = Callable[..., dict[str, Any]]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def store(made_run: Make, tmp_path: Path) -> Store:
    """A store with one sound run whose id is the digest of what it holds."""
    found = Store(tmp_path / "results")
    found.write(made_run("usd", 0))
    return found


def again(record: dict[str, Any]) -> None:
    """Give a record the id and the checksum of what it holds, as somebody who knows how would."""
    record["run_id"] = run_digest(record["spec"], record["versions"], record["ids"])
    for name in ("checksum", "curves_checksum"):
        record.pop(name)


def in_old_form(path: Path) -> dict[str, Any]:
    """Write a record as earlier versions did, with its curves inside; return it."""
    whole = load_record(path) | {"predictions": None}
    record = sealed({k: v for k, v in whole.items() if k != "predictions_checksum"})
    path.write_bytes(text_of(record))
    return record


def only(store: Store) -> Path:
    return next(iter(store.all()))[0]


def problem(store: Store) -> str:
    list(store.all())
    assert len(store.problems) == 1
    assert "\n" not in store.problems[0]
    return store.problems[0]


DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
#: what is no record at all, whatever its id and checksum
UNFIT: list[tuple[Change, str]] = [
    (lambda r: r.update(run_id=7), "its run_id is 7, not 16 hexadecimal digits"),
    (lambda r: r.update(run_id="usd-0"), "its run_id is 'usd-0', not 16 hexadecimal digits"),
    (lambda r: r.update(schema=0), "not a record of schema 1"),
    (lambda r: r.update(schema=2), "written by a newer dabench (schema 2"),
    (lambda r: r.pop("spec"), "it has no spec"),
    (lambda r: r.update(spec=[1]), "its spec is [1], not an object"),
    (lambda r: r["spec"].pop("backbone"), "it has no spec.backbone"),
    (lambda r: r["spec"].update(backbone=[1]), "its spec.backbone is [1], not a text"),
    (lambda r: r["spec"].update(seed="zero"), "its spec.seed is 'zero', not a whole number"),
    (lambda r: r["spec"].update(epochs=[1]), "its spec.epochs is [1], not a whole number"),
    (lambda r: r["spec"].update(epochs=10**400), "its spec.epochs is 1000"),
    (lambda r: r["spec"].update(batch_size=-5), "its spec.batch_size is -5"),
    (lambda r: r["spec"].update(method_options=[]), "its spec.method_options is []"),
    (lambda r: r["spec"]["method_options"].update(lr=DEEP), "its spec.method_options is"),
    (lambda r: r.pop("versions"), "it has no versions"),
    (lambda r: r["versions"].update(method=1), "its versions is"),
    (lambda r: r["versions"].pop("method"), "its versions lack method"),
    (lambda r: r["ids"].pop("stream"), "its ids lack stream"),
    (lambda r: r.update(cost=[]), "its cost is [], not an object of numbers"),
    (lambda r: r.update(cost={"seconds": "1"}), "its cost is {'seconds': '1'}"),
    (lambda r: r.update(cost={"seconds": 10**400}), "its cost is"),
    (lambda r: r.update(extras=[{}]), "its extras is [{}], not a list of texts"),
    (lambda r: r.update(extras="buffer"), "its extras is 'buffer'"),
    (lambda r: r.update(reconstruction=1), "its reconstruction is 1, not true or false"),
    (lambda r: r.update(target_tuned="no"), "its target_tuned is 'no'"),
    (lambda r: r.update(variant=[1]), "its variant is [1]"),
    (lambda r: r.update(variant={"lr": 1.0}), "its variant has lr=1.0, and its spec has not"),
    (lambda r: r.update(environment=DEEP), "its environment is"),
    (lambda r: r.update(note=DEEP), "its note is"),
    (lambda r: r.update(predictions="../../x.npz"), "no file of this run"),
    (lambda r: r.update(failed=True), "a failed run under the name of a finished one"),
    (lambda r: r.update(scores={}), "its scores is {}, not a list"),
    (lambda r: r["scores"].append({"metric": "UNK"}), "lacks its metric, value or n"),
    (lambda r: r["scores"].append(3), "lacks its metric, value or n"),
    (lambda r: r["scores"].append([1, 2, 3, 4, 5]), "lacks its metric, value or n"),
    (lambda r: r["scores"].append(r["scores"][0] | {"at": 9}), "it has two scores of HOS/all"),
    (lambda r: r["scores"][0].update(more=1), "a score has other keys"),
    (lambda r: r["scores"][0].update(segment=1), "a score has other keys, or no names"),
    (lambda r: r["scores"][0].update(n="x"), "the n or at of a score of HOS"),
    (lambda r: r["scores"][0].update(value="0.9"), "HOS is '0.9', not a number"),
    (lambda r: r["scores"][0].update(value=True), "HOS is True, not a number"),
    (lambda r: r["scores"][0].update(value=10**400), "HOS is 1000"),
    (lambda r: r["scores"][0].update(value=7.5), "HOS is 7.5, not between 0 and 1"),
    (lambda r: r["scores"][0].update(value=-3), "HOS is -3, not between 0 and 1"),
    (lambda r: r["curves"].append(r["scores"][0] | {"value": 2}), "HOS is 2, not between"),
]


@pytest.mark.parametrize(("change", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_what_no_record_holds_is_named(store: Store, change: Change, words: str) -> None:
    path = only(store)
    record = json.loads(path.read_text())
    change(record)
    with contextlib.suppress(KeyError, TypeError):
        run_id = record["run_id"]
        again(record)
        record["run_id"] = record["run_id"] if run_id == path.stem else run_id
    path.write_text(json.dumps(record))
    assert words in problem(store)
    assert str(path) in problem(store)
    assert list(store.all()) == []


#: an edit that leaves a record as it could have been written
EDITS: list[tuple[Change, str]] = [
    (lambda r: r["spec"].update(epochs=99), "do not give its run id: edited by hand"),
    (lambda r: r["spec"]["method_options"].update(rho=1), "do not give its run id"),
    (lambda r: r["ids"].update(source="other"), "do not give its run id"),
    (lambda r: r["versions"].update(method="2"), "do not give its run id"),
    (lambda r: r["versions"].update(dabench="9"), "its checksum is not that"),
    (lambda r: r["scores"][0].update(value=0.51), "its checksum is not that of what it holds"),
    (lambda r: r["scores"].pop(), "its checksum is not that"),
    (lambda r: r.update(variant={}), "its checksum is not that"),
    (lambda r: r.update(extras=["buffer"]), "its checksum is not that"),
    (lambda r: r.update(reconstruction=True), "its checksum is not that"),
    (lambda r: r.pop("target_tuned"), "its checksum is not that"),
    (lambda r: r["cost"].update(seconds=1.0), "its checksum is not that"),
    (lambda r: r.pop("checksum"), "its checksum is not that"),
    (lambda r: r["curves"][1].update(value=0.6), "its checksum is not that"),
    (lambda r: r["curves"].pop(), "its checksum is not that"),
    (lambda r: r.pop("curves"), "its checksum is not that"),
]


@pytest.mark.parametrize("indent", [1, None, 2])
@pytest.mark.parametrize(("change", "words"), EDITS)
def test_an_edit_is_named(
    made_run: Make, tmp_path: Path, change: Change, words: str, indent: int | None
) -> None:
    """In whatever layout it was saved; a layout of its own is no edit."""
    store, curve = Store(tmp_path), {"metric": "HOS", "n": 1, "segment": "all"}
    curves = [curve | {"value": 0.5, "at": at} for at in range(3)]
    marks = {"options": {"lr": 0.1, "rho": 2}, "variant": {"lr": 0.1}, "target_tuned": True}
    path = store.write(made_run("usd", 0, curves=curves, **marks))
    record = in_old_form(path)
    path.write_text(json.dumps(record, indent=indent))
    assert [found for _, found in store.all()] == [record]
    assert store.problems == []
    change(record)
    path.write_text(json.dumps(record, indent=indent) + "\n")
    assert words in problem(store)
    assert "restore the file, or delete it and run again" in problem(store)


def test_a_record_without_a_checksum_is_read_as_it_was(store: Store) -> None:
    """Those of earlier versions have none; without it a changed score passes, as docs say."""
    path = only(store)
    record = json.loads(path.read_text())
    record["scores"][0]["value"] = 0.75
    again(record)
    path.write_text(json.dumps(record))
    assert [found for _, found in store.all()] == [record]


def test_a_file_in_another_place_is_named(store: Store) -> None:
    path = only(store)
    other = path.rename(path.with_name("another.json"))
    assert f"holds run {path.stem}; a file has its run's name" in problem(store)
    folder = path.parent.with_name("office31")
    folder.mkdir()
    other.rename(folder / path.name)
    assert "its spec says sf-osda/digits; move it to that folder" in problem(store)


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


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_know_are_named(store: Store, number: str) -> None:
    path = only(store)
    path.write_text(path.read_text().replace("0.5,", f"{number},"))
    words = "HOS is inf, not a number" if number == "1e999" else "is damaged (not JSON)"
    assert words in problem(store)


@pytest.mark.slow
def test_every_metric_of_the_records_has_a_range() -> None:
    """So that a new one is not left out unseen: what is no share is listed here."""
    known = SHARES | {"im", "entropy", "entropy-classes", "snd", "recovery"}
    store = Store(ROOT / "results")
    found = {row["metric"] for _, record in store.all() for row in record["scores"]}
    assert store.problems == []
    assert found <= known


def test_failed_runs_are_counted_until_they_are_finished(store: Store, made_run: Make) -> None:
    store.write_failed(made_run("shot", 1) | {"scores": []}, "Traceback")
    assert [path.name for path in store.failed()] == [
        f"{made_run('shot', 1)['run_id']}.failed.json"
    ]
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
    record["run_id"] = run_digest(record["spec"], record["versions"], record["ids"])
    store.write(made_run("source", 0))
    path = store.write(record)
    folder = str(store.root / "out")
    assert board(store, "--wide", folder, "--markdown", folder, "--latex", folder) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[31mred \\ud800長長" in out
    assert len(max(out.splitlines(), key=len)) < 200
    assert main(["diff", str(path), str(only(store)), "--results", str(store.root)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_pipe_that_is_called_as_a_record_is_named_and_nobody_waits(store: Store) -> None:
    only(store)
    pipe = store.records / "sf-osda" / "digits" / "0123456789abcdef.json"
    os.mkfifo(pipe)
    assert len(store.read()) == 1
    assert any(str(pipe) in problem for problem in store.problems)
