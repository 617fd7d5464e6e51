"""Tuning with real runs: labels of reported shifts decide nothing, and records name the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dabench.cli.sweep
from dabench.cli.main import main
from dabench.config.settings import Settings
from dabench.config.tuned import read_tuned
from dabench.contract.protocol import StreamPlan
from dabench.engine.run import execute
from dabench.errors import TrainingError
from dabench.protocols.streams.protocol import OnlineProtocol
from dabench.store.store import Store
from dabench.sweep import tuning
from dabench.sweep.executor import Ended
from dabench.sweep.plan import Job

GRID = """\
protocol: online-tta
dataset: digits
source: handwritten
target: handwritten
source-epochs: 1
shifts: c-spatter:5
seeds: 10
threads: 1
device: cpu
method: tent
method.lr: [1e-3, 1e-2]
"""
RUN = [
    *("run", "--protocol", "online-tta", "--dataset", "digits", "--source", "handwritten"),
    *("--target", "handwritten", "--source-epochs", "1", "--threads", "1", "--device", "cpu"),
    *("--protocol.shifts", "rain:1", "--no-progress"),
]


class Here:
    """An executor that makes each run in this process, where a test has changed things."""

    slots = 1
    holds_back = frozenset({"data", "source"})

    def __init__(self, settings: Settings) -> None:
        self.settings, self.jobs = replace(settings, progress=False), list[Job]()

    def check(self, jobs: Sequence[Job]) -> None:
        pass

    def takes(self, job: Job) -> bool:
        return True

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Ended]:
        job = self.jobs[-1]
        try:
            found = execute(job.spec, self.settings)
        except TrainingError as error:
            return [Ended(job, 1.0, error=str(error), diverged=True)]
        return [Ended(job, 1.0, found.run_id, value=0.5)]

    def close(self) -> None:
        pass


def poison(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Give every stream that shows a kind of shift wrong labels."""
    whole = OnlineProtocol.plan

    def plan(self: Any, *given: Any) -> StreamPlan:
        found = whole(self, *given)
        if any(segment.domain == kind for segment, _ in found.stream.segments):
            found = replace(found, truth=np.roll(found.truth, len(found.truth) // 3))
        return found

    monkeypatch.setattr(OnlineProtocol, "plan", plan)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        dabench.cli.sweep, "make_executor", lambda settings, workers: Here(settings)
    )
    (tmp_path / "mine.yaml").write_text(GRID)
    return tmp_path


def accuracy(results: str) -> float:
    found = [r for _, r in Store(Path(results)).all() if r["spec"]["method"] == "bn-adapt"]
    return next(s["value"] for s in found[0]["scores"] if s["metric"] == "accuracy")


@pytest.mark.slow
def test_labels_of_what_is_reported_decide_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = [*RUN, "--method", "bn-adapt"]
    assert main([*reported, "--results", "clean"]) == 0
    assert main(["tune", "mine.yaml", "--results", "clean"]) == 0
    poison(monkeypatch, "rain")
    assert main([*reported, "--results", "poisoned"]) == 0
    assert accuracy("poisoned") < accuracy("clean") - 0.2  # it works
    assert main(["tune", "mine.yaml", "--results", "poisoned"]) == 0
    clean = Path("clean/tuned/mine.yaml").read_bytes()
    assert Path("poisoned/tuned/mine.yaml").read_bytes() == clean

    # had the grid shown the reported shift, its file would be another one
    monkeypatch.setattr(tuning, "_reported", lambda *given: (frozenset(), frozenset()))
    Path("mine.yaml").write_text(
        GRID.replace("c-spatter:5", "rain:1").replace("[1e-3, 1e-2]", "1e-3")
    )
    assert main(["tune", "mine.yaml", "--results", "poisoned", "--name", "leaking"]) == 0
    monkeypatch.undo()
    monkeypatch.chdir(home)
    monkeypatch.setenv("DABENCH_CACHE", str(home / "private-cache"))
    monkeypatch.setattr(tuning, "_reported", lambda *given: (frozenset(), frozenset()))
    monkeypatch.setattr(
        dabench.cli.sweep, "make_executor", lambda settings, workers: Here(settings)
    )
    assert main(["tune", "mine.yaml", "--results", "clean", "--name", "leaking"]) == 0
    clean = Path("clean/tuned/leaking.yaml").read_bytes()
    assert Path("poisoned/tuned/leaking.yaml").read_bytes() != clean


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_a_tuned_run_names_its_file_and_is_not_made_twice(capsys: Any) -> None:
    assert main(["tune", "mine.yaml"]) == 0
    file = Path("results/tuned/mine.yaml")
    rate = str(read_tuned(file).methods["tent"].options["lr"])
    by_hand = [*RUN, "--method", "tent", "--method.lr", rate]
    run = [*RUN, "--method", "tent", "--tuned", str(file)]
    assert main(run) == 0
    (record,) = [r for _, r in Store(Path("results")).all()]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["tuned"] == {"file": "mine.yaml", "sha256": digest}
    capsys.readouterr()
    assert main(by_hand) == 0
    assert "was already there" in capsys.readouterr().out
    # the other way round: what was made by hand keeps its record, and this is said
    assert main([*by_hand, "--seed", "1"]) == 0
    assert main([*run, "--seed", "1"]) == 0
    assert "was made with these options given by hand" in capsys.readouterr().err
    marks = {r["spec"]["seed"]: "tuned" in r for _, r in Store(Path("results")).all()}
    assert marks == {0: True, 1: False}
    # what the options were chosen on is not reported
    assert main([*run[:-2], "--protocol.shifts", "c-spatter:1", *run[-2:]]) == 2
    assert "were chosen on spatter" in capsys.readouterr().err
