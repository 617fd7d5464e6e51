"""What ``data check`` and loading say of files that are not read, and of doubled pictures."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.datasets.class_folders.class_folder import ImageFolder
from dabench.datasets.decoding import picture_files
from dabench.datasets.decoding.images import LIMIT, decode, read_picture
from dabench.datasets.frame_folders.camvid import CamVid
from dabench.errors import ConfigError, DataError
from dabench.source_models.classifier import hold_out

pytestmark = pytest.mark.filterwarnings("error")


def picture(path: Path, seed: int = 0, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = [seed, *os.fsencode(str(path.relative_to(path.parents[2])))]
    pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for domain in ("a", "b"):
        for name in ("cat", "dog"):
            for i in range(3):
                picture(tmp_path / "data" / domain / name / f"{i}.png")
    return tmp_path / "data"


def load(root: Path) -> DomainData:
    return ImageFolder().load(DataRequest("a", "b", 8, root, root.parent / "cache"))


def test_a_healthy_tree_is_complete(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    junk = ("notes.txt", "cat/labels.csv", "cat/.DS_Store", "dog/Thumbs.db", "._0.png")
    for name in junk:
        (root / "a" / name).write_bytes(b"x")
    assert ImageFolder().check(root) == []
    load(root)
    assert not caplog.records


def test_every_ending_of_a_picture_is_read(root: Path) -> None:
    folder = root / "a" / "cat"
    for ending in (".jfif", ".jpe", ".gif", ".ppm", ".tga", ".jp2", ".JPG", ".Tiff"):
        picture(folder / f"n{ending[1:]}{ending}")
    picture(folder / "no_ending.png").rename(folder / "no_ending")
    picture(folder / "backup.png").rename(folder / "backup.png~")
    assert np.bincount(load(root).source_train.labels).tolist() == [13, 3]
    assert ImageFolder().check(root) == []


def test_what_is_not_read_is_counted_and_named(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = root / "a" / "cat"
    for i in range(11):
        (folder / f"p{i}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    picture(folder / "deep" / "1.png")
    picture(folder / ".hidden.png")
    picture(root / "a" / "flat.png", 1)
    lines = ImageFolder().check(root)
    assert len(lines) == 2
    assert all(line.startswith("optional: domain 'a': ") for line in lines)
    assert "3 of 20 files left out: 3 .png: hidden, or not directly in a folder" in lines[0]
    assert "11 of 20 files left out: 11 .heic: cannot be read by this Pillow" in lines[1]
    assert lines[1].endswith("the first: cat/p0.heic")
    with caplog.at_level(logging.WARNING):
        load(root)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        line.removeprefix("optional: ") for line in lines
    ]


def test_formats_that_this_pillow_lacks_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(root / "a" / "cat" / "new.webp")
    assert ImageFolder().check(root) == []
    monkeypatch.setattr("PIL.features.check", lambda name: name != "webp")
    for cached in (picture_files.formats, picture_files.endings):
        cached.cache_clear()
    try:
        (line,) = ImageFolder().check(root)
    finally:
        for cached in (picture_files.formats, picture_files.endings):
            cached.cache_clear()
    assert "1 of 7 files left out: 1 .webp: cannot be read" in line


def test_a_domain_of_unreadable_files_is_named(root: Path) -> None:
    for path in (root / "b").rglob("*.png"):
        path.write_bytes(b"\0\0\0\x18ftypheic")
        path.rename(path.with_suffix(".heic"))
    lines = ImageFolder().check(root)
    assert any("no domain 'b': 6 of 6 files left out: 6 .heic" in line for line in lines)
    assert any("needs a second domain folder" in line for line in lines)


def test_folders_and_pipes_called_like_pictures(root: Path) -> None:
    (root / "a" / "cat" / "folder.png").mkdir()
    os.mkfifo(root / "a" / "cat" / "pipe.png")
    (root / "a" / "cat" / "gone.png").symlink_to("nowhere")
    lines = ImageFolder().check(root)
    assert any("pipe.png" in line and "left out" in line for line in lines)
    assert any("cannot decode" in line and "nowhere" in line for line in lines)
    with pytest.raises(DataError, match=r"gone\.png"):
        load(root)


def test_pictures_that_are_there_twice(root: Path) -> None:
    shutil.copy(root / "a/cat/0.png", root / "a/cat/again.png")
    shutil.copy(root / "a/cat/1.png", root / "a/dog/1b.png")
    Image.open(root / "a/dog/0.png").save(root / "b/dog/same.bmp")  # other bytes, equal pixels
    Image.open(root / "a/dog/2.png").save(root / "a/dog/2.jpg")
    lines = ImageFolder().check(root)
    assert sorted(line.removeprefix("optional: ") for line in lines) == [
        "1 picture(s) in two domains, pixel by pixel: a/dog/0.png = b/dog/same.bmp",
        "1 picture(s) twice in a class, pixel by pixel: a/cat/0.png = a/cat/again.png",
        "1 picture(s) under two classes, pixel by pixel: a/cat/1.png = a/dog/1b.png",
        "domain 'a': names that differ in case or ending only: dog/2.jpg = dog/2.png",
    ]


def test_classes_of_one_image_and_imbalance(root: Path) -> None:
    for i in (1, 2):
        (root / f"b/cat/{i}.png").unlink()
    for i in range(98):
        picture(root / f"b/dog/more{i}.png")
    assert ImageFolder().check(root) == [
        "optional: domain 'b': a single image of cat: too few to hold any out",
        "optional: domain 'b': from 1 (cat) to 101 (dog) images a class; look at the mean over "
        "classes rather than at the accuracy",
    ]


# --- splits ------------------------------------------------------------------------------------


def labelled(*counts: int) -> Labelled:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Labelled(np.zeros((len(labels), 2, 2, 3), np.uint8), labels, "x")


def test_no_class_without_training_images() -> None:
    data = labelled(1, 2, 10, 14, 25)
    train, val = hold_out(data)
    assert np.bincount(data.labels[train], minlength=5).tolist() == [1, 1, 9, 13, 23]
    assert np.bincount(data.labels[val], minlength=5).tolist() == [0, 1, 1, 1, 2]


@pytest.mark.parametrize("counts", [(1, 1, 1), (2,)])
def test_too_few_to_train_and_to_validate(counts: tuple[int, ...]) -> None:
    words = rf"the source has {sum(counts)} image\(s\) of {len(counts)} class"
    with pytest.raises(DataError, match=words):
        hold_out(labelled(*counts))


# --- large and turned pictures -----------------------------------------------------------------


def test_large_pictures_can_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    path = tmp_path / "x.png"
    Image.new("L", (50, 40), 7).save(path)
    monkeypatch.setenv(LIMIT, "1999")
    with pytest.raises(
        DataError, match=r"more than 1999 pixels.*set DABENCH_MAX_PIXELS to"
    ) as found:
        decode(path, 8, "x")
    assert "x.png" in str(found.value)
    monkeypatch.setenv(LIMIT, "2000")
    assert (decode(path, 8, "x")[0] == 7).all()
    monkeypatch.setenv(LIMIT, "many")
    with pytest.raises(ConfigError, match="DABENCH_MAX_PIXELS=many: expected a whole number"):
        read_picture(path)


def test_pictures_of_180_megapixels(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    Image.new("1", (18_000, 10_000)).save(path)
    with pytest.raises(DataError, match=r"more than 178956970 pixels.*DABENCH_MAX_PIXELS"):
        read_picture(path)


@pytest.mark.parametrize("tagged", ["image", "mask", "both"])
def test_frames_and_masks_are_turned_alike(tagged: str, tmp_path: Path) -> None:
    """Whichever of them carries the tag, both are read as viewers show them."""
    stored = np.arange(8 * 12).reshape(8, 12) % 11
    shown = np.rot90(stored, -1)
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "val", "test"):
        for folder, kind in ((split, "image"), (f"{split}annot", "mask")):
            path = tmp_path / "camvid" / folder / "0.png"
            path.parent.mkdir(parents=True)
            turned = tagged in (kind, "both")
            values = (stored if turned else shown).astype(np.uint8)
            Image.fromarray(values).save(path, **({"exif": exif} if turned else {}))
    assert all(line.startswith("optional") for line in CamVid().check(tmp_path))
    found = CamVid().load(DataRequest("day", "day", 12, tmp_path, tmp_path / "cache"))
    mask = found.target_all.masks[np.array([0])][0]
    wide = np.asarray(Image.fromarray(shown.astype(np.uint8)).resize((16, 12), 0))
    np.testing.assert_array_equal(mask, np.where(wide == 11, 255, wide))


def test_frames_that_are_not_read_are_named(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            level = ord(split[-1]) if folder == split else 0
            Image.new("L", (12, 8), level).save(tmp_path / "camvid" / folder / "0.png")
    (tmp_path / "camvid/train/1.heic").write_bytes(b"\0\0\0\x18ftypheic")
    lines = [line for line in CamVid().check(tmp_path) if "public set" not in line]
    assert len(lines) == 1
    assert "'day', source_train: 1 of 2 files left out: 1 .heic" in lines[0]


def test_frames_that_are_there_twice(tmp_path: Path) -> None:
    """A frame of the source that comes again in the stream."""
    for split, level in (("train", 1), ("val", 2), ("test", 1)):
        for folder, value in ((split, level), (f"{split}annot", 0)):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            Image.new("L", (12, 8), value).save(tmp_path / "camvid" / folder / "0.png")
    lines = [line for line in CamVid().check(tmp_path) if "public set" not in line]
    assert lines == [
        "optional: domain 'day': 1 frame(s) twice, byte by byte: test/0.png = train/0.png"
    ]
