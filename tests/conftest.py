"""Fixtures for every layer: one torch thread, private folders, tiny data, a checker of leaks."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.access import Budget, Recorder
from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.contract.method import OfflineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import Outcome, Plan, Remote, Run
from dabench.networks.network import build_classifier
from dabench.oracle.answer_forms import AnswerForm
from dabench.oracle.client import OracleClient
from dabench.oracle.in_process import InProcess
from dabench.source_models import classifier, loading

EPOCHS = 2
PER_CLASS = 20


def pytest_configure(config: pytest.Config) -> None:
    """Two busy thread pools on two cores make small operations very slow."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches of tests away from the user's."""
    monkeypatch.setenv("DABENCH_CACHE", str(tmp_path / "private-cache"))
    monkeypatch.delenv("DABENCH_DATA", raising=False)
    torch.set_num_threads(1)


@pytest.fixture
def obeys_modes() -> Iterator[None]:
    """Let the root user, too, be stopped by a folder's mode (for the thread that runs the test)."""
    if getattr(os, "geteuid", lambda: 0)() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("this user may write anywhere")
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()  # (effective, permitted, inheritable), low and high words
    assert libc.capget(header, before) == 0
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~0b1110  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take every right to write from a folder and all in it."""
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def frozen(obeys_modes: None) -> Callable[[Path], AbstractContextManager[None]]:
    """Return a context in which nobody writes to a folder."""
    return read_only


def thin(data: Labelled, per_class: int) -> Labelled:
    """Keep the first images of every class, in their order."""
    rows = [np.flatnonzero(data.labels == c)[:per_class] for c in np.unique(data.labels)]
    kept = np.sort(np.concatenate(rows))
    return Labelled(data.images[kept], data.labels[kept], f"{data.digest}-{per_class}")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DomainData:
    """Real digits, a few images a class."""
    request = DataRequest("print", "handwritten", 32, None, tmp_path_factory.mktemp("images"))
    data: DomainData = registry.dataset("digits")().load(request)
    return dataclasses.replace(
        data,
        source_train=thin(data.source_train, 2 * PER_CLASS),
        source_val=None,
        target_all=thin(data.target_all, PER_CLASS),
    )


@dataclasses.dataclass(frozen=True)
class Bench:
    """A protocol with its plan of the tiny data and a source model."""

    protocol: Any
    plan: Plan
    network: Network
    remote: Remote

    def run(self, build: Callable[[], OfflineMethod], plan: Plan | None = None) -> Outcome:
        """Run a method under the protocol."""
        run = Run("source", Budget(EPOCHS, 32), 0, "cpu", Recorder(), False)
        start = self.remote if self.protocol.black_box else self.network
        outcome: Outcome = self.protocol.run(build, plan or self.plan, start, run)
        return outcome

    def sees_labels(self, build: Callable[[], OfflineMethod]) -> bool:
        """Permute the truth after everything is frozen; say whether any prediction moved."""
        rng = np.random.default_rng(0)
        truth = {name: rng.permutation(values) for name, values in self.plan.truth.items()}
        assert any((truth[name] != self.plan.truth[name]).any() for name in truth)
        honest = self.run(build)
        blinded = self.run(build, dataclasses.replace(self.plan, truth=truth))
        return predictions(honest) != predictions(blinded)


def predictions(outcome: Outcome) -> dict[str, bytes]:
    """Return everything that a method answered, byte by byte (not the truth)."""
    return {
        name: np.ascontiguousarray(values).tobytes()
        for name, values in outcome.arrays.items()
        if not name.endswith(".truth")
    }


@pytest.fixture(scope="session")
def answers() -> Callable[[Outcome], dict[str, bytes]]:
    """Hand :func:`predictions` to test files."""
    return predictions


def remote(
    model: loading.SourceModel, plan: Plan, answerer_class: type[InProcess], form: AnswerForm
) -> Remote:
    """Put a source model behind an oracle in this process, with fresh target networks."""
    task = plan.task
    answerer = answerer_class(model, task.classes, task.image_size, form, "cpu")

    def network(seed: int) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build_classifier("small-cnn", "none", task.num_classes)

    return Remote(lambda cost: OracleClient(answerer, task, cost, None, None), network)


@pytest.fixture(scope="session")
def make_bench(tiny: DomainData, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bench]:
    """Return a maker of benches; source models are trained once a class list."""
    cache = tmp_path_factory.mktemp("sources")

    def make(
        protocol: Any,
        answerer: type[InProcess] = InProcess,
        form: AnswerForm = AnswerForm("soft"),  # noqa: B008
    ) -> Bench:
        plan = protocol.plan(tiny, 32, 0)
        recipe = classifier.Recipe("small-cnn", "none", 2)
        model = loading.load_or_train(recipe, plan, 0, cache, "cpu", False)
        return Bench(protocol, plan, model.network, remote(model, plan, answerer, form))

    return make


@pytest.fixture(scope="session")
def bench(make_bench: Callable[..., Bench]) -> Callable[[str], Bench]:
    """Return the bench of a registered protocol, by name."""
    made: dict[str, Bench] = {}

    def get(name: str) -> Bench:
        if name not in made:
            made[name] = make_bench(registry.protocol(name)())
        return made[name]

    return get


@pytest.fixture(scope="session")
def dense() -> ModuleType:
    """Return ``tests/dense_stream.py``: made-up frames, networks and methods of segmentation."""
    path = Path(__file__).with_name("dense_stream.py")
    spec = importlib.util.spec_from_file_location("dense_stream", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
