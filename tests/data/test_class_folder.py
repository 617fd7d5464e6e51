"""Class-folder sets: every loader on a generated tree in its real layout, and the bad cousins."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dabench.cli import main as cli
from dabench.contract.data import ClassSplit, DataRequest, DomainData, ImageArray, Labelled
from dabench.datasets.caching import cache_folder, image_build, image_cache
from dabench.datasets.caching.image_stream import StreamedImages
from dabench.datasets.class_folders import splits
from dabench.datasets.class_folders.class_folder import (
    ImageFolder,
    Office31,
    OfficeHome,
    Pacs,
    VisdaC,
)
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.errors import CacheError, ConfigError, DataError

Maker = Callable[..., Path]
OFFICE = ("office31/amazon", "office31/webcam", "office31/dslr")
NAMES = splits.CLASSES["office31"]
SIZE = 16
REPOSITORY = Path(__file__).parents[2]


def load(
    dataset: ClassFolder,
    root: Path | None,
    source: Any = None,
    target: Any = None,
    size: int = SIZE,
) -> DomainData:
    """Load with the data set's default domains and a cache beside the data root."""
    cache = (root or Path("nowhere")).parent / "cache"
    source, target = source or dataset.defaults["source"], target or dataset.defaults["target"]
    return dataset.load(DataRequest(source, target, size, root, cache))


