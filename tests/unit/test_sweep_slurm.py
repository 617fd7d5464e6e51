"""Array jobs, with submitit's local engine in place of Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FUNCTION, KILLED, NODE_GONE, PRELOAD, WAITS, Silent, jobs_of

import dabench.cli.engines
from dabench.cli.main import main
from dabench.config.settings import Settings
from dabench.errors import ConfigError
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors import chunk
from dabench.sweep.executors.chunk import read_tickets, slurm_folder
from dabench.sweep.loop import Tally, run_jobs
from dabench.sweep.plan import Job
from dabench.sweep.resources import USUAL, Resources

submitit = pytest.importorskip("submitit", reason="submitit is missing: dabench[slurm] brings it")

from dabench.sweep.executors import slurm  # noqa: E402
from dabench.sweep.executors.slurm import Request, SlurmExecutor  # noqa: E402
from dabench.sweep.executors.status import run_states  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
HERE = Path(__file__).parents[1]


def process_lives(task: Any) -> bool:
    """Say for submitit's local engine what sacct says for Slurm, whoever has submitted it."""
    try:
        return Path(f"/proc/{task.job_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), str(HERE)]))
    monkeypatch.setattr(slurm, "_LAG", 1.0)
    (tmp_path / "results").mkdir()
    return Settings(tmp_path / "results", None, tmp_path / "cache", oracle_token="secret")


@pytest.fixture
def executor_of(settings: Settings) -> Iterator[Any]:
    made: list[SlurmExecutor] = []

    def make(**request: Any) -> SlurmExecutor:
        made.append(
            SlurmExecutor(settings, Request(**request), FUNCTION, PRELOAD, "local", process_lives)
        )
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def states(settings: Settings) -> dict[int, str]:
    found = run_states(settings.results, "local", process_lives)
    return {int(state.name.rpartition(" ")[2]): state.kind for state in found}


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_chunks_are_made_and_a_crash_stays_in_its_run(
    executor_of: Any, settings: Settings, tmp_path: Path
) -> None:
    jobs, tally = jobs_of(f"0-2,{KILLED}", settings.results), Tally()
    run_jobs(jobs, executor_of(chunk=3), Store(settings.results), Silent(), tally)
    assert sorted(end.job.spec.seed for end in tally.done) == [0, 1, 2]
    (failed,) = tally.failed
    assert "killed by SIGKILL" in str(failed.error)
    assert "seed 7" in failed.traceback
    assert states(settings) == {0: "done", 1: "done", 2: "done", KILLED: "failed"}
    (lost,) = [s for s in run_states(settings.results, "local") if s.kind == "failed"]
    assert lost.log is not None
    assert "seed 7" in lost.log.read_text()
    # one run for the source model, the others in a chunk after it
    tickets = read_tickets(slurm_folder(settings.results))
    assert [len(ticket.runs) for ticket in tickets] == [1, 3]
    files = [p for p in slurm_folder(settings.results).rglob("*") if p.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in files)


@pytest.mark.slow
def test_who_waits_behind_a_lost_task_is_queued_again(
    executor_of: Any, settings: Settings, tmp_path: Path
) -> None:
    jobs, tally = jobs_of(f"{NODE_GONE},1,2", settings.results), Tally()
    order = [jobs[1], jobs[0], jobs[2]]
    assert [job.spec.seed for job in order] == [1, NODE_GONE, 2]
    run_jobs(order, executor_of(chunk=2), Store(settings.results), Silent(), tally)
    assert sorted(end.job.spec.seed for end in tally.done) == [1, 2]
    (failed,) = tally.failed
    assert "ended before the run did" in str(failed.error)
    assert failed.killed
    (left,) = jobs_of(f"{NODE_GONE},1,2", settings.results)
    assert left.spec.seed == NODE_GONE


def test_a_warned_task_goes_on_in_another_life(
    executor_of: Any, settings: Settings, tmp_path: Path
) -> None:
    executor = executor_of()
    (job,) = jobs_of(str(WAITS), settings.results)
    executor.submit(job)
    events: list[Any] = []
    until(lambda: events.extend(executor.wait(0.1)) or list(tmp_path.glob("seen-9-*")))
    (seen,) = tmp_path.glob("seen-9-*")
    (ticket,) = read_tickets(slurm_folder(settings.results))
    children = Path(f"/proc/{ticket.job}/task/{ticket.job}/children").read_text().split()
    for pid in (seen.name.rpartition("-")[2], *children):  # Slurm warns all of a task's processes
        os.kill(int(pid), signal.SIGUSR2)
    until(lambda: events.extend(executor.wait(0.1)) or len(list(tmp_path.glob("seen-9-*"))) == 2)
    (tmp_path / "go").touch()
    until(lambda: events.extend(executor.wait(0.1)) or isinstance(events[-1], Ended))
    assert events[-1].error is None
    assert events[-1].job == job
    assert [e for e in events if isinstance(e, Ended)] == events[-1:]


def test_another_life_of_a_task_goes_on_with_force(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, bool, bool]] = []

    class Executor:
        def __init__(self, settings: Settings, *rest: Any) -> None:
            self.settings = settings

        def submit(self, job: Job) -> None:
            self.job = job

        def wait(self, seconds: float) -> list[Any]:
            made.append((self.job.spec.seed, self.settings.force, self.settings.resume))
            return [Stage(self.job, "start", ""), Ended(self.job, 1.0, "a")]

        def close(self) -> None: ...

    monkeypatch.setattr(chunk, "LocalExecutor", Executor)
    folder, forced = slurm_folder(settings.results), replace(settings, force=True)
    folder.mkdir()
    jobs = jobs_of("0-2", settings.results)
    task = chunk.Chunk("n", folder, jobs[:1], forced, FUNCTION, PRELOAD)
    task()
    task.jobs = jobs  # it is warned when the first of them is over
    task.checkpoint().function()
    assert made == [(0, True, False), (1, True, True), (2, True, True)]


