"""The sealed source model: same bits, no weights here, children that die and errors that travel."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.cost import Cost
from dabench.contract.data import DataRequest, DomainData
from dabench.contract.floats import to_float
from dabench.contract.protocol import Plan
from dabench.errors import CacheError, DataError, OracleError
from dabench.oracle.answer_forms import AnswerForm, Unreachable
from dabench.oracle.client import OracleClient
from dabench.oracle.in_process import InProcess
from dabench.oracle.sealed import Sealed, _revived
from dabench.oracle.sealed_child import SealedRequest
from dabench.source_models import classifier, loading

COUNT = 70  # a whole chunk and a piece of one
SEED = 770  # of a source model that no other test holds in this process


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> SealedRequest:
    cache = tmp_path_factory.mktemp("sealed")
    shutil.copytree(drawn, cache, dirs_exist_ok=True)
    return SealedRequest(
        dataset="digits",
        data=DataRequest("handwritten", "print", 32, None, cache),  # the fewer to train on
        protocol="sf-uda",
        protocol_options={},
        recipe=classifier.Recipe("small-cnn", "none", 1, plain=True),
        batch_size=32,
        plan_seed=0,
        source_seed=SEED,
        device="cpu",
        threads=1,
        form=AnswerForm("soft"),
        progress=False,
    )


@pytest.fixture(scope="module")
def plan(request_: SealedRequest) -> Plan:
    data: DomainData = registry.dataset("digits")().load(request_.data)
    made: Plan = registry.protocol("sf-uda")().plan(data, 32, 0)
    return made


@pytest.fixture(scope="module")
def images(plan: Plan) -> torch.Tensor:
    return plan.parts["adapt"].__getitems__(list(range(COUNT))).images


@pytest.fixture(scope="module")
def sealed(request_: SealedRequest) -> Iterator[Sealed]:
    made = Sealed(request_)
    yield made
    made.close()


def everything_here() -> list[object]:
    """What a hostile method can get hold of: all objects, what they hold, frames' variables."""
    gc.collect()
    found: list[object] = list(gc.get_objects())
    for frame in sys._current_frames().values():
        while frame is not None:
            found += list(frame.f_locals.values())
            frame = frame.f_back  # type: ignore[assignment]
    # arrays and bytes are not tracked by themselves, only by who holds them (closures, too)
    return found + gc.get_referents(*found)


def memory_here(least: int) -> set[bytes]:
    """Return the content of every tensor, array and byte string of ``least`` bytes or more."""
    contents: set[bytes] = set()
    seen: set[int] = set()
    for thing in everything_here():
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        # by type(): isinstance would wake lazy modules and proxies
        if issubclass(type(thing), torch.Tensor):
            if thing.device.type == "cpu" and thing.layout == torch.strided:
                thing = thing.detach().contiguous().numpy()
            else:
                continue
        if type(thing) is np.ndarray and thing.dtype.kind == "f":
            thing = np.ascontiguousarray(thing).tobytes()
        if type(thing) in (bytes, bytearray) and least <= len(thing) < 2**24:
            contents.add(bytes(thing))
    return contents


def open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return []
    links = []
    for name in os.listdir(folder):
        try:
            links.append(os.readlink(folder / name))
        except OSError:
            continue
    return links


def weights(request: SealedRequest) -> list[bytes]:
    """Read the source model's large tensors from the cache (after the search)."""
    (path,) = request.data.cache_dir.glob("sources/*/model.pt")
    saved = torch.load(path, weights_only=True)["state_dict"]
    found = [v.numpy().tobytes() for v in saved.values() if v.numel() >= 256]
    assert len(found) >= 3
    return found


def holds(contents: set[bytes], needles: list[bytes]) -> bool:
    return any(needle in content for needle in needles for content in contents)


# first, while nothing in this process has ever read these weights
def test_the_seal(
    sealed: Sealed, request_: SealedRequest, images: torch.Tensor, plan: Plan
) -> None:
    oracle = OracleClient(sealed, plan.task, Cost(), None, None)
    oracle.ask(images)
    contents, files = memory_here(1024), open_files()
    needles = weights(request_)
    assert not holds(contents, needles)
    assert not any(name.endswith("model.pt") for name in files)


def test_the_search_finds_what_is_here(request_: SealedRequest, plan: Plan) -> None:
    model = loading.load_or_train(
        request_.recipe, plan, SEED, request_.data.cache_dir, "cpu", False
    )
    task = plan.task
    answerer = InProcess(model, task.classes, 32, request_.form, "cpu")
    del model
    oracle = OracleClient(answerer, task, Cost(), None, None)
    assert holds(memory_here(1024), weights(request_))
    oracle.close()