def pixels(images: ImageArray) -> np.ndarray:
    return images[np.arange(len(images))]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of files that are decoded from now on."""
    files: list[Path] = []
    real = image_build.decode

    def spy(path: Path, *rest: Any) -> Any:
        files.append(path)
        return real(path, *rest)

    monkeypatch.setattr(image_build, "decode", spy)
    return files


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "free_bytes", lambda folder: 1000)


@pytest.fixture
def images_of(tmp_path: Path) -> Callable[..., Labelled]:
    """Return a function that loads one domain of (file name, label) pairs lying in tmp_path."""

    def get(*names: str) -> Labelled:
        entries = [
            image_build.Entry(f"d/c{i}/{name}", tmp_path / name, i) for i, name in enumerate(names)
        ]
        return image_cache.load_images("toy", "d", entries, SIZE, tmp_path / "cache")

    return get


HOME = ("Art", "Clipart", "Product", "Real World")
HOME_ZIP = [f"OfficeHomeDataset_10072016/{d}" for d in HOME]
HOME_SNAKE = ["office_home/art", "office_home/clipart", "office_home/Product", "office_home/Real"]
PACS = ("art_painting", "cartoon", "photo", "sketch")
LAYOUTS: dict[str, tuple[ClassFolder, list[str], list[str]]] = {
    "office31": (Office31(), list(OFFICE), list(NAMES)),
    "office31 as published": (
        Office31(),
        [f"Office-31/{d}/images" for d in ("amazon", "webcam", "dslr")],
        list(NAMES),
    ),
    "office31 as office": (Office31(), [f.replace("31", "") for f in OFFICE], list(NAMES)),
    "office-home as published": (OfficeHome(), HOME_ZIP, list(splits.CLASSES["office-home"])),
    "office-home, other spelling": (
        OfficeHome(),
        HOME_SNAKE,
        [c.lower().replace("_", " ") for c in splits.CLASSES["office-home"]],
    ),
    "visda-c": (VisdaC(), ["VisDA-C/train", "VisDA-C/validation"], list(splits.CLASSES["visda-c"])),
    "visda": (VisdaC(), ["visda/train", "visda/validation"], list(splits.CLASSES["visda-c"])),
    "pacs": (Pacs(), [f"PACS/{d}" for d in PACS], list(splits.CLASSES["pacs"])),
    "pacs with kfold": (Pacs(), [f"pacs/kfold/{d}" for d in PACS], list(splits.CLASSES["pacs"])),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_public_layouts(layout: str, make_tree: Maker) -> None:
    dataset, folders, classes = LAYOUTS[layout]
    root = make_tree(folders, classes, per_class=1)
    data = load(dataset, root)
    assert data.classes == splits.CLASSES[dataset.spec.name]
    assert (data.source, data.target) == (dataset.defaults["source"], dataset.defaults["target"])
    assert data.source_val is None
    assert data.splits["default"].known
    for part in (data.source_train, data.target_all):
        assert len(part.images) == len(classes)
        assert part.labels.dtype == np.int64
        assert sorted(part.labels) == list(range(len(classes)))
        assert pixels(part.images).shape == (len(classes), SIZE, SIZE, 3)
    # nothing but counts can be wrong, and further domains may be absent
    counts = ("public set has", "a single image", "not there: test")
    lines = dataset.check(root)
    assert [line for line in lines if not any(words in line for words in counts)] == []


def test_pixels_belong_to_their_label(make_tree: Maker) -> None:
    root = make_tree(OFFICE, NAMES, per_class=1)
    part = load(Office31(), root).source_train
    for row, label in enumerate(part.labels):
        path = root / "office31/amazon" / NAMES[label] / "frame_0000.jpg"
        with Image.open(path) as image:
            expected = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(part.images[np.array([row])][0], np.asarray(expected))


def test_layout_and_spelling_do_not_change_order_or_digest(make_tree: Maker) -> None:
    root = make_tree(OFFICE, NAMES, per_class=1)
    first = load(Office31(), root)
    for domain in ("amazon", "webcam", "dslr"):
        folder = root / "office31" / domain
        moved = root / "Office-31" / domain.upper() / "images"
        moved.parent.mkdir(parents=True)
        folder.rename(moved)
        (moved / "back_pack").rename(moved / "Back Pack")
    (root / "office31").rmdir()
    second = load(Office31(), root)
    assert second.digest == first.digest
    np.testing.assert_array_equal(first.source_train.labels, second.source_train.labels)


def test_image_folder(make_tree: Maker) -> None:
    root = make_tree(["photos", "drawings"], ["cat", "Ant", "bee"])
    data = load(ImageFolder(), root, "photos", "Drawings")
    assert data.classes == ("Ant", "bee", "cat")
    assert (data.source, data.target) == ("photos", "drawings")
    assert data.splits == {}
    assert ImageFolder().check(root) == []
    with pytest.raises(ConfigError, match="--source and --target"):
        ImageFolder().load(DataRequest("", "", SIZE, root, root / "c"))
    shutil.rmtree(root / "drawings" / "bee")
    partial = load(ImageFolder(), root, "photos", "drawings")
    assert partial.classes == ("Ant", "bee", "cat")
    assert set(partial.target_all.labels) == {0, 2}
    (line,) = ImageFolder().check(root)
    assert "drawings to photos: 1 class(es) that the source has not" in line
    shutil.rmtree(root / "drawings")
    (line,) = ImageFolder().check(root)
    assert line.startswith("optional: one domain: it serves the streams")


# --- bad cousins -------------------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_missing_root_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load(Office31(), None)
    text = one_line(error)
    assert "--data-root" in text
    assert "DABENCH_DATA" in text
    assert "https://" in text
    with pytest.raises(DataError, match="is not a folder"):
        load(Office31(), tmp_path / "absent")
    with pytest.raises(DataError, match="no folder office31"):
        load(Office31(), tmp_path)
    for root in (None, tmp_path / "absent", tmp_path):
        assert len(Office31().check(root)) == 1


def break_missing(folder: Path) -> None:
    shutil.rmtree(folder / "mug")


def break_extra(folder: Path) -> None:
    (folder / "teapot").mkdir()


def break_empty(folder: Path) -> None:
    for path in (folder / "mug").iterdir():
        path.rename(path.with_suffix(".txt"))


def break_double(folder: Path) -> None:
    (folder / "back pack").mkdir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (break_missing, "missing class folder: mug"),
        (break_extra, "extra class folder: teapot"),
        (break_empty, "class folder without images: mug"),
        (break_double, "second folder of a class: back"),
    ],
)
def test_wrong_classes(harm: Callable[[Path], None], words: str, make_tree: Maker) -> None:
    root = make_tree(OFFICE, NAMES, per_class=1)
    harm(root / "office31/webcam")
    with pytest.raises(DataError) as error:
        load(Office31(), root)
    text = one_line(error)
    assert words in text
    assert "'webcam'" in text
    assert "dabench data check office31" in text
    assert any(words in line and "webcam" in line for line in Office31().check(root))


def test_missing_domain_and_unknown_domain(make_tree: Maker) -> None:
    root = make_tree(OFFICE[:1], NAMES, per_class=1)
    with pytest.raises(DataError, match="domain folder 'webcam' is missing"):
        load(Office31(), root)
    with pytest.raises(ConfigError, match="did you mean 'amazon'"):
        load(Office31(), root, "amazonn")
    assert sum("is missing" in line for line in Office31().check(root)) == 2
    with pytest.raises(ConfigError, match="--image-size 0"):
        load(Office31(), root, "amazon", "amazon", size=0)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_broken_jpeg(content: bytes | None, make_tree: Maker) -> None:
    root = make_tree(OFFICE, NAMES, per_class=1)
    path = root / "office31/amazon/mug/frame_0000.jpg"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(DataError) as error:
        load(Office31(), root)
    text = one_line(error)
    assert str(path) in text
    assert "dabench data check office31" in text
    assert any(str(path) in line for line in Office31().check(root))
    assert list((root.parent / "cache" / "images").iterdir()) == []  # nothing half-written


def test_check_counts_against_the_public_set(make_tree: Maker) -> None:
    root = make_tree(OFFICE, NAMES, per_class=1)
    lines = Office31().check(root)
    assert "domain 'amazon': 31 images, the public set has 2817" in lines
    assert len([line for line in lines if not line.startswith("optional")]) == 3


# --- order and digest --------------------------------------------------------------------------


def test_order_is_hashed(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], [f"c{i}" for i in range(5)], per_class=20)
    labels = load(ImageFolder(), root, "a", "b").target_all.labels
    assert np.sum(np.diff(labels) != 0) > 50  # sorted by class there are 4 changes
    assert abs(np.corrcoef(np.arange(100), labels)[0, 1]) < 0.35


def test_digest_follows_content_and_size(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    first = load(ImageFolder(), root, "a", "b").source_train
    bigger = load(ImageFolder(), root, "a", "b", size=24).source_train
    path = root / "a" / "x" / "frame_0000.jpg"
    os.utime(path, ns=(1, 1))  # another time, the same bytes
    touched = load(ImageFolder(), root, "a", "b").source_train
    path.write_bytes((root / "b" / "x" / "frame_0000.jpg").read_bytes())
    changed = load(ImageFolder(), root, "a", "b").source_train
    assert touched.digest == first.digest
    assert len({first.digest, bigger.digest, changed.digest}) == 3
    assert not np.array_equal(pixels(first.images), pixels(changed.images))


def test_modes_and_endings(tmp_path: Path, images_of: Callable[..., Labelled]) -> None:
    grey = Image.fromarray(np.full((9, 7), 100, dtype=np.uint8))
    grey.save(tmp_path / "grey.PNG")
    grey.convert("P").save(tmp_path / "palette.png", transparency=0)
    grey.convert("RGBA").save(tmp_path / "alpha.webp", lossless=True)
    grey.save(tmp_path / "grey.bmp")
    part = images_of("grey.PNG", "palette.png", "alpha.webp", "grey.bmp")
    assert set(np.unique(pixels(part.images))) == {100}


# --- the cache ---------------------------------------------------------------------------------


def test_second_load_decodes_nothing(make_tree: Maker, decoded: list[Path]) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    first = load(ImageFolder(), root, "a", "b")
    assert len(decoded) == 8
    second = load(ImageFolder(), root, "b", "a")
    assert len(decoded) == 8
    assert second.source_train.digest == first.target_all.digest
    np.testing.assert_array_equal(
        pixels(first.source_train.images), pixels(second.target_all.images)
    )


def test_memory_map_travels_as_a_path(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["x", "y"], per_class=20)
    images = load(ImageFolder(), root, "a", "b").source_train.images
    data = pickle.dumps(images)
    assert len(data) < 1000 < pixels(images).nbytes
    np.testing.assert_array_equal(pixels(pickle.loads(data)), pixels(images))
    one = images[np.array([3, 1])]
    one[:] = 0  # a copy that may be written to
    assert pixels(images).any()


def edit_array(path: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change an array where it lies: size and header stay as they are."""
    array = np.load(path, mmap_mode="r+")
    change(array)
    array.flush()


