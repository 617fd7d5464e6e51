"""Real processes: a crash stays in its process, nothing outlives the sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dabench.config.settings import Settings
from dabench.config.spec import resolve
from dabench.store.store import Store
from dabench.sweep.executor import Ended
from dabench.sweep.executors import local
from dabench.sweep.executors.local import LocalExecutor
from dabench.sweep.loop import Tally, run_jobs
from dabench.sweep.plan import Job, make_plan

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a forkserver needs POSIX")

#: stands in for ``dabench.engine.run:execute``; it lives in a module of its own, because a
#: function of a test module cannot be found in a fresh process
FAKE = """
import os, signal, sys, time
from types import SimpleNamespace
from dabench.store.store import Store
from dabench.errors import TrainingError

def execute(spec, settings, notify):
    if spec.seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    notify("data", "d")
    run_id = f"{spec.seed:016x}"
    notify("run", run_id)
    if spec.seed == 1:
        raise TrainingError("loss is nan\\nat step 3")
    if spec.seed == 2:
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.seed == 4:
        (settings.results / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    if spec.seed >= 6:
        (settings.results / f"pid-{spec.seed}").write_text(str(os.getpid()))
        try:
            time.sleep(600)
        except KeyboardInterrupt as stop:
            time.sleep(1 if spec.seed == 6 else 600)
            (settings.results / f"kept-{spec.seed}").write_text(type(stop).__name__)
            raise
    score = {"metric": "HOS", "value": 0.25, "n": 4, "segment": "all", "at": 0}
    ids = {"data": "d", "stream": "t", "source": "s"}
    record = {"run_id": run_id, "spec": spec.to_dict(), "scores": [score], "ids": ids}
    record["versions"] = {"method": "1", "protocol": "1"}
    path = Store(settings.results).write(record)
    return SimpleNamespace(run_id=run_id, path=path, record=record, existed=False)
"""


class Silent:
    """Watches and says nothing."""

    def started(self, job: Job) -> None: ...
    def ended(self, end: Ended) -> None: ...
    def tick(self) -> None: ...


@pytest.fixture
def executor_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    (tmp_path / "fake_runs_of_a_sweep.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = Settings(tmp_path / "results", None, tmp_path / "cache")
    settings.results.mkdir()
    made: list[LocalExecutor] = []

    def make(workers: int) -> LocalExecutor:
        preload = ["dabench.sweep.executors.worker"]
        made.append(
            LocalExecutor(settings, workers, "fake_runs_of_a_sweep:execute", preload=preload)
        )
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def jobs_of(seeds: str, results: Path) -> tuple[Job, ...]:
    words = {"method": "source", "protocol": "sf-osda", "device": "cpu", "threads": 1}
    return make_plan(resolve(words | {"seeds": seeds}), Store(results)).jobs


def test_a_crash_stays_in_its_process_and_is_recorded(executor_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    results = tmp_path / "results"
    jobs, tally = jobs_of("0-3,5", results), Tally()
    run_jobs(jobs, executor_of(2), Store(results), Silent(), tally)
    assert sorted(end.job.spec.seed for end in tally.done) == [0, 5]
    assert [end.value for end in tally.done] == [0.25, 0.25]
    failed = {end.job.spec.seed: end for end in tally.failed}
    assert failed[1].error == "loss is nan at step 3"
    assert (failed[1].bug, failed[1].killed) == (False, False)
    for seed in (2, 3):
        assert "killed by SIGKILL" in str(failed[seed].error)
        assert failed[seed].killed
    assert "last words" in failed[2].traceback
    folder = results / "records" / "sf-osda" / "digits"
    unnamed = next(job.key for job in jobs if job.spec.seed == 3)
    assert {path.name for path in folder.iterdir()} == {
        *(f"{seed:016x}.json" for seed in (0, 5)),
        *(f"{seed:016x}.failed.json" for seed in (1, 2)),
        f"{unnamed}.failed.json",
    }


def gone(pid: int, seconds: float = 60.0) -> bool:
    """Wait until a process is no more (or a zombie whose parent has yet to look)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def read_pid(path: Path, seconds: float = 120.0) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise TimeoutError(path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_closing_ends_what_runs(executor_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    executor = executor_of(1)
    executor.submit(jobs_of("4", tmp_path / "results")[0])
    pid = read_pid(tmp_path / "results" / "pid")
    executor.close()
    assert gone(pid)
    executor.close()  # more than once is fine
    assert not list((tmp_path / "results").glob("records/**/*.json"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_who_does_not_end_when_asked_is_killed(  # type: ignore[no-untyped-def]
    executor_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE", 3.0)
    executor, results = executor_of(2), tmp_path / "results"
    for job in jobs_of("6,7", results):
        executor.submit(job)
    pids = [read_pid(results / f"pid-{seed}") for seed in (6, 7)]
    start = time.monotonic()
    executor.close()
    assert 3.0 <= time.monotonic() - start < 10.0
    assert all(gone(pid) for pid in pids)
    assert (results / "kept-6").read_text() == "Terminated"
    assert not (results / "kept-7").exists()


def test_a_run_that_somebody_else_ends_is_named(executor_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    executor, results = executor_of(1), tmp_path / "results"
    executor.submit(jobs_of("6", results)[0])
    os.kill(read_pid(results / "pid-6"), signal.SIGTERM)
    while not (events := [e for e in executor.wait(60) if isinstance(e, Ended)]):
        pass
    assert events[0].killed
    assert "killed by SIGTERM" in str(events[0].error)


TERMINATED = """
import os, signal, sys, threading, time
from pathlib import Path
import dabench.cli.sweep as command
from dabench.config.settings import Settings
from dabench.contract.signals import terminable
from dabench.config.spec import RunSpec
from dabench.sweep.executors.local import LocalExecutor
from dabench.sweep.plan import Job, SweepPlan

def make_executor(settings, workers):
    preload = ["dabench.sweep.executors.worker"]
    return LocalExecutor(settings, workers, "fake_runs_of_a_sweep:execute", preload)

def when_ready(results, group):
    while not (results / "pid-6").is_file():
        time.sleep(0.05)
    (os.killpg if group else os.kill)(os.getpid(), signal.SIGTERM)

def main(results, to):
    spec = RunSpec("source", "sf-osda", "digits", "a", "b", "source", "n", "none", 32, 1, 64, 1, 0,
                   6, "cpu", 1, {}, {})
    command.make_executor = make_executor
    threading.Thread(target=when_ready, args=(results, to == "group"), daemon=True).start()
    settings = Settings(results, None, results / "cache", progress=False)
    with terminable():
        return command.run_plan(SweepPlan((Job(spec, "key"),), 0, 0), settings, 1, lambda tally: 0)

if __name__ == "__main__":  # the processes import this file too
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("to", ["parent", "group"])
def test_sigterm_lets_the_runs_of_a_sweep_keep_what_they_have(tmp_path: Path, to: str) -> None:
    (tmp_path / "fake_runs_of_a_sweep.py").write_text(FAKE)
    (tmp_path / "parent.py").write_text(TERMINATED)
    results = tmp_path / "results"
    results.mkdir()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "parent.py"), str(results), to],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        start_new_session=True,
    )
    assert done.returncode == 143, done.stderr
    assert "terminated: 0 done, 0 failed, 1 left" in done.stderr
    assert "Traceback" not in done.stderr
    assert (results / "kept-6").read_text() == "Terminated"
    assert gone(int((results / "pid-6").read_text()), 5)
    assert not list(results.glob("records/**/*.json"))


PARENT = """
import os, signal, sys
from pathlib import Path
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.sweep.executors.local import LocalExecutor
from dabench.sweep.plan import Job

def main(here):
    spec = RunSpec("source", "sf-osda", "digits", "a", "b", "source", "n", "none", 32, 1, 64, 1, 0,
                   4, "cpu", 1, {}, {})
    settings = Settings(here / "results", None, here / "cache")
    executor = LocalExecutor(
        settings, 1, "fake_runs_of_a_sweep:execute", ["dabench.sweep.executors.worker"]
    )
    executor.submit(Job(spec, "key"))
    while not (here / "results" / "pid").is_file():
        executor.wait(0.1)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":  # the processes import this file too
    main(Path(sys.argv[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_runs_end_when_the_sweep_is_killed(tmp_path: Path) -> None:
    (tmp_path / "fake_runs_of_a_sweep.py").write_text(FAKE)
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "results").mkdir()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])},
        check=False,
        timeout=200,
    )
    assert done.returncode == -9
    assert gone(read_pid(tmp_path / "results" / "pid"))
