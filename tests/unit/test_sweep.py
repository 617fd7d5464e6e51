"""The sweep: what starts when, what is recorded, what is printed, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import dabench.cli.sweep
from dabench.cli.main import main
from dabench.cli.sweep_view import ProgressView, duration
from dabench.config.settings import Settings
from dabench.config.spec import resolve
from dabench.store.identity import run_digest
from dabench.store.reading import load_record
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.loop import Tally, _Gate, run_jobs
from dabench.sweep.plan import Job, Key, make_plan, versions_of

WORDS = ("--protocols", "sf-osda", "--device", "cpu", "--threads", "1")


class Scripted:
    """Ends the oldest run at every wait: by writing a record, or as ``fates`` says for its seed."""

    holds_back = frozenset({"data", "source"})

    def __init__(self, results: Path, slots: int = 2, **fates: Any) -> None:
        self.store, self.slots, self.fates = Store(results), slots, fates
        self.submitted: list[Job] = []
        self.begun: list[Stage | Ended] = []
        self.under_way: list[Job] = []
        self.closed = 0

    def check(self, jobs: Sequence[Job]) -> None:
        pass

    def takes(self, job: Job) -> bool:
        return True

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        self.begun.append(Stage(job, "start", ""))
        self.under_way.append(job)

    def wait(self, seconds: float) -> list[Stage | Ended]:
        if self.begun:
            events, self.begun = self.begun, []
            return events
        job = self.under_way.pop(0)
        fate = self.fates.get(f"seed{job.spec.seed}")
        if isinstance(fate, signal.Signals):
            os.kill(os.getpid(), fate)
        if fate is not None:
            return [Ended(job, 1.0, **fate)]
        spec = job.spec
        parts = {
            "spec": spec.to_dict(),
            "versions": versions_of(spec),
            "ids": {"data": "d", "stream": "t", "source": "s"},
        }
        record = {
            "run_id": run_digest(*parts.values()),
            **parts,
            "cost": {"seconds": 7.0},
            "scores": [],
        }
        self.store.write(record)
        return [Stage(job, "run", record["run_id"]), Ended(job, 1.0, record["run_id"], value=0.5)]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str, Scripted]]:
    """Run ``dabench sweep`` with a scripted executor in place of processes."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, **fates: Any) -> tuple[int, str, str, Scripted]:
        executor = Scripted(tmp_path / "results", **fates)

        def make(chosen: Settings, workers: int) -> Scripted:
            executor.slots = workers
            return executor

        monkeypatch.setattr(dabench.cli.sweep, "make_executor", make)
        code = main(["sweep", *words])
        caught = capsys.readouterr()
        return code, caught.out, caught.err, executor

    return call


def test_all_runs_then_none(command: Any) -> None:
    words = ("--methods", "source,shot", "--seeds", "0-1", *WORDS)
    code, out, _, executor = command(*words, "--workers", "2")
    assert code == 0
    assert executor.closed
    assert "4 runs; 0 have a record, 4 to do" in out
    assert "done    shot · sf-osda · digits print→handwritten · seed 1 · HOS 0.5000 · 1 s" in out
    assert "4 done, 0 failed" in out

    code, out, _, executor = command(*words)
    assert code == 0
    assert not executor.submitted
    assert "4 have a record, 0 to do" in out


def test_a_failed_run_is_recorded_named_and_tried_again(command: Any, tmp_path: Path) -> None:
    words = ("--methods", "source", "--seeds", "0-2", *WORDS)
    fate = {"error": "loss is nan", "bug": False, "traceback": "Traceback: here"}
    code, out, err, _ = command(*words, seed1=fate)
    assert code == 2
    assert "2 done, 1 failed" in out
    assert "seed 1: loss is nan" in err
    assert "again: dabench run --method source --protocol sf-osda --dataset digits --seed 1" in err
    (failed,) = (tmp_path / "results/records/sf-osda/digits").glob("*.failed.json")
    record = json.loads(failed.read_text())
    assert record["failed"] is True
    assert record["traceback"] == "Traceback: here"
    assert record["spec"]["seed"] == 1

    code, out, _, executor = command(*words)
    assert [job.spec.seed for job in executor.submitted] == [1]
    assert code == 0
    assert not failed.exists()
    assert "2 have a record, 1 to do" in out


