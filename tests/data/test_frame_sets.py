"""Segmentation sets in folders: every layout on a small generated tree, roles, order, cache."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dabench import registry
from dabench.cli import main as cli
from dabench.contract.data import DataRequest, DenseData, Frames
from dabench.contract.types import IGNORE
from dabench.datasets.caching import cache_folder, frame_build, frame_cache
from dabench.datasets.frame_folders.frame_set import FrameFolder
from dabench.errors import CacheError, ConfigError, DataError
from dabench.protocols.online_seg import OnlineSegmentation

Array = npt.NDArray[Any]
# facts of the public sets, written down a second time
TRAIN_ID = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
TRAIN_ID |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
KEPT_13 = (0, 1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)
KEPT_16 = tuple(i for i in range(19) if i not in (9, 14, 16))
SYNTHIA_TRAIN_ID = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 10, 10: 11, 17: 12}
SYNTHIA_TRAIN_ID |= {8: 13, 19: 15, 12: 17, 11: 18}
CITY_FRAMES = {"train": ("aachen", "ulm"), "val": ("munster",)}
LOVEDA = ("background", "building", "road", "water", "barren", "forest", "agricultural")
UAVID = {
    "clutter": (0, 0, 0),
    "building": (128, 0, 0),
    "road": (128, 64, 128),
    "tree": (0, 128, 0),
    "vegetation": (128, 128, 0),
    "moving-car": (64, 0, 128),
    "static-car": (192, 0, 192),
    "human": (64, 64, 0),
}
HEIGHT = 16


def dataset(name: str) -> FrameFolder:
    found: FrameFolder = registry.dataset(name)()
    return found


def load(name: str, root: Path | None, size: int = HEIGHT, **domains: str) -> DenseData:
    of = {**dataset(name).defaults, **domains}
    cache = (root or Path("nowhere")).parent / "cache"
    return dataset(name).load(DataRequest(of["source"], of["target"], size, root, cache))


def strip(numbers: Sequence[int], width: int) -> Array:
    """Return a (HEIGHT, width) mask whose columns hold the numbers in turn."""
    row = np.resize(np.array(numbers, dtype=np.uint16), width)
    return np.tile(row, (HEIGHT, 1))


def write(image: Path, mask: Path, numbers: Array, grey: int = 100, mode: str = "L") -> None:
    """Write a flat image and its mask."""
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", numbers.shape[::-1], (grey, grey, grey)).save(image)
    if mode == "16":
        others = np.full_like(numbers, 7)  # instances in the second channel
        cv2.imwrite(str(mask), np.dstack((others * 0, others, numbers)))
        return
    made = Image.fromarray(numbers.astype(np.uint8))
    if mode == "P":
        made.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    made.save(mask)


def camvid(root: Path, shared: bool = False, frames: int = 3) -> Path:
    numbers = strip(range(12), 24)
    for split in ("train", "val", "test"):
        for i in range(frames):
            if shared:
                image = root / "camvid" / split / "images" / f"Seq_f{i:05d}.jpg"
                mask = root / "camvid" / split / "labels" / f"Seq_f{i:05d}.png"
            else:
                image = root / "CamVid" / split / f"Seq_f{i:05d}.png"
                mask = root / "CamVid" / f"{split}annot" / f"Seq_f{i:05d}.png"
            write(image, mask, numbers, grey=10 * i)
    return root


def cityscapes(root: Path) -> Path:
    numbers = strip(range(34), 2 * HEIGHT)
    numbers[8:] = 33 - numbers[8:]
    for split, cities in CITY_FRAMES.items():
        for city in cities:
            for i in range(2):
                stem = f"{split}/{city}/{city}_00000{i}_000019"
                write(
                    root / "cityscapes" / "leftImg8bit" / f"{stem}_leftImg8bit.png",
                    root / "cityscapes" / "gtFine" / f"{stem}_gtFine_labelIds.png",
                    numbers,
                )
    return root


def acdc(root: Path) -> Path:
    for weather in ("fog", "night", "rain", "snow"):
        for i, kind in enumerate(("labelTrainIds", "labelIds")):
            stem = f"{weather}/train/GOPR0475/GOPR0475_frame_00004{i}"
            ids = [*range(19), IGNORE] if i == 0 else [*range(34)]
            write(
                root / "ACDC" / "rgb_anon" / f"{stem}_rgb_anon.png",
                root / "ACDC" / "gt" / f"{stem}_gt_{kind}.png",
                strip(ids, 32),
            )
    return cityscapes(root)


def dark_zurich(root: Path) -> Path:
    for i, kind in enumerate(("labelTrainIds", "labelIds")):
        stem = f"val/night/GOPR0356/GOPR0356_frame_00032{i}"
        place = root / "Dark_Zurich"
        ids = [*range(19), IGNORE] if i == 0 else [*range(34)]
        mask = place / "gt" / f"{stem}_gt_{kind}.png"
        write(place / "rgb_anon" / f"{stem}_rgb_anon.png", mask, strip(ids, 32))
    day = place / "rgb_anon" / "val_ref" / "day" / "GOPR0356_ref"  # pictures without masks
    day.mkdir(parents=True)
    Image.new("RGB", (32, 16)).save(day / "GOPR0356_frame_000321_ref_rgb_anon.png")
    return cityscapes(root)


def loveda(root: Path) -> Path:
    for split, count in (("Train", 2), ("Val", 1)):
        for shade, landscape in enumerate(("Rural", "Urban")):
            for i in range(count):
                place = root / "LoveDA" / split / landscape
                masks = place / "masks_png" / f"{i}.png"
                numbers = strip([*range(8)] if landscape == "Rural" else [7, 0, 1], 16)
                write(place / "images_png" / masks.name, masks, numbers, grey=100 * shade + i)
    return root


def uavid(root: Path) -> Path:
    colours = np.array([*UAVID.values()], np.uint8)
    for part, sequences in (("uavid_train", (1, 10, 2)), ("uavid_val", (16,))):
        for number in sequences:
            for i in range(4 if part == "uavid_train" else 2):
                place = root / "uavid" / part / f"seq{number}"
                mask = place / "Labels" / f"{i:04d}00.png"
                write(place / "Images" / mask.name, mask, strip(range(8), 32), grey=10 * number + i)
                Image.fromarray(colours[strip(range(8), 32)]).save(mask)
    return root


def gta5(root: Path, mode: str = "P", frames: int = 11) -> Path:
    for i in range(frames):
        place = root / "GTA5"
        name = f"{i + 1:05d}.png"
        write(place / "images" / name, place / "labels" / name, strip(range(35), 40), i, mode)
    return cityscapes(root)


def synthia(root: Path) -> Path:
    for i in range(4):
        place = root / "SYNTHIA" / "RAND_CITYSCAPES"
        mask = place / "GT" / "LABELS" / f"{i:07d}.png"
        write(place / "RGB" / mask.name, mask, strip(range(23), 32), mode="16")
    return cityscapes(root)


def crosscity(root: Path, end: str = "_eval") -> Path:
    for city in ("Rome", "Rio", "Tokyo", "Taipei"):
        place = root / "NTHU_Datasets" / city
        mask = place / "Labels" / "Test" / f"pano_00002_2_0{end}.png"
        numbers = strip([*range(34), 255], 32)
        numbers[4:] = strip(range(33, -1, -1), 32)[4:]
        write(place / "Images" / "Test" / "pano_00002_2_0.png", mask, numbers)
    return cityscapes(root)


TREES = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "acdc": acdc,
    "dark-zurich": dark_zurich,
    "loveda": loveda,
    "uavid": uavid,
    "gta5": gta5,
    "synthia": synthia,
    "crosscity": crosscity,
}


def masks(frames: Frames) -> Array:
    return frames.masks[np.arange(len(frames.masks))]


def expected(numbers: Array, ids: dict[int, int], kept: Sequence[int] = range(19)) -> Array:
    """Return class indices by plain loops, from number -> train id and the train ids kept."""
    flat = [
        kept.index(ids[n]) if n in ids and ids[n] in kept else IGNORE
        for n in numbers.ravel().tolist()
    ]
    return np.array(flat).reshape(numbers.shape)


# --- layouts and maps --------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_camvid(shared: bool, tmp_path: Path) -> None:
    data = load("camvid", camvid(tmp_path / "data", shared))
    assert (data.source, data.target, data.kind) == ("day", "day", "segmentation")
    assert data.classes[:5] == ("sky", "building", "pole", "road", "pavement")
    assert data.classes[5:] == ("tree", "sign", "fence", "car", "pedestrian", "bicyclist")
    assert (data.image_size, data.width) == (HEIGHT, 24)  # 21.3 to a multiple of 8
    truth = strip([*range(11), IGNORE], 24)
    for part in (data.source_train, data.source_val, data.target_all):
        assert (masks(part) == truth).all()
        assert part.images[np.arange(3)].shape == (3, HEIGHT, 24, 3)
        assert part.images[np.arange(3)].dtype == masks(part).dtype == np.uint8


def test_cityscapes(tmp_path: Path) -> None:
    data = load("cityscapes", cityscapes(tmp_path / "data"))
    numbers = strip(range(34), 32)
    numbers[8:] = 33 - numbers[8:]
    assert len(data.classes) == 19
    assert (data.classes[0], data.classes[13], data.classes[18]) == ("road", "car", "bicycle")
    assert (masks(data.target_all) == expected(numbers, TRAIN_ID)).all()
    assert {len(f.masks) for f in (data.source_train, data.source_val, data.target_all)} == {2}
    assert len({data.source_train.digest, data.source_val.digest, data.target_all.digest}) == 3


@pytest.mark.parametrize("weather", ["fog", "night", "rain", "snow"])
def test_acdc_with_either_kind_of_ids(weather: str, tmp_path: Path) -> None:
    data = load("acdc", acdc(tmp_path / "data"), size=HEIGHT, target=weather)
    assert (data.source, data.target, data.width) == ("cityscapes", weather, 32)  # 28.4
    train, label = masks(data.target_all)
    assert (train == strip([*range(19), IGNORE], 32)).all()
    assert (label == expected(strip(range(34), 32), TRAIN_ID)).all()
    assert (len(data.source_train.masks), len(data.source_val.masks)) == (4, 2)


def test_dark_zurich_with_either_kind_of_ids(tmp_path: Path) -> None:
    data = load("dark-zurich", dark_zurich(tmp_path / "data"))
    assert (data.source, data.target, data.width) == ("cityscapes", "night", 32)
    train, label = masks(data.target_all)  # the reference pictures by day have no mask
    assert (train == strip([*range(19), IGNORE], 32)).all()
    assert (label == expected(strip(range(34), 32), TRAIN_ID)).all()
    assert (len(data.source_train.masks), len(data.source_val.masks)) == (4, 2)


def test_loveda_either_way(tmp_path: Path) -> None:
    root = loveda(tmp_path / "data")
    data = load("loveda", root)
    assert (data.source, data.target, data.width) == ("rural", "urban", HEIGHT)
    assert data.classes == LOVEDA
    rural, urban = ([IGNORE, *range(7)], [6, IGNORE, 0])  # 0 is no data, and no class
    assert (masks(data.source_train) == strip(rural, 16)).all()
    assert (masks(data.source_val) == strip(rural, 16)).all()
    assert (masks(data.target_all) == strip(urban, 16)).all()
    back = load("loveda", root, source="urban", target="rural")
    assert (masks(back.target_all) == masks(data.source_val)).all()
    assert [len(f.masks) for f in (back.source_train, back.source_val)] == [2, 1]
    with pytest.raises(ConfigError, match="its validation frames would be the stream as well"):
        load("loveda", root, source="urban", target="rural,urban")


def test_uavid_by_colours(tmp_path: Path) -> None:
    root = uavid(tmp_path / "data")
    data = load("uavid", root)
    assert (data.classes, data.width) == (tuple(UAVID), 32)
    for part in (data.source_train, data.source_val, data.target_all):
        assert (masks(part) == strip(range(8), 32)).all()
    # in the order of their paths: seq1, seq10, seq2; the last tenth of 12, rounded up, validates
    shades = [int(part.images[np.array([-1])][0, 0, 0, 0]) for part in _source(data)]
    assert (len(data.source_train.masks), len(data.source_val.masks)) == (10, 2)
    assert shades == [21, 23]
    assert [len(data.target_all.masks), int(data.target_all.images[np.array([0])][0, 0, 0, 0])] == [
        *(2, 160),
    ]


def spoil(name: str, root: Path, pattern: str, pixels: Array) -> list[str]:
    """Put another mask in the place of the first one, and return what a load and a check say."""
    place = sorted(root.glob(pattern))[0]
    Image.fromarray(pixels.astype(np.uint8)).save(place)
    with pytest.raises(DataError) as error:
        load(name, root)
    lines = [line for line in dataset(name).check(root) if not line.startswith("optional")]
    assert any(str(error.value) in line for line in lines)
    assert str(place) in str(error.value)
    return [str(error.value)]


def test_masks_that_others_converted(tmp_path: Path) -> None:
    """The bad cousins: train ids for colours, colours for ids, 255 where 0 is no data."""
    loved, flown, dark = (tmp_path / n / "data" for n in "abc")
    (line,) = spoil("loveda", loveda(loved), "LoveDA/*/*/masks_png/*.png", strip([6, 255], 16))
    assert "outside the map: 255; expected" in line
    assert "not masks shifted to 0-6" in line
    rgb = np.zeros((HEIGHT, 16, 3))
    (line,) = spoil("loveda", loved, "LoveDA/*/*/masks_png/*.png", rgb)
    assert "an 8-bit RGB image (colours, not ids)" in line
    (line,) = spoil("uavid", uavid(flown), "uavid/*/*/Labels/*.png", strip([0, 3], 32))
    assert "outside the map: #030303; expected an RGB image in UAVid's eight colours" in line
    assert "`dabench data check uavid`" in line
    place = "Dark_Zurich/gt/val/night/*/*TrainIds.png"
    (line,) = spoil("dark-zurich", dark_zurich(dark), place, strip([19], 32))
    assert "outside the map: 19; expected" in line


def test_acdc_in_ten_rounds_as_cotta(tmp_path: Path) -> None:
    """Fog, night, rain, snow, ten times over, without a fresh method."""
    root = acdc(tmp_path / "data")
    data = load("acdc", root, size=64, target="fog,night,rain,snow")
    protocol = OnlineSegmentation(conditions="clear", schedule="cycle", rounds=10)
    segments = protocol.plan(data, 1, 0).stream.segments
    weathers = ("fog", "night", "rain", "snow")
    names = [f"{weather}@{turn}" for turn in range(1, 11) for weather in weathers]
    assert [segment.name for segment, _ in segments] == names
    for number, (segment, rows) in enumerate(segments):
        assert sorted(rows.tolist()) == [2 * (number % 4), 2 * (number % 4) + 1]
        assert protocol.round_number(segment) == number // 4 + 1
        assert protocol.condition(segment) == weathers[number % 4]
    pairs = itertools.pairwise(segments)
    assert not any(protocol.begins_fresh(one, other) for (one, _), (other, _) in pairs)


@pytest.mark.slow
def test_acdc_in_ten_rounds_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = acdc(tmp_path / "data")
    words = ["run", "--method", "tent", "--protocol", "online-seg", "--dataset", "acdc", "--json"]
    words += ["--target", "fog,night,rain,snow", "--protocol.conditions", "clear"]
    words += ["--protocol.schedule", "cycle", "--protocol.rounds", "10", "--image-size", "32"]
    words += ["--backbone", "small-seg", "--weights", "none", "--source-epochs", "1"]
    words += ["--data-root", str(root), "--results", str(tmp_path / "r")]
    words += ["--cache-dir", str(tmp_path / "c"), "--device", "cpu", "--threads", "1"]
    assert cli.main([*words, "--no-progress"]) == 0
    record = json.loads(Path(json.loads(capsys.readouterr().out)["record"]).read_text())
    found = {row["segment"] for row in record["scores"] if row["metric"] == "mIoU"}
    rounds = {f"round-{turn}" for turn in range(1, 11)}
    assert rounds | {"fog", "night", "rain", "snow", "mean-conditions"} <= found
    # eighty frames: each in its step, and again for the answer after it
    assert record["cost"]["images_forward"] == 2 * 10 * 4 * 2


@pytest.mark.slow
def test_acdc_is_verified_weather_by_weather(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(__file__).parents[1] / "models" / "tiny_segmenter.py"
    words = ["verify", "acdc", "--source-model", f"{model}:build_19", "--device", "cpu"]
    words += ["--data-root", str(acdc(tmp_path / "data")), "--results", str(tmp_path / "r")]
    words += ["--cache-dir", str(tmp_path / "c"), "--threads", "1", "--no-progress"]
    assert cli.main(words) == 1
    told = capsys.readouterr().out
    lines = {words[0]: words[1] for line in told.splitlines() if len(words := line.split()) > 1}
    published = {"fog": "69.1", "night": "40.3", "rain": "59.7", "snow": "57.8", "mean": "56.7"}
    assert {name: lines[name] for name in published} == published
    assert "not normalised as in training" in told


@pytest.mark.parametrize("mode", ["P", "L"])
def test_gta5(mode: str, tmp_path: Path) -> None:
    data = load("gta5", gta5(tmp_path / "data", mode), size=HEIGHT)
    assert data.width == 32
    assert len(data.target_all.masks) == 2
    assert (len(data.source_train.masks), len(data.source_val.masks)) == (9, 2)
    # 40 columns are reduced to 32: nearest takes the column under each middle
    columns = (np.floor((np.arange(32) + 0.5) * 40 / 32)).astype(int)
    truth = expected(strip(range(35), 40), TRAIN_ID)[:, columns]
    assert (masks(data.source_train) == truth).all()


def test_gta5_leaves_out_frames_whose_masks_are_of_another_size(tmp_path: Path) -> None:
    """The public set has 62 of them; a tenth is counted with them."""
    root = gta5(tmp_path / "data")
    misfits = ("15188", "17705", "20801", "20860")
    for name in (*misfits, "24966"):
        place, file = root / "GTA5", f"{name}.png"
        write(place / "images" / file, place / "labels" / file, strip(range(35), 40), 1)
        if name in misfits:
            Image.new("RGB", (20, 10)).save(place / "images" / file)
    data = load("gta5", root, size=HEIGHT)
    # of 16 in file order 14 and 2
    assert (len(data.source_train.masks), len(data.source_val.masks)) == (11, 1)


def test_synthia_and_its_subset(tmp_path: Path) -> None:
    data = load("synthia", synthia(tmp_path / "data"))
    assert len(data.classes) == 16
    truth = expected(strip(range(23), 32), SYNTHIA_TRAIN_ID, KEPT_16)
    assert (masks(data.source_train) == truth).all()
    assert set(np.unique(truth)) == {*range(16), IGNORE}
    names = dataset("cityscapes").classes
    assert data.classes == tuple(names[i] for i in KEPT_16)
    assert data.subsets == {"13": tuple(names[i] for i in KEPT_13)}
    assert set(np.unique(masks(data.target_all))) == {*range(16), IGNORE}


@pytest.mark.parametrize("end", ["_eval", ""])
def test_crosscity(end: str, tmp_path: Path) -> None:
    root = crosscity(tmp_path / "data", end)
    names = dataset("cityscapes").classes
    for city in ("rome", "rio", "tokyo", "taipei"):
        data = load("crosscity", root, target=city)
        assert data.classes == tuple(names[i] for i in KEPT_13)
        truth = expected(strip([*range(34), 255], 32), TRAIN_ID, KEPT_13)
        assert (masks(data.target_all)[0, :4] == truth[:4]).all()
        assert set(np.unique(masks(data.source_train))) == {*range(13), IGNORE}


# --- roles and order ---------------------------------------------------------------------------


def test_frames_come_in_file_order(tmp_path: Path) -> None:
    data = load("gta5", gta5(tmp_path / "data"))
    shades = [part.images[np.arange(9)[: len(part.masks)]][:, 0, 0, 0] for part in _source(data)]
    assert np.concatenate(shades).tolist() == list(range(11))


def _source(data: DenseData) -> tuple[Frames, Frames]:
    return data.source_train, data.source_val


def test_held_out_cities_are_never_trained_on(tmp_path: Path) -> None:
    root = cityscapes(tmp_path / "data")
    shutil.rmtree(root / "cityscapes" / "leftImg8bit" / "train" / "ulm")
    with pytest.raises(DataError, match="no frames for source_val"):
        load("cityscapes", root)
    assert any("source_val: no frames" in line for line in dataset("cityscapes").check(root))


@pytest.mark.parametrize(
    ("name", "domains", "words"),
    [
        ("gta5", {"source": "cityscapes"}, "'cityscapes' cannot be the source; --source is gta5"),
        ("gta5", {"target": "gta5"}, "'gta5' cannot be the target; --target is cityscapes"),
        ("crosscity", {"source": "rome"}, "--source is cityscapes"),
        ("acdc", {"target": "cityscapes"}, "--target is fog, night, rain, snow"),
        ("acdc", {"target": "frog"}, "did you mean 'fog'"),
        ("camvid", {"target": ""}, "name --source and --target"),
    ],
)
def test_domains_that_cannot_play_a_role(
    name: str, domains: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(name, tmp_path, **domains)


def test_sizes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        load("camvid", tmp_path, size=4)
    widths = {"camvid": (360, 480), "cityscapes": (512, 1024), "acdc": (540, 960), "gta5": (9, 16)}
    for name, shape in widths.items():
        assert dataset(name)._shape(shape[0]) == shape


# --- cache -------------------------------------------------------------------------------------


def test_a_second_load_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = camvid(tmp_path / "data")
    first = load("camvid", root)
    decoded: list[Path] = []
    real = frame_build.decode_sized

    def spy(path: Path, *rest: Any) -> Any:
        decoded.append(path)
        return real(path, *rest)

    monkeypatch.setattr(frame_build, "decode_sized", spy)
    assert load("camvid", root).digest == first.digest
    assert decoded == []
    mask = root / "CamVid" / "testannot" / "Seq_f00001.png"
    write(tmp_path / "unused.png", mask, strip([3], 24))
    changed = load("camvid", root)
    assert len(decoded) == 3
    assert changed.source_train.digest == first.source_train.digest
    assert changed.target_all.digest != first.target_all.digest
    assert (masks(changed.target_all)[1] == 3).all()


def test_a_damaged_cache_is_built_again(tmp_path: Path) -> None:
    root = camvid(tmp_path / "data")
    first = load("camvid", root)
    expected = masks(first.target_all).copy()
    paths = list((tmp_path / "cache" / "frames").glob("camvid-*/masks.npy"))
    assert len(paths) == 3
    whole = [path.read_bytes() for path in paths]
    for harm in (lambda content: content[:-10], lambda content: content[:-3] + b"\0\1\2"):
        for path, content in zip(paths, whole, strict=True):
            path.write_bytes(harm(content))
        again = load("camvid", root)
        assert again.digest == first.digest
        assert (masks(again.target_all) == expected).all()
        assert [path.read_bytes() for path in paths] == whole


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the folder of frames may lie on another disk than its cache, as on a node of Ray
    monkeypatch.setattr(
        frame_cache, "free_bytes", lambda folder: 1000 if folder.name == "frames" else 10**12
    )
    with pytest.raises(CacheError, match=r"do not fit.*--image-size"):
        load("camvid", camvid(tmp_path / "data"))


def test_frames_without_a_label_are_kept_and_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = camvid(tmp_path / "data")
    mask = root / "CamVid" / "testannot" / "Seq_f00001.png"
    write(tmp_path / "unused.png", mask, strip([11], 24))
    cache_folder.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="dabench"):
        data = load("camvid", root)
        load("camvid", root)
    assert len(data.target_all.masks) == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert "1 of 3 frames have no labelled pixel; they are kept" in line


# --- dabench data check --------------------------------------------------------------------------


@pytest.mark.parametrize("name", TREES)
def test_a_reduced_copy_is_usable(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = TREES[name](tmp_path / "data")
    assert cli.main(["data", "check", name, "--data-root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "the public set has" in out
    assert f"{name}: usable" in out


@pytest.mark.parametrize("name", TREES)
def test_missing_root_and_folder(name: str, tmp_path: Path) -> None:
    for root, words in (
        (None, "--data-root or set DABENCH_DATA"),
        (tmp_path / "absent", "is not a folder"),
        (tmp_path, "no folder"),
    ):
        with pytest.raises(DataError, match=words):
            load(name, root)
        assert any(words in line for line in dataset(name).check(root))


def test_domains_beside_the_default_ones_are_optional(tmp_path: Path) -> None:
    root = crosscity(tmp_path / "data")
    shutil.rmtree(root / "NTHU_Datasets" / "Rio")
    lines = dataset("crosscity").check(root)
    assert all(line.startswith("optional") for line in lines)
    assert any("domain 'rio': no folder" in line for line in lines)
    shutil.rmtree(root / "NTHU_Datasets" / "Rome")
    assert any(
        line.startswith("domain 'rome': no folder") for line in dataset("crosscity").check(root)
    )


# --- the real set ------------------------------------------------------------------------------

REAL = Path(os.environ.get("DABENCH_DATA", "/nonexistent"))


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "camvid").is_dir(), reason="set DABENCH_DATA: folder with camvid/")
def test_real_camvid(tmp_path: Path) -> None:
    lines = dataset("camvid").check(REAL)
    assert all(line.startswith("optional") for line in lines)
    data = dataset("camvid").load(DataRequest("day", "day", 192, REAL, tmp_path))
    assert data.width == 256
    counts = [len(f.masks) for f in (data.source_train, data.source_val, data.target_all)]
    assert min(counts) > 50
    share = np.bincount(masks(data.target_all).ravel(), minlength=256) / (
        masks(data.target_all).size
    )
    assert share[11:IGNORE].sum() == 0
    assert share[data.classes.index("road")] > 0.2
    # the sky is above the road
    rows = masks(data.target_all) == 0, masks(data.target_all) == 3
    sky, road = (np.average(np.arange(192), weights=hit.sum((0, 2))) for hit in rows)
    assert sky < 80 < 120 < road