def harm_truncate(folder: Path) -> None:
    with (folder / "images.npy").open("r+b") as file:
        file.truncate(500)


def harm_empty(folder: Path) -> None:
    (folder / "images.npy").write_bytes(b"")


def harm_pixels(folder: Path) -> None:
    edit_array(folder / "images.npy", lambda images: images[1:3].fill(0))


def harm_a_bit(folder: Path) -> None:
    """Change one bit, and leave the file's time as it was."""
    path = folder / "images.npy"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def harm_labels(folder: Path) -> None:
    (folder / "labels.npy").unlink()


def change_labels(folder: Path) -> None:
    edit_array(folder / "labels.npy", lambda labels: labels.__isub__(1).__imul__(-1))


def harm_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("{")


def change_digest(folder: Path) -> None:
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"digest": "0" * 64}))


def forget_checksums(folder: Path) -> None:
    """Leave what older versions wrote."""
    path = folder / "meta.json"
    path.write_text(json.dumps({"digest": json.loads(path.read_text())["digest"]}))


HARMS: list[tuple[Callable[[Path], None], str]] = [
    (harm_truncate, "images.npy has 500 bytes, and had "),
    (harm_empty, "images.npy has 0 bytes, and had "),
    (harm_pixels, "images.npy is not as it was written"),
    (harm_a_bit, "images.npy is not as it was written"),
    (harm_labels, "[Errno 2] No such file"),
    (change_labels, "labels.npy is not as it was written"),
    (harm_meta, "meta.json is not as it was written"),
    (change_digest, "meta.json is not as it was written"),
    (forget_checksums, "a version of dabench wrote it that kept no checksums"),
]


