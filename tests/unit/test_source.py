"""Source models: trained once, cached by what they depend on, never trusted blindly."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dabench import registry
from dabench.contract.data import DomainData
from dabench.contract.protocol import Plan
from dabench.errors import CacheError, TrainingError
from dabench.source_models import artefacts, classifier, loading

RECIPE = classifier.Recipe("small-cnn", "none", 1)


@pytest.fixture(scope="module")
def plan(tiny: DomainData) -> Plan:
    made: Plan = registry.protocol("sf-osda")().plan(tiny, 32, 0)
    return made


@pytest.fixture(scope="module")
def cached(
    plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, loading.SourceModel]:
    cache = tmp_path_factory.mktemp("cache")
    return cache, loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)


def test_a_second_call_does_not_train(
    cached: tuple[Path, loading.SourceModel], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained again")

    cache, first = cached
    monkeypatch.setattr(loading, "_train", never)
    again = loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)
    assert again.id == first.id
    assert again.val_accuracy == first.val_accuracy
    assert not again.network.training
    state = first.network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in again.network.state_dict().items())


def test_training_repeats_in_another_cache(
    cached: tuple[Path, loading.SourceModel], plan: Plan, tmp_path: Path
) -> None:
    torch.manual_seed(77)
    assert loading.load_or_train(RECIPE, plan, 0, tmp_path, "cpu", False).id == cached[1].id


def test_what_the_id_depends_on(
    cached: tuple[Path, loading.SourceModel], plan: Plan, tiny: DomainData
) -> None:
    cache, first = cached
    other_seed = loading.load_or_train(RECIPE, plan, 1, cache, "cpu", False)
    other_recipe = loading.load_or_train(
        dataclasses.replace(RECIPE, lr=0.02), plan, 0, cache, "cpu", False
    )
    r3 = registry.protocol("sf-osda")(split="r3").plan(tiny, 32, 0)
    other_classes = loading.load_or_train(RECIPE, r3, 0, cache, "cpu", False)
    ids = {first.id, other_seed.id, other_recipe.id, other_classes.id}
    assert len(ids) == 4
    assert len(list(cache.glob("sources/*/model.pt"))) == 4


def test_the_target_does_not_matter(
    cached: tuple[Path, loading.SourceModel], tiny: DomainData
) -> None:
    target = dataclasses.replace(tiny.target_all, images=255 - tiny.target_all.images, digest="x")
    plan = registry.protocol("sf-osda")().plan(dataclasses.replace(tiny, target_all=target), 32, 0)
    assert loading.load_or_train(RECIPE, plan, 0, cached[0], "cpu", False).id == cached[1].id


def saved_file(cache: Path, plan: Plan, tmp_path: Path) -> tuple[Path, Path]:
    """Copy a cached model into a cache of its own."""
    (found,) = cache.glob(f"sources/{loading._key(RECIPE, plan, 0)}/model.pt")
    path = tmp_path / found.relative_to(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(found.read_bytes())
    return tmp_path, path


class Evil:
    """Something that a pickle could run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('pickle was executed')",))


def edit(path: Path, **changes: Any) -> None:
    """Change what a file holds as somebody would who knows its format."""
    torch.save(torch.load(path, weights_only=True) | changes, path)


def spoil(path: Path, damage: str) -> None:
    """Harm a cached model."""
    saved = torch.load(path, weights_only=True)
    state = saved["state_dict"]
    first = next(iter(state))
    content = bytearray(path.read_bytes())
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[:1000])
    elif damage == "noise":
        path.write_bytes(b"noise" * 100)
    elif damage == "one bit":
        content[content.find(state[first].numpy().tobytes()) + 3] ^= 1
        path.write_bytes(content)
    elif damage == "other recipe":
        edit(path, key="another")
    elif damage == "other shapes":
        edit(path, state_dict={"backbone.x": torch.zeros(1)}, checksum=None)
    elif damage == "no state":
        torch.save([1, 2], path)
    elif damage == "weights":
        edit(path, state_dict=state | {first: state[first] * 0.5})
    elif damage == "accuracy":
        edit(path, val_accuracy=0.99)
    elif damage == "nan":
        changed = saved | {"state_dict": state | {first: state[first] * float("nan")}}
        del changed["checksum"]  # as in files of older versions
        torch.save(changed, path)
    else:  # weights_only=True refuses to run anything
        edit(path, more=Evil())