def test_the_command_of_a_failed_run_has_the_folders_of_the_sweep(
    command: Any, tmp_path: Path
) -> None:
    fate = {"error": "no data"}
    words = ("--methods", "source", *WORDS, "--results", "my results", "--data-root", "data")
    _, out, err, _ = command(*words, "--cache-dir", "c", "--save-model", seed0=fate)
    assert "'dabench leaderboard --results 'my results'' has the table" in out
    (line,) = (line for line in err.splitlines() if "again: dabench run" in line)
    assert line.endswith(" --results 'my results' --data-root data --cache-dir c --save-model")
    # an address is for the runs that ask one: 'run' refuses it elsewhere
    http = ("--methods", "cabb", "--protocols", "bb-uda", "--protocol.oracle", "http")
    url = ("--oracle-url", "http://127.0.0.1:1")
    _, _, err, _ = command(*http, *url, "--device", "cpu", seed0=fate)
    assert f"--protocol.oracle http {' '.join(url)}" in err


def test_a_mark_that_a_record_lacks_is_no_run_that_was_made(command: Any) -> None:
    words = ("--methods", "source", *WORDS)
    assert command(*words)[0] == 0
    code, _, err, executor = command(*words, "--target-tuned")
    assert code == 2
    assert "has a record without the mark 'target-tuned'; give --force as well" in err
    assert not executor.submitted


def test_a_bug_is_exit_code_1_unless_a_user_erred_too(command: Any) -> None:
    bug = {"error": "unexpected IndexError", "bug": True}
    words = ("--methods", "source", "--seeds", "0-1", *WORDS)
    assert command(*words, seed0=bug)[0] == 1
    assert command(*words, seed0=bug, seed1={"error": "no data"})[0] in (1, 2)


def test_a_killed_run_is_recorded_under_its_id(command: Any, tmp_path: Path) -> None:
    fate = {"error": "killed by SIGKILL", "bug": True, "killed": True, "run_id": "abc"}
    assert command("--methods", "source", *WORDS, seed0=fate)[0] == 1
    assert (tmp_path / "results/records/sf-osda/digits/abc.failed.json").is_file()


def test_what_the_run_itself_has_recorded_stays_and_its_output_comes_to_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (spec,) = resolve({"method": "source", "protocol": "sf-osda", "device": "cpu", "threads": 1})
    ids = {"data": "d", "stream": "t", "source": "s"}
    run_id = run_digest(spec.to_dict(), versions_of(spec), ids)
    own = {"run_id": run_id, "spec": spec.to_dict(), "versions": versions_of(spec), "ids": ids}
    path = store.write_failed(own | {"scores": [], "curves": []}, "its own traceback")
    jobs = make_plan([spec], store).jobs

    def fail(**fate: Any) -> dict[str, Any]:
        executor = Scripted(tmp_path, seed0={"error": "no", "run_id": run_id, **fate})
        run_jobs(jobs, executor, store, ProgressView(jobs, 1, live=False), Tally())
        return load_record(path)

    before = load_record(path)
    assert fail() == before  # nothing else is known
    told = "its own traceback\nlast output:\nneighbours 3 of 2"
    after = fail(traceback=told)
    assert after["traceback"] == told
    kept = {name for name in before if before[name] == after.get(name)}
    assert before.keys() - kept == {"traceback", "checksum"}
    assert after["ids"] == ids


def test_a_run_that_succeeds_alone_takes_what_the_sweep_knew_of_its_failure(
    command: Any, tmp_path: Path
) -> None:
    """Its id was not known then; the next sweep does not come to it, since it has a record."""
    words = ("--methods", "source", *WORDS)
    _, _, _, executor = command(*words, seed0={"error": "no data"})
    store = executor.store
    (failed,) = store.failed()
    assert failed.name == f"{executor.submitted[0].key}.failed.json"
    run = Scripted(tmp_path / "results")
    run.under_way = executor.submitted
    assert len(run.wait(1.0)) == 2
    assert store.failed() == []
    assert (store.superseded / failed.name).is_file()


