"""Wide tables: what is in a cell, what is bold, where there is no average; three formats."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench.board.tables.csv_file import write_csv
from dabench.board.tables.leaderboard import table
from dabench.board.tables.markup import to_csv, to_latex, to_markdown
from dabench.board.tables.wide import WideTable, wide_tables
from dabench.cli.main import main
from dabench.cli.table_output import show_table
from dabench.registry.method_info import MethodInfo

Make = Callable[..., dict[str, Any]]
ROSTER = MethodInfo(primary=lambda protocol, dataset: "HOS")


@pytest.fixture
def records(made_run: Make) -> list[dict[str, Any]]:
    """Two tasks; shot lacks one of them, usd has one seed fewer on the second."""
    found = []
    for target, shift in (("dslr", 0.0), ("webcam", 0.1)):
        for seed in range(3):
            more = {"target": target}
            found.append(made_run("source", seed, 0.5 + shift, **more))
            found.append(made_run("target-supervised", seed, 0.85 + shift, **more))
            if (target, seed) != ("webcam", 2):
                value = 0.6 + shift + seed / 100
                found.append(made_run("usd", seed, value, reconstruction=True, **more))
            changed = {"variant": {"a_b": 1}, "options": {"a_b": 1}}
            found.append(made_run("usd", seed, 0.9, **changed, **more))
    found += [made_run("shot", seed, 0.7, target="dslr") for seed in range(3)]
    return found


@pytest.fixture
def only(records: list[dict[str, Any]]) -> WideTable:
    (found,) = wide_tables(table(records, info=ROSTER), ROSTER)
    return found


def test_rows_tasks_and_average(only: WideTable) -> None:
    assert only.name == "sf-osda-digits"
    assert only.tasks == ("print→dslr", "print→webcam")
    assert [row.name for row in only.rows] == ["source", "shot", "usd", "target-supervised"]
    source, shot, usd, bound = only.rows
    assert source.average == pytest.approx(0.55)
    assert shot.cells[1] is None
    assert shot.average is None
    assert usd.average == pytest.approx((0.61 + 0.705) / 2)
    assert bound.oracle


def test_the_best_is_bold_and_never_the_upper_bound(only: WideTable) -> None:
    bold = {row.name: [bool(cell and cell.best) for cell in row.cells] for row in only.rows}
    assert bold == {
        "source": [False, False],
        "shot": [True, False],
        "usd": [False, True],
        "target-supervised": [False, False],
    }


def test_a_refused_cell_is_a_hole(records: list[dict[str, Any]]) -> None:
    for record in records:
        if record["spec"]["method"] == "usd" and record["spec"]["target"] == "dslr":
            record["ids"] = record["ids"] | {"source": "other"}
    (found,) = wide_tables(table(records, info=ROSTER), ROSTER)
    usd = next(row for row in found.rows if row.name == "usd")
    assert usd.cells[0] is not None
    assert usd.cells[0].mean is None
    assert "source id differs" in usd.cells[0].remark
    assert usd.average is None


def test_other_budgets_are_other_tables(records: list[dict[str, Any]], made_run: Make) -> None:
    more = [*records, made_run("source", 0, epochs=9), made_run("source", 0, dataset="office31")]
    names = [found.name for found in wide_tables(table(more, info=ROSTER), ROSTER)]
    assert names == ["sf-osda-digits", "sf-osda-digits-2", "sf-osda-office31"]
    like = [*more, made_run("source", 0, dataset="digits-2")]
    names = [found.name for found in wide_tables(table(like, info=ROSTER), ROSTER)]
    assert len({*names}) == len(names) == 4


def test_versions_of_a_row_are_told_apart_in_the_terminal(
    made_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = {"versions": {"method": "2", "protocol": "1"}}
    show_table(table([made_run("usd", 0), made_run("usd", 0, **newer), made_run("source", 0)]))
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert {row for row in rows if row.startswith(("usd", "source"))} == {
        "usd v1/1",
        "usd v2/1",
        "source",
    }


def test_options_that_differ_name_the_task(made_run: Make) -> None:
    records = []
    for split in ("default", "r3"):
        record = made_run("source", 0)
        record["spec"]["protocol_options"]["split"] = split
        records.append(record)
    (found,) = wide_tables(table(records, info=ROSTER), ROSTER)
    assert found.tasks == ("print→handwritten split=default", "print→handwritten split=r3")
    records[0]["spec"]["protocol_options"]["held_out"] = 0.0
    tables = wide_tables(table(records, info=ROSTER), ROSTER)
    assert [(found.name, found.tasks) for found in tables] == [
        ("sf-osda-digits", ("print→handwritten",)),
        ("sf-osda-digits-2", ("print→handwritten",)),
    ]
    assert "held_out=0.0" in tables[0].budget


def test_a_method_without_defaults_shows_its_settings(made_run: Make) -> None:
    records = [made_run("tent", 0, variant={"lr": lr}, options={"lr": lr}) for lr in (1, 2)]
    (found,) = wide_tables(table(records, info=ROSTER), ROSTER)
    assert [row.name for row in found.rows] == ["tent lr=1", "tent lr=2"]


def test_csv_keeps_full_precision(only: WideTable) -> None:
    lines = list(csv.reader(io.StringIO(to_csv(only))))
    head, usd = lines[0], lines[3]
    assert head[:5] == ["method", "reconstruction", "oracle", "print→dslr", "print→dslr sd"]
    assert head[-1] == "average"
    assert usd[:3] == ["usd", "True", "False"]
    assert float(usd[3]) == pytest.approx(0.61, abs=1e-15)
    assert lines[2][6:] == ["", "", "", ""]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\nx"])
def test_no_text_is_a_formula_in_a_spreadsheet(made_run: Make, tmp_path: Path, start: str) -> None:
    """In no CSV that is written; numbers stay numbers."""
    runs = [made_run(start, seed, 0.4, source=start) for seed in (0, 1)]
    frame = table([*runs, *(made_run("source", s, 0.5, source=start) for s in (0, 1))], info=ROSTER)
    write_csv(frame, tmp_path / "tidy.csv")
    with (tmp_path / "tidy.csv").open(newline="") as file:
        (line,) = (row for row in csv.DictReader(file) if row["method"] != "source")
    assert (line["method"], line["task"]) == (f"'{start}", f"'{start}→handwritten")
    assert float(line["diff_mean"]) == pytest.approx(-0.1)
    (found,) = wide_tables(frame, ROSTER)
    head, *lines = csv.reader(io.StringIO(to_csv(found)))
    shown = start.replace("\t", " ").replace("\r", " ").replace("\n", " ")
    mark = "" if start == "\nx" else "'"  # a line break within is a blank
    assert head[3] == f"{mark}{shown}→handwritten"
    assert sorted(row[0] for row in lines) == sorted(["source", f"{mark}{shown.strip()}"])


def test_markdown(only: WideTable) -> None:
    lines = to_markdown(only).splitlines()
    assert lines[2] == "| method | print→dslr | print→webcam | average |"
    assert "| source | 50.0 ± 0.0 | 60.0 ± 0.0 | 55.0 |" in lines
    assert "| shot | **70.0 ± 0.0** | – | – |" in lines
    assert "| usd (reconstruction) | 61.0 ± 1.0 | **70.5 ± 0.7**(1) | 65.8 |" in lines
    assert "(1) 2 of 3 seeds" in lines


def test_latex(only: WideTable) -> None:
    text = to_latex(only)
    assert r"method & print$\rightarrow$dslr & print$\rightarrow$webcam & average \\" in text
    assert (
        r"usd (reconstruction) & 61.0 $\pm$ 1.0 & \textbf{70.5 $\pm$ 0.7}$^{1}$ & 65.8 \\" in text
    )
    assert r"\begin{tabular}{lccc}" in text
    assert "(1) 2 of 3 seeds}" in text
    assert text.count("{") == text.count("}")


def test_hostile_names_stay_text(made_run: Make) -> None:
    name = r"a|b_c*<script>&%$#{}\x^~"
    (found,) = wide_tables(table([made_run(name, 0)], info=ROSTER), ROSTER)
    assert r"| a\|b\_c\*\<script\>&%$\#\{\}\\x^\~ |" in to_markdown(found)
    assert r"a|b\_c*\textless{}script\textgreater{}\&\%\$\#\{\}\textbackslash{}x" in to_latex(found)


def test_the_command_writes_them(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dabench.store.store import Store

    store = Store(tmp_path / "results")
    for record in records:
        store.write(record)
    out = tmp_path / "out"
    words = ["--wide", str(out), "--markdown", str(out), "--latex", str(out)]
    words += ["--ranks", str(out), "--claims", "--bootstrap"]
    assert main(["leaderboard", "--results", str(store.root), *words]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "ranks-sf-osda.svg",
        *(f"sf-osda-digits.{ending}" for ending in ("csv", "md", "tex")),
    ]
    printed = capsys.readouterr().out
    assert "too few tasks (2 of 6)" in printed
    assert "not ranked: target-supervised: upper bound" in printed
    assert f"no claims: there is no {store.root / 'claims.csv'}; copy" in printed
    tidy = (store.root / "leaderboard" / "leaderboard.csv").read_text()
    assert tidy.splitlines()[0].endswith("boot_low,boot_high,boot_label")
    packed = [tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"]
    for file in packed:
        words = ["leaderboard", "--results", str(store.root), "--bootstrap", "--csv", str(file)]
        assert main(words) == 0
    assert gzip.decompress(packed[0].read_bytes()).decode() == tidy
    first, second = (file.read_bytes() for file in packed)
    assert first == second
    assert first[4:8] == bytes(4)  # no time


def test_rules_of_selection_from_the_command_line(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dabench.store.store import Store

    store = Store(tmp_path / "results")
    for number, record in enumerate(records):
        last = record["scores"][0]
        early = last | {"value": 0.95, "at": 0}
        curves = [early, last, *({**early, "metric": "im", "at": at} for at in (0, last["at"]))]
        store.write(record | {"curves": curves if number else []})
    words = ["leaderboard", "--results", str(store.root)]
    assert main([*words, "--selection", "last,oracle,im"]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in printed.splitlines() if "0.9500" in line}
    assert lines["shot"] == ["shot", "0.7000", "0.9500", "0.7000"]  # equal im: the latest epoch
    assert "a hole: no curve of 'im'" in printed
    assert "an optimistic bound" in printed
    with (store.root / "leaderboard" / "selection.csv").open() as file:
        found = {(row["selection"], row["method"]) for row in csv.DictReader(file)}
    assert {rule for rule, _ in found} == {"last", "oracle", "im"}
    assert main([*words, "--selection", "last", "--wide", str(tmp_path)]) == 2
    assert "--selection and --wide" in capsys.readouterr().err
    assert main([*words, "--selection", "lsat"]) == 2
    assert "did you mean 'last'" in capsys.readouterr().err


def test_a_row_tuned_on_the_target_says_so_everywhere(records: list[dict[str, Any]]) -> None:
    marked = [
        record | {"target_tuned": True} if record["spec"]["method"] == "shot" else record
        for record in records
    ]
    frame = table(marked, info=ROSTER)
    assert set(frame.loc[frame["target_tuned"], "method"]) == {"shot"}
    assert set(frame.loc[frame["target_tuned"], "remark"]) == {"target-tuned"}
    (found,) = wide_tables(frame, ROSTER)
    assert "(1) target-tuned" in to_markdown(found)


def test_bold_is_no_choice_among_variants(made_run: Make) -> None:
    """A method that was never run with its defaults is represented by its plainest row."""
    runs = [made_run("source", seed, 0.5) for seed in range(3)]
    for seed in range(3):
        runs.append(made_run("conda", seed, 0.6, variant={"replay": 64}))
        runs.append(made_run("conda", seed, 0.9, variant={"replay": 64, "lr": 0.1}))
    (found,) = wide_tables(table(runs, info=ROSTER), ROSTER)
    bold = {row.name: bool(row.cells[0] and row.cells[0].best) for row in found.rows}
    assert bold == {"source": False, "conda replay=64": True, "conda lr=0.1 replay=64": False}


def test_tables_of_different_budgets_say_what_differs(made_run: Make) -> None:
    runs = [made_run("source", 0, 0.5), made_run("source", 0, 0.4, source_epochs=9, freeze=2)]
    runs.append(made_run("source", 0, 0.4, source_epochs=9, freeze="all"))
    budgets = {found.budget for found in wide_tables(table(runs, info=ROSTER), ROSTER)}
    assert len(budgets) == 3
    for freeze in (2, "all"):
        assert any(f"source epochs 9, freeze {freeze}" in budget for budget in budgets)


def test_options_that_another_would_ignore_are_refused(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dabench.store.store import Store

    store = Store(tmp_path / "results")
    store.write(records[0])
    words = ["leaderboard", "--results", str(store.root)]
    assert main([*words, "--only", "sf-osda"]) == 2
    assert "--only chooses the columns of --html" in capsys.readouterr().err
    assert main([*words, "--selection", ""]) == 2
    assert "selection ''" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*words, "--wide", str(tmp_path / "file")]) == 2
    assert "a file where a folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "diff", "report"])
def test_one_record_is_judged_as_in_a_table(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    from dabench.store.store import Store

    store = Store(tmp_path / "results")
    good, edited = (store.write(made_run("source", seed, 0.5)) for seed in (0, 1))
    edited.write_text(edited.read_text().replace('"epochs": 2', '"epochs": 21'))
    second = [str(good)] if command == "diff" else []
    assert main([command, str(good), *second, "--results", str(store.root)]) == 0
    assert main([command, str(edited), *second, "--results", str(store.root)]) == 2
    assert "edited by hand" in capsys.readouterr().err
    good.write_text(good.read_text().replace('"value": 0.5', '"value": "abc"'))
    assert main([command, str(good), *second, "--results", str(store.root)]) == 2
    assert "HOS is 'abc', not a number" in capsys.readouterr().err


def test_answers_after_the_update_are_never_bold(made_run: Make) -> None:
    levels = {"source": 0.5, "tent": 0.6, "t3a": 0.9}
    runs = [
        made_run(name, seed, level, extras=["answers-after"] * (name == "t3a"))
        for name, level in levels.items()
        for seed in range(3)
    ]
    (found,) = wide_tables(table(runs, info=ROSTER), ROSTER)
    bold = {row.name: bool(row.cells[0] and row.cells[0].best) for row in found.rows}
    assert bold == {"source": False, "tent": True, "t3a": False}
    assert "| t3a (answers after its update) | 90.0" in to_markdown(found)


def test_of_two_versions_the_newest_is_shown(made_run: Make) -> None:
    values = {"9": 0.1, "10": 0.9}
    runs = [
        made_run("tent", 0, value, versions={"method": version, "protocol": "1"})
        for version, value in values.items()
    ]
    (found,) = wide_tables(table(runs, info=ROSTER), ROSTER)
    (row,) = found.rows
    assert [cell and cell.mean for cell in row.cells] == [0.9]


def test_a_row_of_an_older_protocol_is_of_another_task(made_run: Make) -> None:
    rows = {"source": (0.5, "2"), "shot": (0.6, "2"), "usd": (0.9, "1")}
    runs = [
        made_run(name, seed, level, versions={"method": "1", "protocol": version})
        for name, (level, version) in rows.items()
        for seed in range(3)
    ]
    (found,) = wide_tables(table(runs, info=ROSTER), ROSTER)
    bold = {row.name: bool(row.cells[0] and row.cells[0].best) for row in found.rows}
    assert bold == {"source": False, "shot": True}


def test_what_labels_of_the_target_chose_is_marked_and_never_bold(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dabench.store.store import Store

    store = Store(tmp_path)
    levels = {"source": 0.5, "tent": 0.6, "usd": 0.9}
    runs = [
        made_run(name, seed, level, **({"target_tuned": True} if name == "usd" else {}))
        for name, level in levels.items()
        for seed in range(3)
    ]
    (found,) = wide_tables(table(runs, info=ROSTER), ROSTER)
    bold = {row.name: bool(row.cells[0] and row.cells[0].best) for row in found.rows}
    assert bold == {"source": False, "tent": True, "usd": False}
    assert "| usd (target-tuned) | 90.0" in to_markdown(found)
    for run in runs:
        store.write(run)
    assert main(["leaderboard", "--results", str(store.root)]) == 0
    assert "usd (target-tuned)" in capsys.readouterr().out
