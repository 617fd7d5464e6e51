"""Text from outside (names, records, files, servers' words) never steers a terminal."""

from __future__ import annotations

import ast
import io
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dabench.cli.reproduce
from dabench import registry
from dabench.cli.main import main
from dabench.cli.sweep_view import ProgressView
from dabench.config.spec import resolve
from dabench.errors import DataError, one_line
from dabench.store.identity import run_digest
from dabench.store.store import Store
from dabench.sweep.executor import Ended
from dabench.sweep.plan import Job

#: colour, title, C1 control, carriage return, line break, direction of writing, null, delete
HOSTILE = "猫\x1b[31m\x1b]0;t\x07\x9b2J\rb\nc\u202ed\u2067\x00\x7f\u2028e\x85f"
SHOWN = "猫\\x1b[31m\\x1b]0;t\\x07\\x9b2J b c\\u202ed\\u2067\\x00\\x7f e f"
CLI = Path(dabench.cli.reproduce.__file__).parent
Say = Callable[..., str]


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Return ``said(code, *words)``: what a command prints, checked character by character."""
    monkeypatch.chdir(tmp_path)

    def call(code: int, *words: str) -> str:
        assert main(list(words)) == code
        out, err = capsys.readouterr()
        assert {c for c in out + err if not c.isprintable()} <= {"\n"}
        return out + err

    return call


@pytest.fixture
def records(tmp_path: Path, made_run: Callable[..., dict[str, Any]]) -> list[Path]:
    """Two runs in ./results, hostile wherever a record has words."""
    store = Store(tmp_path / "results")
    paths = []
    for method, value in (("source", 0.5), ("shot", 0.6)):
        record = made_run(method, 0, value, backbone=HOSTILE, scores={"UNK": 0.1})
        record["spec"]["method_options"] = {HOSTILE: HOSTILE, "name": HOSTILE}
        record["variant"] = {"name": HOSTILE} if method == "shot" else {}
        record["environment"] = {HOSTILE: HOSTILE, "packages": {HOSTILE: HOSTILE + method}}
        record["versions"] |= {"dabench": HOSTILE + method}
        record["scores"].append(record["scores"][0] | {"metric": HOSTILE, "segment": HOSTILE})
        paths.append(store.write(named_anew(record)))
    return paths


def named_anew(record: dict[str, Any]) -> dict[str, Any]:
    """Give a changed record the id that belongs to it, and no checksums."""
    for name in ("checksum", "curves_checksum"):
        record.pop(name, None)
    record["run_id"] = run_digest(record["spec"], record["versions"], record["ids"])
    return record


def test_one_function_makes_text_harmless() -> None:
    assert one_line(HOSTILE) == SHOWN
    assert one_line("a  b \t\r\n c") == "a  b  c"
    assert one_line("x" * 300, 10) == "xxxxxxx..."


def test_whatever_a_command_prints_goes_through_it() -> None:
    """Only a word of the program's own may be printed while a Ctrl-C is handled."""
    found = []
    for path in sorted(CLI.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for handler in ast.walk(tree):
            if isinstance(handler, ast.ExceptHandler) and "KeyboardInterrupt" in ast.dump(handler):
                handler.body = []
        calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
        prints = [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]
        writes = "stdout.write" in path.read_text() or "stderr.write" in path.read_text()
        found += [path.name] * (len(prints) + writes)
    assert found == ["output.py", "output.py"]


def test_show_and_its_json(said: Say, records: list[Path]) -> None:
    out = said(0, "show", str(records[0]))
    assert out.count(SHOWN) >= 6
    for path in records:
        assert json.loads(said(0, "show", str(path), "--json")) == json.loads(path.read_text())


def test_a_failed_run(said: Say, records: list[Path]) -> None:
    record = json.loads(records[0].read_text())
    record |= {"failed": True, "traceback": f"line 1\n{HOSTILE}"}
    path = records[0].with_name("x.failed.json")
    path.write_text(json.dumps(named_anew(record)))
    assert "line 1\n猫\\x1b[31m" in said(0, "show", str(path))


@pytest.mark.parametrize(
    "words",
    [
        ("leaderboard",),
        ("leaderboard", "--selection", "last,im"),
        ("leaderboard", "--ranks", "ranks"),
        ("leaderboard", "--claims", "--bootstrap"),
        ("leaderboard", "--html", f"page{HOSTILE[:6]}"),
    ],
)
def test_tables(said: Say, records: list[Path], words: tuple[str, ...]) -> None:
    assert "\\x1b[31m" in said(0, *words)


def test_diff_and_report(said: Say, records: list[Path], tmp_path: Path) -> None:
    assert "\\x1b[31m" in said(0, "diff", *map(str, records))
    page = tmp_path / f"r{HOSTILE[:6]}.html"
    assert "r猫\\x1b[31m.html" in said(0, "report", str(records[1]), "--html", str(page))


def test_damaged_records_and_names_that_nothing_has(said: Say, records: list[Path]) -> None:
    records[0].with_name(f"{HOSTILE.replace(chr(0), '')}.json").write_text("{")
    out = said(0, "leaderboard")
    assert "warning: " in out
    assert "\\x1b[31m" in out
    for words in (
        ("show", HOSTILE),
        ("diff", HOSTILE, HOSTILE),
        ("report", HOSTILE),
        ("reproduce", HOSTILE),
        ("leaderboard", "--against", HOSTILE),
        ("leaderboard", "--results", HOSTILE),
        ("data", "check", HOSTILE),
        (HOSTILE,),
        ("run", "--method", HOSTILE),
        ("run", "--method", "source", f"--{HOSTILE}", "1"),
        ("run", "--method", "shot", f"--method.{HOSTILE}", "1"),
        ("run", "--method", "source", "--source", HOSTILE.replace("\0", "")),
        ("sweep", "--methods", HOSTILE),
        ("sweep", f"{HOSTILE}.yaml"),
        ("weather", "preview", "--kinds", HOSTILE),
    ):
        assert "\\x1b[31m" in said(2, *words)


def test_reproduce(said: Say, records: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    then = json.loads(records[1].read_text())
    then["spec"] = resolve({"method": "shot", "device": "cpu", "threads": 1})[0].to_dict()
    then["spec"]["backbone"] = HOSTILE
    then["variant"] = {}
    now = json.loads(json.dumps(then))
    now["environment"]["packages"][HOSTILE] = "other"
    now["scores"][2]["value"] = 0.9
    for record in (then, now):
        named_anew(record)
    paths = [records[1].with_name(name) for name in ("then.json", "now.json")]
    for path, record in zip(paths, (then, now), strict=True):
        path.write_text(json.dumps(record))
    monkeypatch.setattr(dabench.cli.reproduce, "_again", lambda *_: paths[1])
    assert "\\x1b[31m" in said(1, "reproduce", str(paths[0]))


@pytest.mark.parametrize("fails", [False, True])
def test_run(said: Say, records: list[Path], monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Class names stand in the scores; an error may hold what a file or a server says."""

    def execute(*_: Any) -> Any:
        if fails:
            raise DataError(f"server said {HOSTILE}")
        record = json.loads(records[0].read_text())
        path = Path(HOSTILE)
        return types.SimpleNamespace(
            run_id=HOSTILE, record=record, path=path, existed=False, board_dir=path, model=None
        )

    engine = types.ModuleType("dabench.engine.run")
    engine.execute = execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dabench.engine.run", engine)
    for words in ((), ("--json",), ("--debug",)):
        out = said(2 if fails else 0, "run", "--method", "source", "--device", "cpu", *words)
        assert "猫\\u001b[31m" in out if words == ("--json",) and not fails else SHOWN in out


def test_data_check(said: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = registry.dataset("digits")
    monkeypatch.setattr(digits, "check", lambda self, root: [f"file {HOSTILE} is damaged"])
    assert f"file {SHOWN} is damaged" in said(2, "data", "check", "digits")


def test_sweep(said: Say, tmp_path: Path) -> None:
    words = HOSTILE.replace("\0", "")
    grid = tmp_path / f"{words}.yaml"
    grid.write_text(json.dumps({"budget": HOSTILE, "method": "source", "backbone": words}))
    out = said(2, "sweep", str(grid), "--dry-run")
    assert "unknown backbone '猫\\x1b[31m" in out
    grid.write_text(json.dumps({"budget": HOSTILE, "method": "source"}))
    out = said(0, "sweep", str(grid), "--dry-run")
    assert f"budget: {SHOWN}" in out
    assert out.startswith("猫\\x1b[31m")


def test_the_line_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm's own escapes (carriage return, cursor up) are all that the terminal gets."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    text = Terminal()
    monkeypatch.setattr(sys, "stderr", text)
    monkeypatch.setattr(sys, "stdout", text)
    (spec,) = resolve({"method": "source", "device": "cpu"})
    job = Job(spec, "key")
    view = ProgressView([job], 1, live=True)
    view.started(job)
    view.ended(Ended(job, 1.0, error=f"no {HOSTILE}"))
    view.close()
    assert SHOWN in text.getvalue()
    assert "\x1b[31m" not in text.getvalue()
