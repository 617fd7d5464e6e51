"""Ctrl-C and SIGTERM wait for the end of a step, and leave a checkpoint of it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

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

ROOT = Path(__file__).parents[2]

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
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
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
    assert torch.load(path, weights_only=True)["progress"]["steps"] == die
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


@pytest.mark.slow
def test_an_interrupted_probe_is_made_again(
    tiny: DomainData, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataclasses.replace(tiny, source="handwritten", source_train=tiny.target_all)
    protocol = GradualWeather(weather="fog", parts="disjoint")
    plan, source = protocol.plan(data, 16, 0), bench("sf-uda").network
    plan = dataclasses.replace(plan, held_out=plan.held_out[:16])
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


_CHILD = """
import multiprocessing, os, time
from dabench.contract.signals import end_with_parent

def child():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(30)

multiprocessing.get_context("fork").Process(target=child).start()
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_child_ends_with_its_parent() -> None:
    words = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)  # it lives
        start = time.monotonic()
        parent.kill()
        # the pipe ends when nobody is left who could write
        assert parent.stdout.read() == ""
    assert time.monotonic() - start < 20
