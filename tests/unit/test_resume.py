"""Interruptions in mid-stream, a real ``kill -9``, and ``--resume`` through the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from dabench import registry
from dabench.contract.access import Budget, Recorder
from dabench.contract.data import DomainData
from dabench.contract.protocol import Outcome, Resume, Run
from dabench.contract.signals import Terminated, postponed, terminable
from dabench.protocols.gradual_weather import GradualWeather
from dabench.protocols.online_seg import OnlineSegmentation
from dabench.protocols.streams.class_runner import ClassStreamRunner

RUN = [
    *(sys.executable, "-m", "dabench", "run", "--method", "conda", "--dataset", "digits"),
    *("--source", "handwritten", "--target", "handwritten", "--protocol.weather", "fog"),
    *("--source-epochs", "2", "--batch-size", "16", "--checkpoint-every", "7", "--threads", "1"),
    *("--no-progress", "--method.per_class", "2"),
]


def command(results: Path, cache: Path, *more: str) -> list[str]:
    """Return a run's words."""
    return [*RUN, "--results", str(results), "--cache-dir", str(cache), *more]


def record(results: Path) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Return the one record in a store, and its predictions."""
    (path,) = (results / "records" / "gradual-weather" / "digits").glob("*.json")
    with np.load(path.with_suffix(".npz")) as arrays:
        return json.loads(path.read_text()), dict(arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGKILL, -9, ""), (signal.SIGTERM, 143, "the same command with --resume goes on")],
)
def test_a_killed_process_resumes_bit_for_bit(
    tmp_path: Path, number: int, code: int, said: str
) -> None:
    cache, killed, whole = tmp_path / "cache", tmp_path / "killed", tmp_path / "whole"
    subprocess.run(command(whole, cache), check=True, capture_output=True)
    process = subprocess.Popen(
        command(killed, cache), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while not (found := list(killed.glob("runs/*/checkpoint.pt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert said in process.communicate()[1]
    assert process.returncode == code
    assert found[0].is_file()
    assert not list(killed.glob("records/**/*.json"))
    subprocess.run(command(killed, cache, "--resume"), check=True, capture_output=True)
    (one, its), (two, theirs) = record(killed), record(whole)
    assert one["run_id"] == two["run_id"]
    assert one["scores"] == two["scores"]
    assert one["curves"] == two["curves"]
    assert its.keys() == theirs.keys()
    assert all((its[key] == theirs[key]).all() for key in its)
    assert not found[0].exists()


@pytest.mark.slow
def test_a_killed_stream_of_frames_resumes_bit_for_bit(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "dense_stream.py"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    whole.mkdir()
    subprocess.run([sys.executable, script, whole], check=True, capture_output=True)
    process = subprocess.Popen([sys.executable, script, killed], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (found := list(killed.glob("checkpoint.pt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1)  # beyond the first segment
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert found[0].is_file()
    assert not (killed / "result.json").exists()
    resume = [sys.executable, script, killed, "--resume"]
    told = subprocess.run(resume, check=True, capture_output=True, text=True)
    assert told.stderr == ""
    one, two = (json.loads((f / "result.json").read_text()) for f in (killed, whole))
    assert one == two
    pictures = sorted(path.name for path in (whole / "report").iterdir())
    assert len(pictures) == 12
    for name in pictures:
        assert (killed / "report" / name).read_bytes() == (whole / "report" / name).read_bytes()


# -- what waits for the end of a step


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_an_interruption_waits_until_it_may_come(number: int, kind: type[BaseException]) -> None:
    done = []

    def steps() -> None:
        with terminable(), postponed() as let_interrupt:
            let_interrupt()
            send(number)
            done.append("step")
            let_interrupt()
            done.append("next step")

    def last_step() -> None:
        with terminable(), postponed():
            send(number)
            done.append("last step")

    for part in (steps, last_step):
        with pytest.raises(kind) as caught:
            part()
        assert type(caught.value) is kind
    assert done == ["step", "last step"]


def test_a_second_ctrl_c_does_not_wait_and_a_second_sigterm_is_none() -> None:
    done = []

    def impatient() -> None:
        with postponed():
            send(signal.SIGINT)
            done.append("step")
            send(signal.SIGINT)
            done.append("never")

    def repeated() -> None:
        with terminable():
            try:
                send(signal.SIGTERM)
            finally:
                send(signal.SIGTERM)
                done.append("kept")

    with pytest.raises(KeyboardInterrupt):
        impatient()
    with pytest.raises(Terminated):
        repeated()
    assert done == ["step", "kept"]


def test_an_error_does_not_swallow_an_interruption() -> None:
    def failing() -> None:
        with postponed():
            send(signal.SIGINT)
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        failing()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with postponed():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


# -- the checkpoint that an interruption leaves


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("die", [1, 14])
def test_an_interrupted_stream_of_frames_loses_no_step(
    dense: Any, tmp_path: Path, number: int, die: int
) -> None:
    class Interrupted(dense.LateLearner):  # type: ignore[name-defined,misc]
        done: ClassVar[int] = 0

        def step(self, batch: Any) -> Tensor:
            Interrupted.done += 1
            if Interrupted.done == die:
                send(number)
            found: Tensor = super().step(batch)
            return found

    protocol, path = OnlineSegmentation(schedule="cycle"), tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt) as caught, terminable():
        dense.run(Interrupted, protocol, resume=Resume(path, "a", 1000, False))
    assert Interrupted.done == die
    (note,) = caught.value.__notes__
    assert note.startswith(f"step {die} of ")
    assert "--resume" in note
    assert torch.load(path, weights_only=True)["journal"]["steps"] == die
    torch.manual_seed(7)
    resumed = dense.run(dense.LateLearner, protocol, resume=Resume(path, "a", 1000, True))
    whole = dense.run(dense.LateLearner, protocol)
    assert resumed.scores == whole.scores
    assert resumed.curves == whole.curves
    assert {k: v.tolist() for k, v in resumed.arrays.items()} == {
        k: v.tolist() for k, v in whole.arrays.items()
    }


def test_no_checkpoint_where_none_is_wanted(dense: Any, tmp_path: Path) -> None:
    class Interrupted(dense.LateLearner):  # type: ignore[name-defined,misc]
        def step(self, batch: Any) -> Tensor:
            send(signal.SIGINT)
            found: Tensor = super().step(batch)
            return found

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt) as caught:
        dense.run(Interrupted, OnlineSegmentation(), resume=Resume(path, "a", 0, False))
    assert not hasattr(caught.value, "__notes__")
    assert not path.exists()


def test_an_interrupted_probe_is_made_again(
    tiny: DomainData, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataclasses.replace(tiny, source="handwritten", source_train=tiny.target_all)
    protocol = GradualWeather(weather="fog", parts="disjoint")
    plan, source = protocol.plan(data, 16, 0), bench("sf-uda").network
    build = registry.method("tent")

    def run(resume: Resume | None) -> Outcome:
        context = Run("source", Budget(1, 16), 0, "cpu", Recorder(), False, resume)
        return protocol.run(build, plan, source, context)

    whole, path, probed = run(None), tmp_path / "checkpoint.pt", []
    score = ClassStreamRunner._accuracy

    def interrupted(self: Any, rows: Any, condition: Any, answer: Any) -> float:
        probed.append(condition.name)
        if len(probed) == 5:  # the second of two conditions after the second segment
            send(signal.SIGTERM)
        return score(self, rows, condition, answer)

    with monkeypatch.context() as patch:
        patch.setattr(ClassStreamRunner, "_accuracy", interrupted)
        with pytest.raises(Terminated), terminable():
            run(Resume(path, "a", 1000, False))
    assert len(probed) == 5
    resumed = run(Resume(path, "a", 1000, True))
    assert resumed.scores == whole.scores
    assert resumed.curves == whole.curves
