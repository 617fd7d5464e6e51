"""A user's own frames and masks: layouts, classes.yaml, one domain, several targets in turn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dabench.cli.main import main
from dabench.contract.data import DataRequest, DenseData
from dabench.contract.types import IGNORE
from dabench.datasets.frame_folders.joined import Joined
from dabench.datasets.frame_folders.own_classes import read_classes
from dabench.datasets.frame_folders.own_frames import OwnFrames
from dabench.errors import ConfigError, DataError
from dabench.protocols.online_seg import OnlineSegmentation

NUMBERS = "classes: {road: 0, car: [3, 4]}\nignore: 255\n"
COLOURS = "classes: {road: '#804080', car: ['#00008e', '#000046']}\nignore: '#000000'\n"
PIXELS = {0: (128, 64, 128), 3: (0, 0, 142), 4: (0, 0, 70), 255: (0, 0, 0)}
Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Return ``fill(domain, count, ...)``, which draws frames of 24 x 16 px, by grey."""

    def make(
        domain: str, count: int, colours: bool = False, grey: int = 0, nested: str = ""
    ) -> Path:
        root = tmp_path / "data"
        numbers = np.resize(np.array([0, 3, 4, 255], dtype=np.uint8), (16, 24))
        for i in range(count):
            name = Path(domain, "images", nested, f"{i:03d}.jpg")
            mask = Path(domain, "masks", nested, f"{i:03d}.png")
            for path in (name, mask):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 16), (grey + i,) * 3).save(root / name, quality=100)
            pixels = np.array([PIXELS[n] for n in numbers.ravel()], dtype=np.uint8)
            drawn = pixels.reshape(16, 24, 3) if colours else numbers
            Image.fromarray(drawn).save(root / mask)
        (root / "classes.yaml").write_text(COLOURS if colours else NUMBERS)
        return root

    return make


def load(root: Path, source: str, target: str) -> DenseData:
    return OwnFrames().load(DataRequest(source, target, 16, root, root.parent / "cache"))


def greys(images: Any) -> list[int]:
    return [int(p[0, 0, 0]) for p in images[np.arange(len(images))]]


@pytest.mark.parametrize("colours", [False, True])
def test_numbers_and_colours_say_the_same(fill: Fill, colours: bool) -> None:
    fill("day", 20, colours)
    root = fill("night", 4, colours, grey=100)
    data = load(root, "day", "night")
    assert data.classes == ("road", "car")
    assert (data.image_size, data.width) == (16, 24)
    assert [len(part.images) for part in (data.source_train, data.source_val)] == [18, 2]
    assert greys(data.target_all.images) == [100, 101, 102, 103]
    mask = data.target_all.masks[np.array([0])][0]
    assert np.array_equal(mask[0, :4], [0, 1, 1, IGNORE])


def test_colours_that_change_places_are_read_anew(fill: Fill) -> None:
    root = fill("day", 20, True)
    fill("night", 4, True)
    before = load(root, "day", "night").target_all
    swapped = COLOURS.replace("'#804080'", "X").replace("['#00008e', '#000046']", "'#804080'")
    (root / "classes.yaml").write_text(swapped.replace("X", "['#00008e', '#000046']"))
    after = load(root, "day", "night").target_all
    assert np.array_equal(after.masks[np.array([0])][0][0, :4], [1, 0, 0, IGNORE])
    assert after.digest != before.digest


def test_a_number_that_is_no_longer_ignored_is_refused(fill: Fill) -> None:
    root = fill("day", 20)
    fill("night", 4)
    load(root, "day", "night")
    (root / "classes.yaml").write_text(NUMBERS.partition("ignore")[0])
    with pytest.raises(DataError, match="outside the map: 255"):
        load(root, "day", "night")


def test_one_domain_is_cut_in_pieces(fill: Fill) -> None:
    root = fill("day", 20, nested="drive")
    data = load(root, "day", "day")
    assert greys(data.source_train.images) == [*range(12)]
    assert greys(data.source_val.images) == [12, 13]
    assert greys(data.target_all.images) == [*range(14, 20)]


def test_several_targets_come_in_turn(fill: Fill) -> None:
    for domain, count, grey in (("day", 20, 0), ("fog", 3, 50), ("night", 2, 100)):
        root = fill(domain, count, grey=grey)
    data = load(root, "day", "night, fog")
    assert (data.target, data.target_parts) == ("night,fog", (("night", 2), ("fog", 3)))
    assert greys(data.target_all.images) == [100, 101, 50, 51, 52]
    assert data.digest != load(root, "day", "fog,night").digest
    changes = ({"width": 16}, {"image_size": 8}, {"target_parts": (("night", 3), ("fog", 2))})
    digests = {dataclasses.replace(data, **change).digest for change in changes}
    assert len(digests - {data.digest}) == len(changes)
    clear = OnlineSegmentation(conditions="clear").plan(data, 1, 0).stream.segments
    assert [(s.name, sorted(rows)) for s, rows in clear] == [("night", [0, 1]), ("fog", [2, 3, 4])]
    cycle = OnlineSegmentation(conditions="clear", schedule="cycle", rounds=2)
    names = [s.name for s, _ in cycle.plan(data, 1, 0).stream.segments]
    assert names == ["night@1", "fog@1", "night@2", "fog@2"]
    with pytest.raises(ConfigError, match="several domains are conditions themselves"):
        OnlineSegmentation().plan(data, 1, 0)
    with pytest.raises(ConfigError, match="name every domain once"):
        load(root, "day", "fog,fog")


