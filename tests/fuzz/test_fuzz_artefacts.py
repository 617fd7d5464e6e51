"""Damaged caches, weights, checkpoints, predictions and folders: rebuilt or named, never used."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dabench.engine import stream

pytestmark = pytest.mark.slow

SOURCE = ("--method", "source", "--protocol", "sf-uda")
ASKING = ("--method", "source", "--protocol", "bb-uda", "--protocol.oracle", "in-process")
TENT = ("--method", "tent", "--protocol", "online-tta", "--batch-size", "8")
TENT += ("--checkpoint-every", "2")


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_byte_less(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def one_byte_more(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def blank_middle(path: Path) -> None:
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + bytes(third) + content[2 * third :])


def other_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    rng = random.Random(len(content))
    for _ in range(20):
        content[rng.randrange(len(content) // 2, len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def text(path: Path) -> None:
    path.write_text("<html>not found</html>\n" * 20)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(path.parent / "exploded")))


def circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def gone(path: Path) -> None:
    path.unlink()


DAMAGE: tuple[Callable[[Path], None], ...] = (
    *(empty, half, one_byte_less, one_byte_more, blank_middle, other_bits),
    *(text, zeros, folder, bomb, circle, gone),
)


def scores(place: Any, protocol: str) -> list[Any]:
    """Return the scores of the one finished run under a protocol."""
    (path,) = (place.results / "records" / protocol).glob("*/*.json")
    found: list[Any] = json.loads(path.read_text())["scores"]
    return found


def run_once(words: tuple[str, ...], workplace: Callable[..., Any], at: Path) -> Callable[[], Any]:
    """Return a maker of workplaces where a run has been made, once."""

    def get() -> Any:
        if not at.exists():
            made = workplace()
            assert made.run(*words).code == 0
            shutil.copytree(made.root, at, symlinks=True)
        return workplace(at)

    return get


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of workplaces that are made once."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_a_damaged_cache_never_changes_a_score(
    damage: Callable[[Path], None], workplace: Callable[..., Any], kept: Path
) -> None:
    place = run_once(SOURCE, workplace, kept / "source")()
    right = scores(place, "sf-uda")
    files = [f.relative_to(place.root) for f in sorted(place.cache.rglob("*")) if f.is_file()]
    assert {f.name for f in files} >= {"images.npy", "labels.npy", "meta.json", "model.pt"}
    for name in files:
        here = run_once(SOURCE, workplace, kept / "source")()
        damage(here.root / name)
        answer = here.run(*SOURCE, "--force")
        if answer.code == 0:
            assert scores(here, "sf-uda") == right, name
        else:  # a fault that dabench must not mend by itself
            assert name.name in answer.err, answer.err
        assert not list(here.cache.rglob("exploded"))


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_damaged_answers_never_change_a_score(
    damage: Callable[[Path], None], workplace: Callable[..., Any], kept: Path
) -> None:
    place = run_once(ASKING, workplace, kept / "asking")()
    right = scores(place, "bb-uda")
    (answers,) = place.cache.glob("answers/*.sqlite3")
    damage(answers)
    answer = place.run(*ASKING, "--force")
    if answer.code == 0:
        assert scores(place, "bb-uda") == right
    else:
        assert answers.name in answer.err, answer.err


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_damaged_predictions_are_named(
    damage: Callable[[Path], None], workplace: Callable[..., Any], kept: Path
) -> None:
    place = run_once(SOURCE, workplace, kept / "source")()
    (arrays,) = place.results.glob("records/*/*/*.npz")
    damage(arrays)
    report, at = place.root / "report.html", ("--results", str(place.results))
    for command in (
        ("leaderboard", "--bootstrap", *at),
        ("report", arrays.stem, "--html", str(report), *at),
        ("leaderboard", "--html", str(place.root / "page"), *at),
        ("show", arrays.stem, *at),
    ):
        answer = place.call(*command)
        said = answer.out + answer.err
        if command[0] == "report" and report.exists():
            said += report.read_text(encoding="utf-8")
        if command[0] != "leaderboard":  # one row alone: its table reads no predictions
            assert arrays.name in said, (command[:2], said)
    assert not list(place.results.rglob("exploded"))


WEIGHTS: dict[str, Callable[[], Any]] = {
    "nothing in it": dict,
    "a list": lambda: [torch.zeros(3)],
    "a number": lambda: 3,
    "a tensor": lambda: torch.zeros(3),
    "none": lambda: None,
    "words": lambda: {"state_dict": "see the other file"},
    "numbers for names": lambda: {1: torch.zeros(3), 2: torch.zeros(4)},
    "another network": lambda: torch.nn.Linear(3, 4).state_dict(),
    "wrappers all the way": lambda: {"model": {"model": {"model": {}}}},
    "a tensor of names": lambda: {"conv1.weight": ["a", "b"]},
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_bad_weights_are_named(what: str, workplace: Callable[..., Any]) -> None:
    place = workplace()
    path = place.root / "w.pth"
    torch.save(WEIGHTS[what](), path)
    answer = place.run(*SOURCE, "--backbone", "resnet18", "--weights", str(path))
    assert answer.code != 0
    assert "w.pth" in answer.err


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_a_damaged_weight_file_is_named(
    damage: Callable[[Path], None], workplace: Callable[..., Any]
) -> None:
    place = workplace()
    path = place.root / "w.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    damage(path)
    answer = place.run(*SOURCE, "--backbone", "resnet18", "--weights", str(path))
    assert answer.code != 0
    assert "w.pth" in answer.err
    assert not (place.root / "exploded").exists()


@pytest.fixture
def stopped(
    workplace: Callable[..., Any], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Any]:
    """A maker of workplaces where a stream was stopped between two checkpoints."""
    at = kept / "stopped"

    def get() -> Any:
        if not at.exists():
            made, steps = workplace(), 0
            logits = stream.check_logits

            def failing(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == 8:
                    raise KeyboardInterrupt
                return logits(*args, **kwargs)

            monkeypatch.setattr(stream, "check_logits", failing)
            with contextlib.suppress(KeyboardInterrupt, AssertionError):
                made.run(*TENT)
            assert steps == 8, "it ended before the interruption"
            monkeypatch.undo()
            shutil.copytree(made.root, at, symlinks=True)
        return workplace(at)

    return get


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_a_damaged_checkpoint_never_changes_a_score(
    damage: Callable[[Path], None],
    stopped: Callable[[], Any],
    workplace: Callable[..., Any],
    kept: Path,
) -> None:
    right = scores(run_once(TENT, workplace, kept / "tent")(), "online-tta")
    place = stopped()
    names = [p.relative_to(place.root) for p in sorted(place.results.rglob("checkpoint*"))]
    names = [n for n in names if (place.root / n).is_file()]
    assert names
    for name in names:
        here = stopped()
        damage(here.root / name)
        answer = here.run(*TENT, "--resume")
        if answer.code == 0:
            assert scores(here, "online-tta") == right
        else:
            assert name.name in answer.err, answer.err
        assert not list(here.results.rglob("exploded"))


def _no_domain(data: Path) -> None:
    shutil.rmtree(data / "b")


def _file_for_domain(data: Path) -> None:
    shutil.rmtree(data / "b")
    (data / "b").touch()


def _no_class(data: Path) -> None:
    shutil.rmtree(data / "b" / "class-1")


def _more_classes(data: Path) -> None:
    shutil.copytree(data / "b" / "class-1", data / "b" / "class-9")


def _empty_class(data: Path) -> None:
    for file in (data / "a" / "class-1").iterdir():
        file.unlink()


def _all_empty(data: Path) -> None:
    for file in data.rglob("*.png"):
        file.unlink()


def _one_class(data: Path) -> None:
    for domain in "ab":
        for c in (1, 2):
            shutil.rmtree(data / domain / f"class-{c}")


def _empty_images(data: Path) -> None:
    for file in (data / "b").rglob("*.png"):
        file.write_bytes(b"")


def _text_images(data: Path) -> None:
    (data / "b" / "class-0" / "003.png").write_text("hello")


def _half_image(data: Path) -> None:
    half(data / "b" / "class-0" / "003.png")


def _circle_of_links(data: Path) -> None:
    (data / "b" / "class-0" / "again").symlink_to(data / "b")


def _dead_link(data: Path) -> None:
    (data / "b" / "class-0" / "999.png").symlink_to(data / "nowhere.png")


def _image_is_folder(data: Path) -> None:
    (data / "b" / "class-0" / "999.png").mkdir()


def _image_is_pipe(data: Path) -> None:
    os.mkfifo(data / "b" / "class-0" / "999.png")


def _one_image_each(data: Path) -> None:
    for file in data.rglob("*.png"):
        if file.name != "000.png":
            file.unlink()


def _long_thin(data: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((1, 4000, 3), np.uint8)).save(data / "b" / "class-0" / "000.png")


FOLDERS: dict[str, Callable[[Path], None]] = {
    change.__name__.strip("_"): change
    for change in (
        *(_no_domain, _file_for_domain, _no_class, _more_classes, _empty_class, _all_empty),
        *(_one_class, _empty_images, _text_images, _half_image, _circle_of_links, _dead_link),
        *(_image_is_folder, _image_is_pipe, _one_image_each, _long_thin),
    )
}


#: what the check of a folder names where pictures cannot be decoded
UNREADABLE = {"empty_images": "000.png", "text_images": "003.png", "half_image": "003.png"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("protocol", ["sf-uda", "sf-osda", "online-tta"])
@pytest.mark.parametrize("change", FOLDERS)
def test_strange_folders_are_named_or_right(
    change: str, protocol: str, workplace: Callable[..., Any]
) -> None:
    place = workplace()
    FOLDERS[change](place.root / "data")
    checked = place.call("data", "check", "image-folder", "--data-root", str(place.root / "data"))
    if change in UNREADABLE:
        assert UNREADABLE[change] in checked.out + checked.err, (checked.out, checked.err)
    answer = place.run("--method", "source", "--protocol", protocol, "--batch-size", "8")
    if answer.code:
        assert answer.err.count("error: ") == 1, answer.err
