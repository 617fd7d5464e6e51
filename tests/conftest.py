"""Fixtures for every layer: one torch thread, private folders, tiny data, a checker of leaks."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from dabench import registry
from dabench.contract.data import DataRequest, DomainData
from dabench.contract.protocol import Outcome
from dabench.networks.network import ClassifierNetwork
from dabench.testing import Bench, Case, Workbench
from dabench.testing.case import answers_of

#: constructor arguments that keep a test short
SHORT: dict[str, dict[str, Any]] = {
    **{name: {"views": 2} for name in ("cotta", "dua")},
    "memo": {"views": 1},
    **{name: {"per_class": 2} for name in ("conda", "ucl-gv", "aerial")},
    "adacontrast-online": {"queue": 64, "warm_up": 40},
    "note": {"memory": 16, "every": 30},
    "lead": {"target_clusters": "source"},
    "shot++": {"head_epochs": 1},
    "c-sfda": {"views": 2},
    "rrda": {"steps": 5, "head_epochs": 2},
}
#: methods that serve vision transformers of timm alone
TRANSFORMERS = ("rem",)
#: they adapt anew to every image, at a price: few images say as much of them as many
EPISODIC = frozenset({"memo"})


def pytest_configure(config: pytest.Config) -> None:
    """Two busy thread pools on two cores make small operations very slow."""
    torch.set_num_threads(1)
    # a shell without job control starts background jobs, and so all their tests, deaf to Ctrl-C
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder in which the printed digits lie drawn; all worker processes share it.

    Drawing takes seconds: who needs a cache of its own copies this one.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "drawn"
    registry.dataset("digits")().load(DataRequest("print", "handwritten", 32, None, folder))
    return folder


@pytest.fixture(scope="session")
def workbench(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Return the kit's benches; source models are trained once a class list."""
    cache = tmp_path_factory.mktemp("workbench")
    shutil.copytree(drawn, cache, dirs_exist_ok=True)
    return Workbench(cache)


@pytest.fixture(scope="session")
def tiny(workbench: Workbench) -> DomainData:
    """Real digits, a few images a class."""
    return workbench.digits


@pytest.fixture(scope="session")
def answers() -> Callable[[Outcome], dict[str, bytes]]:
    """Return what lists everything that a method answered, byte by byte."""
    return answers_of


@pytest.fixture(scope="session")
def make_bench(workbench: Workbench) -> Callable[..., Bench]:
    """Return a maker of benches of any protocol."""
    return workbench.make


@pytest.fixture(scope="session")
def bench(workbench: Workbench) -> Callable[[str], Bench]:
    """Return the bench of a registered protocol, by name."""
    return workbench.bench


@pytest.fixture(scope="session")
def cases(workbench: Workbench) -> Callable[..., Case]:
    """Return the case of a registered method under a protocol; its first run is made once.

    ``brief``: on the brief form of a stream, where every promise is tried fast.
    """
    made: dict[tuple[str, str, bool], Case] = {}

    def get(name: str, protocol: str, *, brief: bool = False) -> Case:
        key = (name, protocol, brief)
        if key not in made:
            build = functools.partial(registry.method(name), **SHORT.get(name, {}))
            bench = workbench.bench(protocol)
            if name in TRANSFORMERS:
                vit = transformer(bench.plan.task)
                bench = dataclasses.replace(bench, network=vit, start=vit)
            if name in EPISODIC:
                bench = brief_form(bench, 3, 2)
            elif brief:
                bench = brief_form(bench, max(2, bench.batch_size), size=bench.batch_size // 2)
            made[key] = Case(bench, build)
        return made[key]

    return get


def transformer(task: Any) -> ClassifierNetwork:
    """Return a vision transformer of timm, 16 patches and four blocks, as it is drawn."""
    from timm.models.vision_transformer import VisionTransformer  # a second of imports

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(
            img_size=task.image_size,
            patch_size=task.image_size // 4,
            embed_dim=16,
            depth=4,
            num_heads=2,
            num_classes=0,
        )
        k = task.num_classes
        return ClassifierNetwork(vit, 16, k, bottleneck=0, weight_norm=False).eval()


def brief_form(bench: Bench, images: int, held_out: int = 8, size: int | None = None) -> Bench:
    """Return a bench whose stream has so many images of its first and of its last two segments.

    They come in batches of ``size``, or as they did.

    Held-out images are asked for after every segment, under every condition after the last.
    """
    stream = bench.plan.stream
    kept = (stream.segments[0], *stream.segments[-2:])
    parts = tuple((segment, rows[:images]) for segment, rows in kept)
    size = size or stream.batch_size
    brief = dataclasses.replace(stream, segments=parts, batch_size=size)
    plan = dataclasses.replace(bench.plan, stream=brief)
    if hasattr(plan, "held_out"):  # frames have none
        plan = dataclasses.replace(plan, held_out=plan.held_out[:held_out])
    return dataclasses.replace(bench, plan=plan, batch_size=size)


@pytest.fixture(scope="session")
def dense() -> ModuleType:
    """Return ``tests/dense_stream.py``: made-up frames, networks and methods of segmentation."""
    return importlib.import_module("dense_stream")