@pytest.mark.parametrize(
    ("number", "exit_code", "how"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interruption_says_what_is_left_and_the_next_call_goes_on(
    command: Any, number: signal.Signals, exit_code: int, how: str
) -> None:
    words = ("--methods", "source", "--seeds", "0-4", *WORDS)
    code, _, err, executor = command(*words, seed2=number)
    assert code == exit_code
    assert executor.closed
    assert f"{how}: 2 done, 0 failed, 3 left" in err
    assert "the same command goes on" in err
    code, _, _, executor = command(*words)
    assert code == 0
    assert [job.spec.seed for job in executor.submitted] == [2, 3, 4]


def test_a_dry_run_lists_and_guesses(command: Any, tmp_path: Path) -> None:
    command("--methods", "source", "--seeds", "0", *WORDS)
    words = ("--methods", "source,usd", "--seeds", "0-2", *WORDS, "--workers", "2", "--dry-run")
    code, out, _, executor = command(*words)
    assert code == 0
    assert not executor.submitted
    assert "6 runs; 1 have a record, 5 to do" in out
    lines = {line.split("  ")[1]: line.split()[-2:] for line in out.splitlines() if " · " in line}
    assert lines["source · sf-osda · digits print→handwritten · seed 1"] == ["~7", "s"]
    assert lines["usd+bn · sf-osda · digits print→handwritten · seed 2"][-1] == "?"
    assert "time: about 7 s on 2 workers, and 3 runs that nobody timed; loading" in out
    assert out.index("time: about") < out.index(" · seed 1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol.shifts", "fog:9"), "severities 1 to 5"),
        (("--backbone", "resnet19"), "unknown backbone 'resnet19'; did you mean 'resnet18'"),
        (("--weights", "/nix/w.pt"), "--weights /nix/w.pt: no such file"),
        (("--source-model", "resnet18", "--source-checkpoint", "/nix/c.pt"), "/nix/c.pt"),
        (("--init", "bn-target"), "--init bn-target"),
        (("--protocol.stream", "single", "--batch-size", "4"), "--batch-size 1"),
        (("--resume",), ""),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_no_run_can_be_is_said_before_the_first(
    command: Any, words: tuple[str, ...], message: str, dry: tuple[str, ...]
) -> None:
    base = ("--methods", "tent", "--protocols", "online-tta", "--device", "cpu")
    code, _, err, executor = command(*base, *words, *dry)
    if message:
        assert code == 2
        assert message in err
        assert not executor.submitted
    else:
        assert code == 0


def test_of_a_grid_the_run_with_such_a_network_is_named(command: Any, tmp_path: Path) -> None:
    text = "device: cpu\nblocks: [{method: source}, {method: shot, backbone: resnet19}]\n"
    (tmp_path / "g.yaml").write_text(text)
    code, _, err, _ = command("g.yaml", "--dry-run")
    assert code == 2
    head = "grid g.yaml (shot · sf-osda · digits print→handwritten · seed 0): "
    assert f"{head}unknown backbone 'resnet19'" in err


def test_a_grid_file_with_a_part_and_options_over_it(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("budget: smoke\nmethod: [source, shot]\nseeds: 0-3\nblocks: [{}, {}]\n")
    code, out, _, executor = command(
        *("g.yaml", "--methods", "shot", "--seeds", "2-9", "--epochs", "3", "--no-progress"),
        *("--protocol.split", "r3", "--method.lr", "0.5", "--device", "cpu"),
    )
    assert code == 2  # source has no lr
    code, out, _, executor = command(
        *("g.yaml", "--methods", "shot", "--seeds", "2-9", "--epochs", "3"),
        *("--protocol.split", "r3", "--device", "cpu", "--workers", "64"),
    )
    assert code == 0
    assert "g.yaml (budget: smoke): 2 runs; 8 listed again, counted once" in out
    specs = [job.spec for job in executor.submitted]
    assert [(s.method, s.seed, s.epochs, s.threads) for s in specs] == [
        ("shot", 2, 3, 1),
        ("shot", 3, 3, 1),
    ]
    assert specs[0].protocol_options["split"] == "r3"


def test_a_dotted_option_without_a_grid_file(command: Any) -> None:
    words = ("--protocol.split", "r3", "--methods", "shot", "--method.lr", "5e-3", "--device")
    _, _, _, executor = command(*words, "cpu", "--protocol.held_out=0.2")
    (job,) = executor.submitted
    assert job.spec.protocol_options["split"] == "r3"
    assert job.spec.protocol_options["held_out"] == 0.2
    assert job.spec.method_options["lr"] == 5e-3


def test_machines_with_a_shard_each_make_the_whole_grid_once(command: Any) -> None:
    words = ("--methods", "source,shot", "--seeds", "0-1", *WORDS)
    for k, left in (1, 2), (2, 2), (2, 0):  # records of others move no run to another part
        code, _, _, executor = command(*words, "--shard", f"{k}/2")
        assert (code, len(executor.submitted)) == (0, left)
    assert "4 have a record, 0 to do" in command(*words)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "shot", "--method.lr", "--seeds", "3"), "--method.lr needs a value"),
        ((), "needs GRID.yaml or --methods A,B"),
        (("--methods", "source,"), "--methods 'source,': expected names"),
        (("--methods", "sauce"), "unknown method 'sauce'; did you mean 'source'?"),
        (("--methods", "source", "--workers", "0"), "--workers 0: expected a whole number"),
        (("--methods", "source", "--shard", "3/2"), "--shard '3/2': expected K/N"),
        (("--methods", "source", "--workres", "2"), "did you mean '--workers'?"),
        (("--method", "source"), "did you mean '--methods'?"),
        (("--methods", "source", "shot"), "'shot' is no grid, but a method; lists have commas"),
        (("--methods", "source", "shot", "usd"), "unknown argument 'usd'; lists have commas"),
        (("none.yaml",), "grid none.yaml: cannot be read"),
        (("--methods", "source", "--seeds", "3-1"), "--seeds 3-1: expected a range"),
        (
            ("--methods", "bn-adapt", "--protocols", "online-tta", "--save-model", "--dry-run"),
            "--save-model: under online-tta a method goes on changing",
        ),
    ],
)
def test_bad_words_are_one_line(command: Any, words: tuple[str, ...], message: str) -> None:
    code, _, err, _ = command(*words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


class Slow(Scripted):
    """Tells of one stage at a time, and keeps watch that no work is done twice at once."""

    def __init__(self, results: Path, slots: int) -> None:
        super().__init__(results, slots)
        self.waits: dict[str, int] = {}
        self.trained: set[Key] = set()
        self.most = 0

    def wait(self, seconds: float) -> list[Stage | Ended]:
        events: list[Stage | Ended] = []
        early = [j for j in self.under_way if self.waits.get(j.key, 0) < 2]
        early = [j for j in early if j.source_key not in self.trained]
        assert len({j.source_key for j in early}) == len(early)
        assert self.waits or len(self.under_way) == 1  # the images are not in the cache yet
        self.most = max(self.most, len(self.under_way))
        for job in list(self.under_way):
            count = self.waits[job.key] = self.waits.get(job.key, 0) + 1
            if count < 3:
                events.append(Stage(job, "data" if count == 1 else "run", "x"))
                self.trained |= {job.source_key} if count == 2 else set()
            elif count == 5:
                self.under_way.remove(job)
                events.append(Ended(job, 1.0, "x"))
        return events


def test_runs_that_would_do_the_same_work_wait_for_each_other(tmp_path: Path) -> None:
    """Twelve runs over three source models: never two that train one, yet all slots in use."""
    common = {"protocol": "sf-osda", "device": "cpu", "threads": 1, "seeds": "0-2"}
    specs = [
        spec
        for method in ("source", "shot", "usd", "target-supervised")
        for spec in resolve(common | {"method": method})
    ]
    store = Store(tmp_path)
    jobs = make_plan(specs, store).jobs
    executor, tally = Slow(tmp_path, slots=4), Tally()
    run_jobs(jobs, executor, store, ProgressView(jobs, 4, live=False), tally)
    assert len(tally.done) == 12
    assert executor.most == 4
    assert [job.spec.seed for job in executor.submitted[:3]] == [0, 1, 2]


def test_a_source_model_that_is_there_holds_nobody_back(tmp_path: Path) -> None:
    words = {"method": "source", "protocol": "sf-osda", "device": "cpu", "source-seed": 0}
    first, second, third = (Job(s, str(s.seed)) for s in resolve(words | {"seeds": "0-2"}))
    gate = _Gate({"source"})
    gate.start(first)
    assert not gate.lets(second)
    gate.stage(Stage(first, "run", "x"))
    gate.start(second)  # behind a queue it may be long until it gets anywhere
    assert gate.lets(third)


def test_time_left_comes_from_this_sweep_before_earlier_records(tmp_path: Path) -> None:
    specs = resolve({"method": "source", "protocol": "sf-osda", "device": "cpu", "seeds": "0-4"})
    jobs = [Job(spec, str(spec.seed), 100.0) for spec in specs]
    view = ProgressView(jobs, 2, live=False)
    assert view.seconds_left() == pytest.approx(250.0)
    view.started(jobs[0])
    view.ended(Ended(jobs[0], 10.0, "x", value=None))
    assert view.seconds_left() == pytest.approx(20.0)
    assert ProgressView([Job(specs[0], "0")], 1, live=False).seconds_left() is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (3 * 3600 + 300, "3 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