def test_joined_arrays_answer_any_order() -> None:
    parts = [np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2) + k for n, k in ((3, 0), (2, 100))]
    joined, whole = Joined(parts), np.concatenate(parts)
    for index in ([4, 0, 3, 2], [1], []):
        rows = np.array(index, dtype=np.int64)
        assert np.array_equal(joined[rows], whole[rows])
    assert len(joined) == 5


def test_a_run_scores_every_target(fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    for domain, count in (("day", 20), ("fog", 3), ("night", 2)):
        root = fill(domain, count)
    words = ["run", "--method", "bn-adapt", "--protocol", "online-seg", "--dataset", "frame-folder"]
    words += ["--data-root", str(root), "--source", "day", "--target", "fog,night", "--json"]
    words += ["--protocol.conditions", "clear", "--image-size", "32", "--source-epochs", "1"]
    words += ["--results", str(root.parent / "r"), "--cache-dir", str(root.parent / "c")]
    assert main([*words, "--device", "cpu", "--threads", "1", "--no-progress"]) == 0
    record = json.loads(Path(json.loads(capsys.readouterr().out)["record"]).read_text())
    assert record["spec"]["target"] == "fog,night"
    found = {row["segment"] for row in record["scores"] if row["metric"] == "mIoU"}
    assert {"fog", "night", "mean-conditions"} <= found


def test_names_of_classes_are_what_is_written(tmp_path: Path) -> None:
    """YAML 1.1 takes them for truth values and for nothing, and three classes for one."""
    place = tmp_path / "classes.yaml"
    place.write_text("classes: {no: 0, off: 1, null: 2, 3: 3}\nignore: [255]\n")
    assert read_classes(place)[0] == ("no", "off", "null", "3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {a: 0, b: 0}", "'0' stands for a and b"),
        ("classes: {a: 0, b: 1}\nignore: [1]", "'1' stands for b and ignore"),
        ("classes: {a: 0, b: '#010203'}", "numbers and colours are mixed"),
        ("classes: {a: 0}", "expected 2 to 254 classes"),
        ("classes: {a: 0, b: []}", "class 'b' has no number"),
        ("classes: {a: 0, b: 256}", "found '256'"),
        ("classes: {a: 0, b: '#12'}", "found '#12'"),
        ("classes: {a: 0, b: true}", "found 'true'"),
        ("classes: {a: 0, b: 010}", "found '010'"),
        ("classes: {a: 0, b: 1:30}", "found '1:30'"),
        ("classes: {a: 0, b: 1_0}", "found '1_0'"),
        ("classes: [a, b]", "expected 2 to 254 classes"),
        ("klasses: {a: 0, b: 1}", "expected 'classes:"),
        ("classes: {a: 0, b: 1}\ncolours: 3", "expected 'classes:"),
        ("classes: {a: [", "cannot be read"),
    ],
)
def test_bad_classes(tmp_path: Path, text: str, message: str) -> None:
    place = tmp_path / "classes.yaml"
    with pytest.raises(DataError, match="there is no file"):
        read_classes(place)
    place.write_text(text)
    with pytest.raises(DataError) as caught:
        read_classes(place)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_folders(fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no data root"):
        OwnFrames().load(DataRequest("a", "b", 16, None, tmp_path))
    root = fill("day", 12)
    with pytest.raises(ConfigError, match="--target 'dawn': no such domain; did you mean 'day'"):
        load(root, "day", "dawn")
    (root / "day/masks/003.png").unlink()
    with pytest.raises(DataError, match=r"1 of 12 images in .* have no mask"):
        load(root, "day", "day")


def test_colours_outside_the_map_are_named(fill: Fill) -> None:
    root = fill("day", 12, colours=True)
    Image.new("RGB", (24, 16), (1, 2, 3)).save(root / "day/masks/003.png")
    with pytest.raises(DataError, match="label values outside the map: #010203"):
        load(root, "day", "day")


def test_check(fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill("day", 12)
    words = ["data", "check", "frame-folder", "--data-root", str(root)]
    assert main(words) == 0
    assert "optional: one domain: --source day --target day" in capsys.readouterr().out
    fill("night", 3)
    numbers = Image.fromarray(np.full((16, 24), 7, dtype=np.uint8))
    numbers.save(root / "night/masks/001.png")
    Image.new("L", (8, 8), 0).save(root / "night/masks/002.png")
    assert main(words) == 2
    out = capsys.readouterr().out
    assert "label values outside the map: 7" in out
    assert "expected the same size" in out
    (root / "classes.yaml").unlink()
    assert main(words) == 2
    assert "there is no file" in capsys.readouterr().out