def test_a_torn_line_costs_what_it_said_and_no_more(settings: Settings) -> None:
    folder = slurm_folder(settings.results)
    folder.mkdir()
    events = folder / "n.events"
    for torn in (b'["a", "ended", {"run', b"\0\0\xff"):  # a killed task, a node without power
        events.write_bytes(b'["a", "start", ""]\n' + torn)
        found, offset = chunk.read_events(folder, "n")
        assert found == [("a", "start", "")]
        for key in ("a", "b"):  # lives after it
            with chunk._appended(events) as file:
                file.write(f'["{key}", "start", ""]\n'.encode())
        assert chunk.read_events(folder, "n", offset)[0] == [(k, "start", "") for k in "ab"]
        assert len(events.read_bytes().splitlines()) == 4


def test_a_run_that_will_leave_something_else_is_not_taken_over(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_slurm(tmp_path, monkeypatch)

    def next_driver(**more: Any) -> SlurmExecutor:
        return SlurmExecutor(replace(settings, **more), Request(), alive=lambda task: True)

    jobs, first = jobs_of("0", settings.results), next_driver(data_root=tmp_path)
    first.submit(jobs[0])
    first.wait(0.1)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"data_root": None}, "--data-root"),
        ({"save_model": True, "target_tuned": True}, "--save-model and --target-tuned"),
        ({"oracle_url": "http://a"}, "--oracle-url"),
    ]
    for change, named in changes:
        with pytest.raises(ConfigError, match=f"as job 10 with another {named}; give"):
            next_driver(**{"data_root": tmp_path} | change).check(jobs)
    folder = slurm_folder(settings.results)
    next_driver(data_root=tmp_path, resume=True).check(jobs)
    next_driver(force=True).check(jobs)  # takes nothing over
    (ticket,) = read_tickets(folder)
    old = {k: v for k, v in vars(ticket).items() if k != "switches"}  # of an earlier version
    (folder / f"{ticket.name}.ticket.json").write_text(json.dumps(old))
    later = next_driver()
    later.check(jobs)
    later.submit(jobs[0])
    assert [sent.ticket.job for sent in later._sent] == ["10"]
    assert later._queued == []


