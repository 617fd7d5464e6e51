"""The command line: what is printed where, exit codes, and nothing heavy at start."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from dabench import registry
from dabench.cli.dotted import _KNOWN
from dabench.cli.main import main
from dabench.cli.parser import build_parsers
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.contract.types import Score
from dabench.errors import ConfigError, TrainingError, explain
from dabench.store.identity import column_key, run_digest
from dabench.store.records import score_to_row
from dabench.store.store import Store

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "lightning",
    "pandas",
    "albumentations",
    "cv2",
    "pydantic",
    "scipy",
    "multiprocessing",
)
Run = Callable[..., tuple[int, str, str]]


class FakeMethod:
    """A method.

    Args:
        lr: learning rate, 50% of it for the trunk.
        criterion: how known and unknown are told apart.
    """

    def __init__(self, *, lr: float = 0.01, criterion: Literal["jsd", "ce"] = "jsd") -> None:
        self.lr = lr


class FakeProtocol:
    """A protocol.

    Args:
        split: name of the class split.
    """

    def __init__(self, *, split: str = "default") -> None:
        self.split = split


class FakeData:
    """The card of the fake set."""

    domains = ("print", "handwritten")
    problems: ClassVar[list[str]] = []
    defaults: ClassVar[dict[str, Any]] = {
        "source": "print",
        "target": "handwritten",
        "image_size": 32,
        "backbone": "small-cnn",
        "weights": "none",
        "epochs": 2,
        "source_epochs": 1,
    }

    def check(self, data_root: Path | None) -> list[str]:
        return self.problems


@dataclass
class FakeResult:
    run_id: str
    path: Path
    record: dict[str, Any]
    existed: bool
    board_dir: Path
    model: Path | None = None


def fake_execute(spec: RunSpec, settings: Settings, progress: object) -> FakeResult:
    """Write a record; seed 13 fails as a user's error, seed 14 as a bug."""
    sys.stdout.write("a library's chatter\n")
    if spec.seed == 13:
        raise TrainingError("loss is nan at step 3")
    if spec.seed == 14:
        raise IndexError("out of\nrange")
    value = 0.5 + (0.2 if spec.method == "fake" else 0.0) + spec.seed / 100
    parts = {
        "spec": spec.to_dict(),
        "versions": {"method": "1", "protocol": "1"},
        "ids": {"data": "d", "stream": "t", "source": "s", "column": column_key(spec.to_dict())},
    }
    run_id = run_digest(*parts.values())
    store = Store(settings.results)
    existed = store.finished(spec.protocol, spec.dataset, run_id) is not None
    record = {
        "schema": 1,
        "run_id": run_id,
        **parts,
        "variant": {},
        "environment": {"device": spec.device},
        "scores": [
            score_to_row(Score("HOS", value, 9)),
            score_to_row(Score("UNK", None, 0, "held-out")),
        ],
    }
    path = store.path(spec.protocol, spec.dataset, run_id) if existed else store.write(record)
    return FakeResult(run_id, path, record, existed, settings.results / "runs" / run_id)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = types.ModuleType("fake_parts")
    for cls in (FakeMethod, FakeProtocol, FakeData):
        setattr(parts, cls.__name__, cls)
    engine = types.ModuleType("dabench.engine.run")
    engine.execute = fake_execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_parts", parts)
    monkeypatch.setitem(sys.modules, "dabench.engine.run", engine)
    for name in ("fake", "source"):
        method = registry.MethodEntry("fake_parts:FakeMethod", "a fake", ("fake-protocol",))
        monkeypatch.setitem(registry.METHODS, name, method)
    protocol = registry.ProtocolEntry("fake_parts:FakeProtocol", "", "fake-data", "HOS")
    monkeypatch.setitem(registry.PROTOCOLS, "fake-protocol", protocol)
    monkeypatch.setitem(
        registry.DATASETS, "fake-data", registry.DataEntry("fake_parts:FakeData", "")
    )