@pytest.mark.parametrize(("harm", "reason"), HARMS)
def test_damaged_cache_is_named_and_rebuilt(
    harm: Callable[[Path], None],
    reason: str,
    make_tree: Maker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    first = load(ImageFolder(), root, "a", "b").source_train
    expected = pixels(first.images)
    (folder,) = (root.parent / "cache" / "images").glob("image-folder-a-*")
    harm(folder)
    with caplog.at_level(logging.WARNING, "dabench"):
        second = load(ImageFolder(), root, "a", "b").source_train
        load(ImageFolder(), root, "a", "b")
    (said,) = [r.message for r in caplog.records]
    assert said.startswith(f"image cache {folder} cannot be used ({reason}")
    assert said.endswith("); building it again")
    assert second.digest == first.digest
    np.testing.assert_array_equal(pixels(second.images), expected)
    np.testing.assert_array_equal(second.labels, first.labels)


def test_a_large_cache_is_read_where_its_time_is_another(
    make_tree: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    expected = pixels(load(ImageFolder(), root, "a", "b").source_train.images)
    monkeypatch.setattr(cache_folder, "SMALL", 0)
    read: list[str] = []
    checksum = cache_folder._checksum

    def spy(path: Path) -> int:
        read.append(path.name)
        return checksum(path)

    monkeypatch.setattr(cache_folder, "_checksum", spy)
    load(ImageFolder(), root, "a", "b")
    assert read == []
    (folder,) = (root.parent / "cache" / "images").glob("image-folder-a-*")
    os.utime(folder / "images.npy", (1, 1))  # as a copy of the cache has it
    load(ImageFolder(), root, "a", "b")
    load(ImageFolder(), root, "a", "b")
    assert read == ["images.npy"]  # once: then its time is as it was
    harm_pixels(folder)
    found = load(ImageFolder(), root, "a", "b").source_train
    np.testing.assert_array_equal(pixels(found.images), expected)


def test_verify_reads_a_large_cache(
    make_tree: Maker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    expected = pixels(load(ImageFolder(), root, "a", "b").source_train.images)
    monkeypatch.setattr(cache_folder, "SMALL", 0)
    images = root.parent / "cache" / "images"
    (folder,) = images.glob("image-folder-a-*")
    command = [
        "data",
        "check",
        "image-folder",
        "--verify",
        "--cache-dir",
        str(root.parent / "cache"),
    ]
    command += ["--data-root", str(root)]
    assert cli.main(command) == 0
    assert "image-folder: 2 cache folders are as they were written" in capsys.readouterr().out
    harm_a_bit(folder)  # nothing else notices it in a large cache
    assert cli.main(command) == 2
    out, error = capsys.readouterr()
    assert f"{folder}: images.npy is not as it was written; removed" in out
    assert "1 of 2 cache folders were damaged" in error
    assert not folder.exists()
    found = load(ImageFolder(), root, "a", "b").source_train
    np.testing.assert_array_equal(pixels(found.images), expected)
    assert cli.main(command) == 0
    assert cli.main(["data", "info", "image-folder", "--verify"]) == 2
    assert "use 'dabench data check'" in capsys.readouterr().err


def test_a_cache_that_can_only_be_read(make_tree: Maker, frozen: Any) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    cache = root.parent / "cache"
    first = load(ImageFolder(), root, "a", "b")
    with frozen(cache):
        assert load(ImageFolder(), root, "a", "b").digest == first.digest
        with pytest.raises(CacheError, match=r"cannot be used \(Perm.*--cache-dir"):
            load(ImageFolder(), root, "a", "b", size=24)
    (folder,) = (cache / "images").glob("image-folder-a-*")
    harm_pixels(folder)
    with frozen(cache), pytest.raises(CacheError, match="cannot be used"):
        load(ImageFolder(), root, "a", "b")
    assert load(ImageFolder(), root, "a", "b").digest == first.digest


def test_unwritable_cache(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    (root.parent / "cache").write_text("a file where the folder should be")
    with pytest.raises(CacheError, match="--cache-dir") as error:
        load(ImageFolder(), root, "a", "b")
    one_line(error)


def test_disk_that_fills_up_while_writing(
    make_tree: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any) -> None:
        raise OSError(28, "No space left on device")

    root = make_tree(["a", "b"], ["x", "y"])
    monkeypatch.setattr(image_build, "sync_to_disk", full)
    with pytest.raises(CacheError, match=r"No space left.*--cache-dir"):
        load(ImageFolder(), root, "a", "b")
    assert list((root.parent / "cache" / "images").iterdir()) == []


def test_leftovers_of_a_killed_process_go(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    load(ImageFolder(), root, "a", "b")
    images = root.parent / "cache" / "images"
    (folder,) = images.glob("image-folder-a-*")
    folder.rename(images / f".{folder.name}.dead")
    fresh = images / f".{folder.name}.alive"
    fresh.mkdir()
    old = time.time() - 2 * cache_folder.STALE
    for path in (*(images / f".{folder.name}.dead").iterdir(), images / f".{folder.name}.dead"):
        os.utime(path, (old, old))
    other = images / ".other-images.dead"  # of files that have changed since: never asked for again
    shutil.copytree(images / f".{folder.name}.dead", other)
    os.utime(other, (old, old))
    load(ImageFolder(), root, "b", "b")  # whose cache is good
    assert not (images / f".{folder.name}.dead").exists()
    assert not other.exists()
    assert fresh.exists()


def test_two_processes_build_at_once(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["x", "y", "z"], per_class=60)
    go, cache = root.parent / "go", root.parent / "cache"
    code = (
        "import sys, time, hashlib, numpy as np\n"
        "from pathlib import Path\n"
        "from dabench.contract.data import DataRequest\n"
        "from dabench.datasets.class_folders.class_folder import ImageFolder\n"
        "root, cache, go = map(Path, sys.argv[1:])\n"
        "(go.parent / f'ready{id(go)}-{time.time_ns()}').touch()\n"
        "while not go.exists(): time.sleep(.001)\n"
        "data = ImageFolder().load(DataRequest('a', 'b', 64, root, cache))\n"
        "part = data.source_train\n"
        "pixels = part.images[np.arange(len(part.images))]\n"
        "sys.stdout.write(data.digest + hashlib.sha256(pixels.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", code, str(root), str(cache), str(go)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    workers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    deadline = time.time() + 60
    while len(list(root.parent.glob("ready*"))) < 2 and time.time() < deadline:
        time.sleep(0.01)
    go.touch()
    answers = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert len(list((cache / "images").iterdir())) == 2  # one a domain, no temporary folder


# --- streaming ---------------------------------------------------------------------------------


def test_streaming_equals_the_cache(
    make_tree: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_tree(["a", "b"], ["x", "y"], per_class=5)
    cached = load(ImageFolder(), root, "a", "b")
    shutil.rmtree(root.parent / "cache")
    monkeypatch.setattr(
        image_cache, "free_bytes", lambda folder: 1000 if folder.name == "images" else 10**12
    )
    with caplog.at_level(logging.WARNING, "dabench"):
        streamed = load(ImageFolder(), root, "a", "b")
        load(ImageFolder(), root, "a", "b")
    said = [r.message for r in caplog.records if "image-folder/b" in r.message]
    assert len(said) == 1
    assert "decoding as they stream" in said[0]
    images = streamed.target_all.images
    assert isinstance(images, StreamedImages)
    assert streamed.digest == cached.digest
    np.testing.assert_array_equal(streamed.target_all.labels, cached.target_all.labels)
    np.testing.assert_array_equal(pixels(images), pixels(cached.target_all.images))
    rows = np.array([7, 0, 7])
    np.testing.assert_array_equal(images[rows], cached.target_all.images[rows])
    assert images[rows[:0]].shape == (0, SIZE, SIZE, 3)
    np.testing.assert_array_equal(pixels(pickle.loads(pickle.dumps(images))), pixels(images))
    assert not (root.parent / "cache" / "images").exists()


@pytest.mark.parametrize("name", ["plain.jpg", "turned.jpg", "deep.png", "plain.png"])
def test_decoded_and_streamed_pictures_have_one_digest(
    make_tree: Maker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    place = root / "b" / "x" / name
    grey = np.arange(64 * 48).reshape(48, 64)
    exif = Image.Exif()
    exif[0x0112] = 6 if name == "turned.jpg" else 1
    kind = np.uint16 if name == "deep.png" else np.uint8
    Image.fromarray((grey * (20 if kind is np.uint16 else 0.08)).astype(kind)).save(
        place, exif=exif
    )
    decoded = load(ImageFolder(), root, "a", "b").target_all
    monkeypatch.setattr(image_cache, "free_bytes", lambda folder: 1000)
    shutil.rmtree(root.parent / "cache")
    streamed = load(ImageFolder(), root, "a", "b").target_all
    assert (root.parent / "cache" / "links").is_dir()
    np.testing.assert_array_equal(pixels(decoded.images), pixels(streamed.images))
    assert decoded.digest == streamed.digest


@pytest.mark.usefixtures("full_disk")
def test_streaming_hands_out_no_class(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["secretclass", "otherclass"])
    images = load(ImageFolder(), root, "a", "b").target_all.images
    assert b"class" not in pickle.dumps(vars(images))
    folder = vars(images)["_folder"]
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:08d}" for i in range(4)]


@pytest.mark.usefixtures("full_disk")
def test_second_streaming_load_hashes_nothing(
    make_tree: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    first = load(ImageFolder(), root, "a", "b")
    monkeypatch.delattr(image_build, "hash_picture")
    assert load(ImageFolder(), root, "a", "b").digest == first.digest


@pytest.mark.usefixtures("full_disk")
def test_damaged_links_are_made_again(make_tree: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    expected = pixels(load(ImageFolder(), root, "a", "b").target_all.images)
    (links,) = (root.parent / "cache" / "links").glob("image-folder-b-*")
    first, second = sorted(links.iterdir())[:2]
    aim = os.readlink(second)
    first.unlink()
    first.symlink_to(aim)
    with caplog.at_level(logging.WARNING, "dabench"):
        images = load(ImageFolder(), root, "a", "b").target_all.images
    assert f"links to images {links} cannot be used" in caplog.text
    np.testing.assert_array_equal(pixels(images), expected)
    (meta,) = (root.parent / "cache" / "digests").glob("image-folder-b-*")
    digest = json.loads((meta / "meta.json").read_text())["digest"]
    change_digest(meta)
    assert load(ImageFolder(), root, "a", "b").target_all.digest == digest


@pytest.mark.usefixtures("full_disk")
def test_streaming_names_a_broken_file(make_tree: Maker) -> None:
    root = make_tree(["a", "b"], ["x", "y"])
    path = root / "b" / "x" / "frame_0000.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # whose head is sound
    images = load(ImageFolder(), root, "a", "b").target_all.images
    with pytest.raises(DataError, match=str(path)):
        pixels(images)
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match=str(path)):
        load(ImageFolder(), root, "a", "b")


def test_free_bytes_of_a_folder_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(path.parts)))
    assert cache_folder.free_bytes(tmp_path / "not" / "yet") == len(tmp_path.parts)


# --- splits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "split", "known", "unknown", "classes"),
    [
        ("office31", "default", 10, 11, 31),
        ("office-home", "default", 25, 40, 65),
        ("visda-c", "default", 6, 6, 12),
        ("visda-c", "glc", 6, 6, 12),
        ("pacs", "default", 4, 3, 7),
    ],
)
def test_split_counts(dataset: str, split: str, known: int, unknown: int, classes: int) -> None:
    found = splits.SPLITS[dataset][split]
    assert len(set(found.known)) == len(found.known) == known
    assert len(set(found.unknown)) == len(found.unknown) == unknown
    assert not set(found.known) & set(found.unknown)
    assert set(found.known) | set(found.unknown) <= set(splits.CLASSES[dataset])
    assert len(splits.CLASSES[dataset]) == classes


@pytest.mark.parametrize(
    ("classes", "known", "unknown"),
    [
        (["cow", "Ant", "bee", "dog"], ("Ant", "bee"), ("cow", "dog")),
        (["e", "D", "c", "B", "a"], ("a", "B", "c"), ("D", "e")),
    ],
)
def test_image_folder_split(
    classes: list[str], known: tuple[str, ...], unknown: tuple[str, ...], make_tree: Maker
) -> None:
    root = make_tree(["photos", "drawings"], classes, per_class=1)
    for source, target in (("photos", "drawings"), ("drawings", "photos")):
        found = load(ImageFolder(), root, source, target).splits
        assert found == {"default": ClassSplit(known, unknown)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_image_folder_with_few_classes_has_no_split(count: int, make_tree: Maker) -> None:
    root = make_tree(["a", "b"], [f"c{i}" for i in range(count)], per_class=1)
    assert load(ImageFolder(), root, "a", "b").splits == {}


def test_splits_follow_their_conventions() -> None:
    office = splits.SPLITS["office31"]["default"]
    others = [name for name in splits.CLASSES["office31"] if name not in office.known]
    assert office.unknown == tuple(others[-11:])
    assert "bike" in office.known
    home = splits.SPLITS["office-home"]["default"]
    assert home.known + home.unknown == splits.CLASSES["office-home"]
    assert splits.SPLITS["visda-c"]["default"].known == (
        "bicycle", "bus", "car", "motorcycle", "train", "truck",
    )  # fmt: skip
    assert splits.SPLITS["visda-c"]["glc"].known == (
        "aeroplane", "bicycle", "bus", "car", "horse", "knife",
    )  # fmt: skip


def test_wrong_lists_are_refused() -> None:
    with pytest.raises(DataError, match="expected 3"):
        splits._names("a b", 3)
    with pytest.raises(DataError, match="teapot"):
        splits._split("pacs", ("dog",), ("teapot",))


# --- the real set ------------------------------------------------------------------------------

REAL = Path(os.environ.get("DABENCH_DATA", "/nonexistent"))


@pytest.mark.slow
@pytest.mark.skipif(
    not (REAL / "office31").is_dir(), reason="set DABENCH_DATA to a folder with office31/"
)
def test_real_office31(tmp_path: Path) -> None:
    (doubles,) = Office31().check(REAL)
    assert doubles.startswith("optional: 49 picture(s) twice")  # the public set is so
    data = Office31().load(DataRequest("webcam", "dslr", 64, REAL, tmp_path))
    assert (len(data.source_train.images), len(data.target_all.images)) == (795, 498)
    assert len(set(data.target_all.labels)) == 31