DRIVER = """
import os, signal, sys, threading, time
from pathlib import Path
from fake_runs import FUNCTION, PRELOAD, Silent, jobs_of
from dabench.config.settings import Settings
from dabench.store.store import Store
from dabench.sweep.executors.slurm import Request, SlurmExecutor
from dabench.sweep.loop import Tally, run_jobs

here = Path(sys.argv[1])

def when_ready():
    while not list(here.glob("seen-9-*")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=when_ready, daemon=True).start()
settings = Settings(here / "results", None, here / "cache")
executor = SlurmExecutor(settings, Request(chunk=3), FUNCTION, PRELOAD, "local")
run_jobs(jobs_of("0,1,9", settings.results), executor, Store(settings.results), Silent(), Tally())
"""


@pytest.mark.slow
def test_when_the_driver_is_killed_the_next_one_takes_over(
    executor_of: Any, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    words = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)]
    assert subprocess.run(words, check=False, timeout=100).returncode == -9
    assert states(settings) == {0: "done", 1: "done", WAITS: "running"}
    jobs, tally, executor = jobs_of("0,1,9,3", settings.results), Tally(), executor_of()
    assert [job.spec.seed for job in jobs] == [WAITS, 3]
    before = len(read_tickets(slurm_folder(settings.results)))
    (tmp_path / "go").touch()
    run_jobs(jobs, executor, Store(settings.results), Silent(), tally)
    assert sorted(end.job.spec.seed for end in tally.done) == [3, WAITS]
    # only what no driver had submitted was submitted, and each run was made once
    assert len(read_tickets(slurm_folder(settings.results))) == before + 1
    assert len(list(tmp_path.glob("seen-*"))) == 4


def test_what_is_cancelled_ends_and_is_submitted_anew(
    executor_of: Any, settings: Settings, tmp_path: Path
) -> None:
    executor = executor_of(chunk=2)
    (job,) = jobs_of(str(WAITS), settings.results)
    executor.submit(job)
    until(lambda: executor.wait(0.1) is not None and list(tmp_path.glob("seen-9-*")))
    assert states(settings) == {WAITS: "running"}
    executor.close()
    assert states(settings) == {}
    (pid,) = [path.name.rpartition("-")[2] for path in tmp_path.glob("seen-9-*")]
    until(lambda: not Path(f"/proc/{pid}").exists())
    (tmp_path / "go").touch()
    again = executor_of()
    again.submit(job)
    events: list[Any] = []
    until(lambda: events.extend(again.wait(0.1)) or any(isinstance(e, Ended) for e in events))
    assert events[-1].error is None


STUB = """#!/bin/sh
n=$(ls {folder}/sent-* 2>/dev/null | wc -l)
cp "$1" {folder}/sent-$n
echo "Submitted batch job 1$n"
"""


def stub_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bins = tmp_path / "bin"
    bins.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        text = STUB.format(folder=tmp_path) if name == "sbatch" else "#!/bin/sh\nexit 0\n"
        (bins / name).write_text(text)
        (bins / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bins}:{os.environ['PATH']}")