@pytest.fixture
def run(
    fakes: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = main(["run", "--method", "fake", "--device", "cpu", *words])
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    return call


def test_a_run_ends_with_a_table_and_paths(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert "HOS           0.7000" in out
    assert "UNK/held-out  -" in out
    assert "against source" not in out
    (path,) = Path("results/records/fake-protocol/fake-data").iterdir()
    assert f"record: {path}" in out
    assert f"tensorboard: results/runs/{path.stem}" in out
    assert "already there" in run()[1]


def test_a_table_without_source_is_a_table(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run()
    for words in ([], ["--html", str(tmp_path / "page")]):
        assert main(["leaderboard", *words]) == 0
    assert "no run of source yet" in capsys.readouterr().err
    assert main(["leaderboard", "--against", "sourse"]) == 2


def test_the_table_compares_with_source(run: Run) -> None:
    main(["run", "--method", "source", "--seeds", "0-1", "--device", "cpu"])
    _, out, _ = run("--seeds", "0-2")
    assert "mean of 3 seeds  against source (2 seeds)" in out
    assert "HOS           0.7100           +0.2000" in out


def spec_of(found: dict[str, Any]) -> tuple[str, int, str]:
    """Return method, seed and start of the run whose record ``--json`` names."""
    record = json.loads(Path(found["record"]).read_text())
    assert record["run_id"] == found["run_id"]
    return record["spec"]["method"], record["spec"]["seed"], record["spec"]["init"]


def test_json_is_alone_on_stdout(run: Run) -> None:
    code, out, err = run("--json", "--seed", "1")
    assert code == 0
    found = json.loads(out)
    assert spec_of(found) == ("fake", 1, "source")
    assert found["scores"] == {"HOS": 0.71, "UNK/held-out": None}
    assert Path(found["record"]).is_file()
    assert "chatter" in err
    for seeds in ("0,1", "0", "13"):  # --seeds gives a list, whatever comes out
        several = json.loads(run("--json", "--seeds", seeds)[1])
        expected = [("fake", int(seed), "source") for seed in seeds.split(",") if seed != "13"]
        assert [spec_of(one) for one in several] == expected


def test_a_failed_seed_does_not_stop_the_others(run: Run) -> None:
    code, out, err = run("--seeds", "12-15", "--json")
    assert code == 2
    assert [spec_of(one)[1] for one in json.loads(out)] == [12, 15]
    assert "error: seed 13: loss is nan at step 3\n" in err
    assert "error: seed 14: unexpected IndexError: out of range; this is a bug" in err
    assert "Traceback" not in err
    assert run("--seed", "14")[0] == 1
    assert run("--seed", "13")[:2] == (2, "a library's chatter\n")


def test_debug_shows_the_traceback(run: Run) -> None:
    code, _, err = run("--seed", "13", "--debug")
    assert code == 2
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--method.lrr", "1"], "did you mean 'lr'"),
        (["--method.lr", "x"], "--method.lr 'x': expected a valid number"),
        (["--method.lr"], "--method.lr needs a value"),
        (["--method.criterion=entropy"], "'jsd' or 'ce'"),
        (["--protocol.spilt", "r3"], "did you mean 'split'"),
        (["--epoch", "3"], "did you mean '--epochs'"),
        (["--lr", "0.1"], "unknown argument '--lr'; did you mean '--method.lr'?"),
        (["shot"], "unknown argument 'shot'; did you mean '--method shot'?"),
        (["--hlp"], "unknown argument '--hlp'; see 'dabench run --help'"),
        (["--epochs"], "expected one argument"),
        (["stray"], "unknown argument 'stray'"),
        (["--results", "absent/results"], "does not exist"),
        (["--dataset", "fake-dta"], "did you mean 'fake-data'"),
    ],
)
def test_errors_are_one_line(run: Run, words: list[str], part: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err


def test_dotted_options_reach_the_spec(run: Run) -> None:
    _, out, _ = run("--method.lr", "1e-3", "--protocol.split=r3", "--json", "--seed", "2")
    spec = json.loads(Path(json.loads(out)["record"]).read_text())["spec"]
    assert spec["method_options"] == {"lr": 0.001, "criterion": "jsd"}
    assert spec["protocol_options"] == {"split": "r3"}


def test_help_shows_the_method_and_the_protocol(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("--help")
    text = " ".join(out.split())
    assert code == 0
    assert "--method.lr VALUE learning rate, 50% of it for the trunk. (default 0.01; float)" in text
    assert "(default jsd; jsd | ce)" in text
    assert "--protocol.split VALUE name of the class split. (default default; str)" in text
    assert "--epochs EPOCHS" in text
    own = {"fake-protocol": {"split": "r3"}}
    monkeypatch.setattr(FakeData, "protocol_defaults", own, raising=False)
    assert "(default r3, of the data set; str)" in " ".join(run("--help")[1].split())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_errors_name_the_path(run: Run, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number), "/disk/file")

    monkeypatch.setattr(sys.modules["dabench.engine.run"], "execute", fail)
    code, _, err = run()
    assert code == 2
    assert err.startswith(f"error: /disk/file: {os.strerror(number)}; ")


@pytest.mark.parametrize(
    ("number", "code", "how"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_interrupt(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, how: str
) -> None:
    def interrupted(*_: Any) -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            if number == signal.SIGTERM:  # to the group and by the parent: once is enough
                os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys.modules["dabench.engine.run"], "execute", interrupted)
    said = f"{how}; nothing half-written; the same command starts again\n"
    assert run() == (code, "", said)
    assert signal.getsignal(signal.SIGTERM) is before


def test_show(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    (path,) = Path("results/records/fake-protocol/fake-data").iterdir()
    assert main(["show", path.stem[:6]]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in (f"run {path.stem}", "method_options", "HOS", "device"))
    assert main(["show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == path.stem
    assert main(["show", "nothing"]) == 2
    assert main(["show", "absent.json"]) == 2


def test_leaderboard(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard"]) == 2
    run("--seeds", "0-4")
    main(["run", "--method", "source", "--seeds", "0-4", "--device", "cpu"])
    Path("results/records/fake-protocol/fake-data/broken.json").write_text("{")
    capsys.readouterr()
    assert main(["leaderboard"]) == 0
    caught = capsys.readouterr()
    assert "broken.json is damaged" in caught.err
    assert "fake-protocol · fake-data print→handwritten · HOS" in caught.out
    assert "+0.2000 [+0.2000, +0.2000]  no spread: no verdict" in caught.out
    assert Path("results/leaderboard/leaderboard.csv").is_file()
    assert main(["leaderboard", "--csv", "table.csv"]) == 0
    assert Path("table.csv").read_text().startswith("protocol,dataset,task,split,metric,method")


def test_data(
    fakes: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "info", "fake-data"]) == 0
    assert capsys.readouterr().out == "The card of the fake set.\n"
    assert main(["data", "check", "fake-data"]) == 0
    monkeypatch.setattr(FakeData, "problems", ["class 'mug' is missing in amazon"])
    assert main(["data", "check", "fake-data"]) == 2
    assert "class 'mug' is missing" in capsys.readouterr().out
    assert main(["data", "check", "fake-dat"]) == 2


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'rnu'; did you mean 'run'?\n"


@pytest.mark.parametrize("words", [["list"], ["--help"], ["run", "--help"], ["show", "x"], []])
def test_nothing_heavy_at_start(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from dabench.cli.main import main; main(sys.argv[1:]); "
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.endswith("HEAVY []\n")


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in (*registry.METHODS, *registry.PROTOCOLS, *registry.DATASETS):
        assert f"  {name} " in out


def test_every_registered_protocol_is_served_and_has_a_data_set() -> None:
    served = {name for entry in registry.METHODS.values() for name in entry.protocols}
    assert served == set(registry.PROTOCOLS)
    for entry in registry.PROTOCOLS.values():
        assert entry.default_dataset in registry.DATASETS


def test_an_output_that_lacks_characters_shows_a_sign_for_them() -> None:
    program = "print('a \u03c3 b'); import sys; sys.exit(main(['list']))"
    code = f"from dabench.cli.main import main; main(['--version']); {program}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"a ? b" in done.stdout


def test_json_is_whole_where_the_output_lacks_characters() -> None:
    code = "from dabench.cli.output import say_json; say_json({'caf\u00e9 \u732b': 1})"
    for encoding, text in (("latin-1", b"caf\xe9 \\u732b"), ("utf-8", "caf\u00e9 \u732b".encode())):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            check=True,
        )
        assert text in done.stdout
        assert json.loads(done.stdout.decode(encoding)) == {"caf\u00e9 \u732b": 1}


def test_a_reader_that_goes_away_is_no_bug() -> None:
    code = "import sys; from dabench.cli.main import main; sys.exit(main(['list']))"
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=-1)
    assert first.stdout is not None
    assert first.stderr is not None
    first.stdout.close()
    assert first.stderr.read() == b""
    first.stderr.close()
    assert first.wait() == 141


def test_foreign_text_does_not_steer_a_terminal() -> None:
    text, bug = explain(ConfigError("class \x1b[31mred\x07 \u202ename\nnext"))
    assert not bug
    assert text == "class \\x1b[31mred\\x07 \\u202ename next"


@pytest.mark.parametrize(
    "words", [["check", "source"], ["adapt", "--method", "source", "--images", ".", "--out", "o"]]
)
def test_a_command_without_a_protocol_names_its_options_as_given(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--protocol.split", "r2"]) == 2
    said = capsys.readouterr().err
    assert f"--protocol.split: 'dabench {words[0]}' takes options of the method alone" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stream", "preview", "--weights", "x"], "see 'dabench stream --help'"),
        (["stream", "preview", "--batchsize", "8"], "did you mean '--batch-size'?"),
        (["adapt", "--epoch", "3"], "did you mean '--epochs'?"),
        (["adapt", "--cachedir", "c"], "did you mean '--cache-dir'?"),
        (["sweep", "--partitoin", "gpu"], "did you mean '--partition'?"),
    ],
)
def test_an_argument_is_taken_for_one_that_the_command_has(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--method", "shot", "--images", "a", "--out", "b"] if words[0] == "adapt" else []
    assert main([*words, *more]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", _KNOWN)
def test_suggestions_are_of_what_a_command_has(command: str) -> None:
    whole, _ = build_parsers()
    (commands,) = (found.choices for found in whole._actions if isinstance(found.choices, dict))
    texts = [text for action in commands[command]._actions for text in action.option_strings]
    own = {text.removeprefix("--") for text in texts if text.startswith("--")}
    assert {*_KNOWN[command]} - {"debug", "help"} == own - {"debug", "help"}