def test_same_bits_as_in_process(
    sealed: Sealed, request_: SealedRequest, images: torch.Tensor, plan: Plan
) -> None:
    model = loading.load_or_train(
        request_.recipe, plan, SEED, request_.data.cache_dir, "cpu", False
    )
    here = InProcess(model, plan.task.classes, 32, request_.form, "cpu")
    assert dataclasses.asdict(here.info) == dataclasses.asdict(sealed.info)
    assert sealed.info.train_seconds > 0
    answers = OracleClient(sealed, plan.task, Cost(), None, None).ask(images)
    assert torch.equal(answers, OracleClient(here, plan.task, Cost(), None, None).ask(images))
    assert answers.argmax(dim=1).unique().numel() > 5
    # and those of the network itself, up to the kernels that another batch size chooses
    with torch.no_grad():
        direct = model.network(images).softmax(dim=1)
    torch.testing.assert_close(answers, direct)


def test_signals_and_wrong_questions_do_not_end_it(sealed: Sealed) -> None:
    assert sealed.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, for the parent
        os.kill(sealed.pid, number)
    with pytest.raises(OracleError, match=r"pictures of \[1, 8, 8, 3\]"):
        sealed.answer(np.zeros((1, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(OracleError, match=r"expected \(1\.\.64"):
        sealed.answer(np.zeros((65, 32, 32, 3), dtype=np.uint8))
    assert sealed.answer(np.zeros((2, 32, 32, 3), dtype=np.uint8)).shape == (2, 10)


@pytest.mark.slow
def test_a_killed_child_is_started_again(sealed: Sealed, images: torch.Tensor, plan: Plan) -> None:
    pid, info = sealed.pid, sealed.info
    before = OracleClient(sealed, plan.task, Cost(), None, None).ask(images)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    oracle = OracleClient(sealed, plan.task, Cost(), None, None, pause=0)
    assert torch.equal(oracle.ask(images), before)
    assert sealed.pid not in (None, pid)
    assert sealed.info == info
    with pytest.raises(ProcessLookupError):  # collected: no zombie
        os.kill(pid, 0)


@pytest.mark.slow
def test_an_error_of_the_child_is_an_error_here(request_: SealedRequest) -> None:
    missing = dataclasses.replace(
        request_,
        dataset="office31",
        data=DataRequest("amazon", "webcam", 32, Path("/nowhere/at/all"), request_.data.cache_dir),
    )
    with pytest.raises(DataError, match="/nowhere/at/all"):
        Sealed(missing)


def test_other_errors_become_oracle_errors() -> None:
    assert isinstance(_revived("CacheError", "x"), CacheError)
    assert isinstance(_revived("Path", "x"), OracleError)
    found = _revived("ZeroDivisionError", "division by zero")
    assert str(found) == "in the process of the source model: ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_a_child_that_is_late_is_killed(
    request_: SealedRequest, sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = multiprocessing.active_children()
    with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
        Sealed(request_, start_timeout=0.2)
    assert multiprocessing.active_children() == children
    assert sealed.pid is not None
    os.kill(sealed.pid, signal.SIGSTOP)
    monkeypatch.setattr("dabench.oracle.sealed.ANSWER_TIMEOUT", 0.2)
    with pytest.raises(Unreachable, match="did not answer"):
        # more than fits into the pipe, so that sending alone would wait for ever
        sealed.answer(np.zeros((3000, 32, 32, 3), dtype=np.uint8))
    assert sealed.pid is None
    with pytest.raises(Unreachable, match="not running"):
        sealed.answer(np.zeros((1, 32, 32, 3), dtype=np.uint8))


# last: it ends the child that the tests before share
@pytest.mark.slow
def test_closing_leaves_nothing_behind(sealed: Sealed) -> None:
    sealed.close()
    sealed.close()
    assert multiprocessing.active_children() == []


def test_pictures_survive_the_way_to_floats_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    back = to_float(levels).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert (back == levels).all()


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from dabench.cli.main import main\n"
        "main('run --method source --protocol bb-uda --source-epochs 1 --threads 1 --no-progress'\n"
        f"     ' --results {tmp_path}/r --cache-dir {tmp_path}/c'.split())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert "__main__" in done.stderr
    assert "this is a bug" not in done.stderr