def test_what_sbatch_is_asked(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_slurm(tmp_path, monkeypatch)
    request = Request(2, 90, 4, "gpu", "gpu:1", 8)
    executor = SlurmExecutor(settings, request)
    for job in jobs_of("0-4", settings.results):
        executor.submit(job)
    assert executor.wait(0.1) == []
    first, rest = ((tmp_path / f"sent-{n}").read_text() for n in (0, 1))
    for words in ("partition=gpu", "gres=gpu:1", "cpus-per-task=4", "time=90"):
        assert f"#SBATCH --{words}" in first
    assert "dependency" not in first
    assert "#SBATCH --array=0-1%2" in rest
    assert "#SBATCH --dependency=afterany:10" in rest
    assert len(run_states(settings.results, alive=lambda task: True)) == 5
    executor.close()
    assert run_states(settings.results) == []


def test_runs_that_ask_for_something_of_their_own_have_an_array_of_their_own(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_slurm(tmp_path, monkeypatch)
    executor = SlurmExecutor(settings, Request(1, 90, 2, gres="gpu:1"))
    own = (USUAL, Resources(4, 2.0, 16 * 10**9), Resources(gpus=0.0))
    jobs = [
        replace(job, resources=asked)
        for job, asked in zip(jobs_of("0-2", settings.results), own, strict=True)
    ]
    executor.check(jobs)
    for job in jobs:
        executor.submit(job)
    executor.wait(0.1)
    usual, more, less = ((tmp_path / f"sent-{n}").read_text() for n in (0, 1, 2))
    assert "--gres=gpu:1\n" in usual
    assert "--mem=" not in usual
    for words in ("gres=gpu:2", "cpus-per-task=4", "mem=16000M", "dependency=afterany:10"):
        assert f"#SBATCH --{words}" in more
    assert "--gres" not in less
    assert "cpus-per-task=2" in less
    with pytest.raises(ConfigError, match=r"resources of 'source': 0\.5 GPUs: Slurm gives whole"):
        executor.check([replace(jobs[0], resources=Resources(gpus=0.5))])
    executor.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--partition", "gpu"), "--partition is for --executor slurm"),
        (("--executor", "slurm", "--time", "soon"), "--time 'soon': expected minutes"),
        (("--executor", "slurm", "--time", "0:00"), "--time '0:00': expected more"),
        (("--executor", "slurm", "--chunk", "0"), "--chunk '0': expected a whole number"),
        (("--executor", "slurm", "--device", "cuda"), "--device cuda: ask for GPUs"),
        (("--executor", "slurm", "--device", "mps"), "--device 'mps': runs on a cluster"),
        (("--executor", "slurm"), "there is no sbatch on this machine"),
    ],
)
def test_bad_words(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["sweep", "--methods", "source", "--protocols", "sf-osda", *words]) == 2
    assert message in capsys.readouterr().err


def test_without_submitit_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dabench.cli.engines.importlib.util, "find_spec", lambda name: None)
    assert main(["sweep", "--methods", "source", "--executor", "slurm"]) == 2
    assert "pip install 'dabench[slurm]'" in capsys.readouterr().err
    # what needs it is not imported before: that would be a bug's traceback instead
    monkeypatch.delitem(sys.modules, "dabench.sweep.executors.status")
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["sweep", "--status"]) == 2
    assert "pip install 'dabench[slurm]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", 2), ("4:00:00", 240), ("1-00", 1440), ("1-2:30", 1590)],
)
def test_times_are_those_of_sbatch(text: str, minutes: int) -> None:
    assert dabench.cli.engines._minutes(text) == minutes


def test_runs_get_the_device_that_they_will_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []

    def keep(plan: Any, *rest: Any) -> int:
        seen.extend((job.spec.device, job.spec.threads) for job in plan.jobs)
        return 0

    monkeypatch.setattr("dabench.cli.sweep.run_plan", keep)
    words = ["sweep", "--methods", "source", "--executor", "slurm", "--cpus-per-run", "3"]
    assert main(words) == 0
    assert main([*words, "--gres", "gpu:1"]) == 0
    assert main([*words, "--gres", "gpu:1", "--device", "cpu"]) == 0
    assert seen == [("cpu", 3), ("cuda", 3), ("cpu", 3)]


@pytest.mark.slow
def test_the_table_is_that_of_the_processes_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(
        slurm,
        "SlurmExecutor",
        lambda settings, request: SlurmExecutor(settings, request, cluster="local"),
    )
    words = ["sweep", "--methods", "source,shot", "--protocols", "sf-osda", "--epochs", "1"]
    words += ["--source-epochs", "1", "--threads", "1", "--device", "cpu"]
    words += ["--cache-dir", str(tmp_path / "cache")]
    assert main([*words, "--executor", "slurm", "--results", "there"]) == 0
    assert main([*words, "--results", "here"]) == 0
    tables = []
    for name in ("here", "there"):
        records = [record for _, record in Store(Path(name)).all()]
        tables.append({r["run_id"]: (r["scores"], r["curves"]) for r in records})
    assert len(tables[0]) == 2
    assert tables[0] == tables[1]
    capsys.readouterr()
    assert main(["sweep", "--status", "--results", "there"]) == 0
    assert "0 queued, 0 running, 2 done, 0 failed" in capsys.readouterr().out