DAMAGES = [
    *("empty", "cut", "noise", "one bit", "other recipe", "other shapes", "no state"),
    *("weights", "accuracy", "nan", "pickle"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_named_and_made_again(
    cached: tuple[Path, loading.SourceModel],
    plan: Plan,
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, path = saved_file(cached[0], plan, tmp_path)
    spoil(path, damage)
    harmed = path.read_bytes()
    with caplog.at_level(logging.WARNING, "dabench"):
        again = loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"cached source model {path} cannot be used (")
    assert said.endswith("it is set aside and made again")
    assert "\n" not in said
    assert (again.id, again.val_accuracy) == (cached[1].id, cached[1].val_accuracy)
    assert path.with_name("model.pt.damaged").read_bytes() == harmed
    caplog.clear()
    assert loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False).id == again.id
    assert caplog.records == []


def test_a_file_without_checksum_is_read(
    cached: tuple[Path, loading.SourceModel], plan: Plan, tmp_path: Path
) -> None:
    cache, path = saved_file(cached[0], plan, tmp_path)
    saved = torch.load(path, weights_only=True)
    del saved["checksum"]  # as older versions wrote it
    torch.save(saved, path)
    before = path.read_bytes()
    assert loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False).id == cached[1].id
    assert path.read_bytes() == before


def test_what_cannot_be_made_whole_is_refused(
    cached: tuple[Path, loading.SourceModel],
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, path = saved_file(cached[0], plan, tmp_path)
    path.write_bytes(b"")
    monkeypatch.setattr(artefacts, "_set_aside", lambda what, path: None)
    with pytest.raises(CacheError, match=rf"{re.escape(str(path))}.*empty.*delete the file") as e:
        loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)
    assert "\n" not in str(e.value)


def test_what_a_killed_process_left_goes(
    cached: tuple[Path, loading.SourceModel], plan: Plan, tmp_path: Path
) -> None:
    cache, path = saved_file(cached[0], plan, tmp_path)
    dead, alive = (path.with_name(f".model.pt.{name}") for name in ("dead", "alive"))
    dead.touch()
    alive.touch()
    old = time.time() - 2 * artefacts.STALE
    os.utime(dead, (old, old))
    loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)
    assert not dead.exists()
    assert alive.exists()


def test_a_cache_that_can_only_be_read(
    cached: tuple[Path, loading.SourceModel],
    plan: Plan,
    tmp_path: Path,
    frozen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, path = saved_file(cached[0], plan, tmp_path)

    def never(*args: Any) -> None:
        raise AssertionError("trained, and nobody can keep it")

    monkeypatch.setattr(loading, "_train", never)
    with frozen(cache):
        assert loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False).id == cached[1].id
        with pytest.raises(CacheError, match=r"cannot be written.*Permission.*--cache"):
            loading.load_or_train(RECIPE, plan, 7, cache, "cpu", False)
    path.write_bytes(b"")
    with frozen(cache), pytest.raises(CacheError, match="damaged and cannot be replaced"):
        loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)
    path.chmod(0)
    try:
        with pytest.raises(CacheError, match=r"cannot be read \(Permission denied\)"):
            loading.load_or_train(RECIPE, plan, 0, cache, "cpu", False)
    finally:
        path.chmod(0o644)
    assert path.is_file()  # it may be whole: nothing is set aside


def test_nothing_half_written_is_left(cached: tuple[Path, loading.SourceModel]) -> None:
    files = [p.name for p in cached[0].rglob("*") if p.is_file()]
    assert set(files) == {"model.pt"}


def test_training_really_learns(plan: Plan, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=6)
    model = loading.load_or_train(recipe, plan, 0, tmp_path, "cpu", False)
    assert model.val_accuracy > 0.3  # six classes; a held-out tenth of the tiny set
    assert model.seconds > 0


def test_a_diverging_source_stops(plan: Plan, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, lr=1e30)
    with pytest.raises(TrainingError, match="source training"):
        loading.load_or_train(recipe, plan, 0, tmp_path, "cpu", False)
    assert not list(tmp_path.rglob("model.pt"))


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_cache_follows_the_umask(plan: Plan, tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        loading.load_or_train(RECIPE, plan, 0, tmp_path, "cpu", False)
    finally:
        os.umask(before)
    (path,) = tmp_path.rglob("model.pt")
    assert path.stat().st_mode & 0o777 == 0o664
