"""ImageNet and the sets that its models are tested on, in their public layouts, and bad cousins."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dabench.contract.data import DataRequest, DomainData
from dabench.contract.protocol import StreamPlan
from dabench.datasets.class_folders import imagenet, imagenet_c
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.imagenet import (
    ImageNet,
    ImageNetA,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
)
from dabench.datasets.class_folders.imagenet_c import CORRUPTIONS, IDS, ImageNetC, ImageNetC5000
from dabench.datasets.class_folders.wnids import WNIDS, WNIDS_A, WNIDS_R
from dabench.errors import ConfigError, DataError
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.sf_uda import SourceFreeClosedSet

SIZE = 8
VAL = "ILSVRC2012_val_{:08d}"


def picture(number: int, shape: tuple[int, int] = (12, 12)) -> bytes:
    """Return a PNG of one colour that tells the number."""
    buffer = io.BytesIO()
    Image.new("RGB", shape, (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def number_of(pixels: np.ndarray) -> int:
    return int(pixels[0, 0, 0]) + 256 * int(pixels[0, 0, 1])


def fill(home: Path, classes: Iterable[str], name: str = "{}.JPEG") -> Path:
    for i, folder in enumerate(classes):
        (home / folder).mkdir(parents=True)
        (home / folder / name.format(i)).write_bytes(picture(i))
    return home


def load(
    dataset: ClassFolder, root: Path | None, target: str | None = None, source: str = "imagenet"
) -> DomainData:
    cache = (root or Path("nowhere")).parent / "cache"
    name = target or dataset.defaults["target"]
    return dataset.load(DataRequest(source, name, SIZE, root, cache))


def problems(dataset: ClassFolder, root: Path) -> list[str]:
    return [line for line in dataset.check(root) if not line.startswith("optional: ")]


def check_labels(data: DomainData, folders: Sequence[str]) -> None:
    """Every picture has the class of the folder, or list entry, that it was written for."""
    assert len(data.target_all.labels) == len(folders)
    for row, label in enumerate(data.target_all.labels):
        written = number_of(data.target_all.images[np.array([row])][0])
        assert data.classes[label] == folders[written]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


# --- class lists -------------------------------------------------------------------------------


def test_the_lists_are_those_of_timm() -> None:
    """Written down by two hands: timm validates its models by the same lists."""
    from timm.data import ImageNetInfo

    assert ImageNetInfo().label_names() == list(WNIDS)
    import timm

    place = Path(timm.__file__).parent / "data" / "_info"
    for name, own in (("imagenet_r", WNIDS_R), ("imagenet_a", WNIDS_A)):
        assert (place / f"{name}_synsets.txt").read_text().split() == list(own)
    assert list(WNIDS) == sorted(set(WNIDS))
    assert len(WNIDS) == 1000
    assert (WNIDS[0], WNIDS[999]) == ("n01440764", "n15075141")  # tench, toilet paper


def test_corruptions_are_in_the_order_of_the_tables() -> None:
    kinds = [kind for archive, names in CORRUPTIONS.items() if archive != "extra" for kind in names]
    assert len(kinds) == 15
    assert (kinds[0], kinds[-1]) == ("gaussian_noise", "jpeg_compression")
    assert len(ImageNetC.spec.domains) == 19 * 5


# --- public layouts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "folder", "classes"),
    [
        (ImageNetR(), "imagenet-r", WNIDS_R),
        (ImageNetA(), "imagenet-a", WNIDS_A),
    ],
)
def test_subsets_of_200(
    dataset: ClassFolder, folder: str, classes: tuple[str, ...], root: Path
) -> None:
    fill(root / folder, classes)
    (root / folder / "README.txt").write_text("class names")
    data = load(dataset, root)
    assert data.classes == classes
    assert data.model_classes == WNIDS
    assert (data.source, data.target) == ("imagenet", folder)
    assert not data.has_source
    assert data.unseen == ()
    check_labels(data, classes)
    assert problems(dataset, root) == []


def test_v2_is_read_by_number_and_not_by_text(root: Path) -> None:
    """Folder 10 is class 10; sorted as text it would be the third."""
    home = root / "imagenet-v2" / "imagenetv2-matched-frequency-format-val"
    fill(home, map(str, range(12)))
    dataset = few(ImageNetV2, 12)
    check_labels(load(dataset, root), WNIDS[:12])
    assert problems(dataset, root) == []
    shutil.rmtree(home / "10")
    (home / "1000").mkdir()
    with pytest.raises(DataError, match=r"missing class folder: n01530575; extra.*folder: 1000"):
        load(dataset, root)


def few(cls: type[ClassFolder], count: int = 4) -> ClassFolder:
    """Return a set of ImageNet cut down to its first classes."""
    spec = dataclasses.replace(cls.spec, classes=WNIDS[:count])
    made: ClassFolder = type("Few", (cls,), {"spec": spec})()
    return made


@pytest.mark.parametrize("folder", ["imagenet-sketch/sketch", "sketch", "imagenet-sketch"])
def test_sketch(folder: str, root: Path) -> None:
    fill(root / folder, WNIDS[:4])
    check_labels(load(few(ImageNetSketch), root), WNIDS[:4])


@pytest.mark.parametrize(
    "folder", ["imagenet", "ILSVRC2012", "imagenet/ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC"]
)
def test_imagenet_in_class_folders(folder: str, root: Path) -> None:
    for part in ("train", "val"):
        fill(root / folder / part, WNIDS[:4])
    dataset = few(ImageNet)
    data = load(dataset, root, source="train")
    assert (data.source, data.target) == ("train", "val")
    assert data.has_source
    check_labels(data, WNIDS[:4])
    assert problems(dataset, root) == []


@pytest.mark.parametrize("folder", ["imagenet-c", "imagenet-c/noise"])
def test_corruptions_by_severity(folder: str, root: Path) -> None:
    home = root / folder / "gaussian_noise"
    fill(home / "5", WNIDS[:4])
    dataset = few(ImageNetC)
    data = load(dataset, root, "gaussian-noise/5")
    assert data.target == "gaussian_noise/5"
    check_labels(data, WNIDS[:4])
    with pytest.raises(DataError, match="domain folder 'gaussian_noise/3' is missing"):
        load(dataset, root, "gaussian_noise/3")
    with pytest.raises(ConfigError, match="no domain 'gaussian_noise/6'"):
        load(dataset, root, "gaussian_noise/6")
    assert any("94 domain(s) not there" in line for line in dataset.check(root))


def test_the_list_of_5000(root: Path) -> None:
    home = root / "imagenet-c"
    fill(home / "fog" / "2", WNIDS[:4])
    (home / IDS).write_text("".join(f"{WNIDS[i]}/{i}.JPEG\n" for i in (3, 1)))
    data = load(ImageNetC5000(), root, "fog/2")
    assert data.classes == WNIDS
    assert sorted(data.target_all.labels) == [1, 3]  # a class may have none
    assert problems(ImageNetC5000(), root) == []
    (home / IDS).write_text(f"{WNIDS[3]}/3.JPEG\n{WNIDS[9]}/9.JPEG\n")
    with pytest.raises(DataError, match=r"1 of its 2 pictures are not there: .*9\.JPEG"):
        load(ImageNetC5000(), root, "fog/2")
    (home / IDS).write_text("../../elsewhere.JPEG\n")
    with pytest.raises(DataError, match=r"line 1: .* expected class/file"):
        load(ImageNetC5000(), root, "fog/2")
    (home / IDS).unlink()
    with pytest.raises(DataError, match=f"no list {IDS} in "):
        load(ImageNetC5000(), root, "fog/2")


# --- ImageNet-C as one stream ---------------------------------------------------------------


def corrupted(home: Path, kinds: Iterable[str], classes: Sequence[str], files: int = 3) -> None:
    """Write corruptions of the same pictures; a pixel tells kind, class and file."""
    for number, kind in enumerate(kinds):
        for label, wnid in enumerate(classes):
            folder = home / kind / "5" / wnid
            folder.mkdir(parents=True)
            for i in range(files):
                pixels = np.full((SIZE, SIZE, 3), (number, label, i), np.uint8)
                Image.fromarray(pixels).save(folder / f"ILSVRC2012_val_{label:04d}{i}.png")


def stream_of(dataset: ClassFolder, root: Path, **options: Any) -> StreamPlan:
    data = load(dataset, root, "val")
    protocol = ContinualTTA(**({"sequence": "given"} | options))
    data = dataclasses.replace(data, image_size=32)  # weather's least; nothing is rendered here
    assert protocol.is_valid(data) is None
    return protocol.plan(data, 4, 0)


def test_corruptions_are_shifts_of_one_stream(root: Path) -> None:
    """Every corruption shows the same pictures at the same positions, with their labels."""
    corrupted(root / "imagenet-c", ("fog", "snow"), WNIDS[:4])
    dataset = few(ImageNetC)
    plan = stream_of(dataset, root, shifts="published-snow:5,published-fog:5")
    assert [s.name for s, _ in plan.stream.segments] == ["published-snow-5", "published-fog-5"]
    rows = np.arange(12)
    fog, snow = (plan.published[f"published-{kind}", 5][rows][:, 0, 0] for kind in ("fog", "snow"))
    assert set(fog[:, 0]) == {0}
    assert set(snow[:, 0]) == {1}
    np.testing.assert_array_equal(fog[:, 1:], snow[:, 1:])
    np.testing.assert_array_equal(fog[:, 1], plan.truth)
    assert all(np.array_equal(np.sort(shown), rows) for _, shown in plan.stream.segments)
    assert len(plan.held_out) == 0
    data = load(dataset, root, "val")
    assert data.shifts is not None
    assert set(data.shifts.names) == {"published-fog", "published-snow"}
    reason = SourceFreeClosedSet().is_valid(data)
    assert reason is not None
    assert "shifts of the streams" in reason


def test_a_part_of_the_images_is_the_same_in_every_shift(root: Path) -> None:
    corrupted(root / "imagenet-c", ("fog", "snow"), WNIDS[:4])
    options = {"shifts": "published-snow:5,published-fog:5", "images": 5}
    one, two = (np.sort(r) for _, r in stream_of(few(ImageNetC), root, **options).stream.segments)
    np.testing.assert_array_equal(one, two)
    assert len(set(one)) == 5
    with pytest.raises(ConfigError, match=r"--protocol\.images 50: the stream has 12 images"):
        stream_of(few(ImageNetC), root, **options | {"images": 50})


def test_the_stream_of_the_list_of_5000(root: Path) -> None:
    corrupted(root / "imagenet-c", ("fog", "frost"), WNIDS[:3], files=2)
    lines = [f"{WNIDS[i]}/ILSVRC2012_val_{i:04d}{j}.png" for i, j in ((0, 0), (2, 1), (2, 0))]
    (root / "imagenet-c" / IDS).write_text("\n".join(lines))
    plan = stream_of(ImageNetC5000(), root, shifts="published-fog:5,published-frost:5")
    fog = plan.published["published-fog", 5][np.arange(3)][:, 0, 0]
    assert sorted(map(tuple, fog[:, 1:].tolist())) == [(0, 0), (2, 0), (2, 1)]
    np.testing.assert_array_equal(fog[:, 1], plan.truth)


def test_what_is_wrong_with_the_stream_is_told_before_a_model_is_loaded(root: Path) -> None:
    (root / "imagenet-c").mkdir(parents=True)
    with pytest.raises(DataError, match="no folder of a corruption in"):
        load(few(ImageNetC), root, "val")
    corrupted(root / "imagenet-c", ("fog", "snow"), WNIDS[:4])
    for shifts in ("clear", "published-fog:5,rain:3"):
        with pytest.raises(DataError, match=r"imagenet-c holds no clear pictures, which this"):
            stream_of(few(ImageNetC), root, shifts=shifts)
    with pytest.raises(DataError, match=r"domain folder 'fog/3' is missing"):
        stream_of(few(ImageNetC), root, shifts="published-fog:3")
    with pytest.raises(ConfigError, match=r"imagenet-c has no published files of 'fog/5'"):
        ContinualTTA(shifts="published-fog:5").plan(load(few(ImageNetC), root, "fog/5"), 4, 0)
    with pytest.raises(ConfigError, match="use --source imagenet"):
        load(few(ImageNetC), root, "val", source="fog/5")
    next((root / "imagenet-c/snow/5" / WNIDS[2]).iterdir()).unlink()
    with pytest.raises(DataError, match=r"fog/5 and snow/5 hold other pictures: .*0002"):
        stream_of(few(ImageNetC), root, shifts="published-fog:5,published-snow:5")


# --- the flat validation folder ----------------------------------------------------------------


def write_kit(home: Path, numbers: Sequence[int], wnids: Sequence[str]) -> None:
    """Write ground truth and meta.mat as the development kit has them: numbers in its own order."""
    home.mkdir(parents=True)
    text = "".join(f"{number}\n" for number in numbers)
    (home / "ILSVRC2012_validation_ground_truth.txt").write_text(text)
    names = ["ILSVRC2012_ID", "WNID", "words", "num_children"]
    rows = [(i, wnid, "a, b", 0) for i, wnid in enumerate(wnids, start=1)]
    rows.append((1001, "n00001740", "entity", 5))  # synsets above the classes stand there, too
    table = np.array(rows, dtype=[(name, object) for name in names])
    savemat(home / "meta.mat", {"synsets": table})


def flat(home: Path, count: int) -> Path:
    home.mkdir(parents=True)
    for i in range(count):
        (home / f"{VAL.format(i + 1)}.JPEG").write_bytes(picture(i))
    return home


@pytest.mark.parametrize(
    ("kit", "count"),
    [
        ("imagenet/ILSVRC2012_devkit_t12/data", 11),
        pytest.param("ILSVRC2012_devkit_t12/data", 1000, marks=pytest.mark.slow),
    ],
)
def test_flat_validation_with_the_development_kit(kit: str, count: int, root: Path) -> None:
    """The kit's numbers are not the models' outputs: number 1 is here the last of the classes."""
    flat(root / "imagenet" / "val", count)
    kit_order = [*reversed(WNIDS[:count])]
    numbers = [(7 * i) % count + 1 for i in range(count)]
    write_kit(root / kit, numbers, kit_order)
    data = load(few(ImageNet, count), root)
    assert data.classes == WNIDS[:count]
    check_labels(data, [kit_order[number - 1] for number in numbers])


def test_flat_validation_with_the_table_of_kaggle(root: Path) -> None:
    home = root / "imagenet"
    flat(home / "ILSVRC/Data/CLS-LOC/val", 4)
    lines = [f"{VAL.format(i)},{WNIDS[4 - i]} 1 2 3 4 {WNIDS[4 - i]} 5 6 7 8" for i in range(1, 5)]
    (home / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]))
    data = load(few(ImageNet), root)
    check_labels(data, [WNIDS[3 - i] for i in range(4)])


def test_flat_validation_without_its_truth(root: Path) -> None:
    dataset = few(ImageNet)
    flat(root / "imagenet" / "val", 4)
    with pytest.raises(DataError, match=r"their classes are nowhere: put ILSVRC2012_devkit_t12/"):
        load(dataset, root)
    assert any("their classes are nowhere" in line for line in problems(dataset, root))
    kit = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
    write_kit(kit, [1, 2, 3, 4], WNIDS[:4])
    assert problems(dataset, root) == []
    truth = kit / "ILSVRC2012_validation_ground_truth.txt"
    for text, words in (
        ("1\n2\n3\n", "says nothing of .*00000004.JPEG"),
        ("1\n2\n3\n5\n", "line 4: '5'; expected a number of meta.mat"),
        ("1\n2\n3\n²\n", "line 4: '²'; expected a number of meta.mat"),
        ("1\n2\n3\nn0144\n", "line 4: 'n0144'"),
        ("\n", "no lines"),
        ("1\n\n3\n4\n", "line 2: nothing; expected a number"),
    ):
        truth.write_text(text)
        with pytest.raises(DataError, match=words):
            load(dataset, root)
    truth.write_text("1\n2\n3\n4\n")
    (kit / "meta.mat").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"meta\.mat: cannot be read"):
        load(dataset, root)
    (kit / "meta.mat").unlink()
    with pytest.raises(DataError, match=r"meta\.mat is missing"):
        load(dataset, root)


# --- bad cousins -------------------------------------------------------------------------------


def test_look_alikes_are_told(root: Path) -> None:
    fill(root / "imagenet-r", WNIDS_A)
    with pytest.raises(DataError, match="these are the 200 classes of imagenet-a, and not the 200"):
        load(ImageNetR(), root)
    fill(root / "imagenet" / "val", WNIDS_R)
    with pytest.raises(DataError, match="classes of imagenet-r, and not the 1000 of imagenet"):
        load(ImageNet(), root)


def test_another_200_classes(root: Path) -> None:
    """As Tiny-ImageNet, which has 200 of the thousand, too."""
    fill(root / "imagenet-a", WNIDS[100:290])
    with pytest.raises(DataError) as error:
        load(ImageNetA(), root)
    text = str(error.value)
    assert "190 classes, expected 200" in text
    assert "missing class folder: n01498041" in text
    assert "more; extra class folder: " in text
    assert len(text) < 700


def test_missing_and_truncated(root: Path) -> None:
    fill(root / "imagenet-r", WNIDS_R)
    path = next((root / "imagenet-r" / WNIDS_R[5]).iterdir())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=f"cannot decode {path}"):
        load(ImageNetR(), root)
    assert sum(str(path) in line for line in problems(ImageNetR(), root)) == 1
    shutil.rmtree(path.parent)
    with pytest.raises(DataError, match=f"199 classes.*missing class folder: {WNIDS_R[5]}"):
        load(ImageNetR(), root)


def test_nothing_there(root: Path) -> None:
    root.mkdir()
    with pytest.raises(DataError, match="no folder imagenet-r in data root"):
        load(ImageNetR(), root)
    (root / "imagenet-c").mkdir()
    (line,) = ImageNetC().check(root)
    assert "no folder of a domain" in line


# --- pictures of the source, for extras -----------------------------------------------------------


def test_clear_pictures_of_the_source_are_training_pictures_of_the_sets_classes(root: Path) -> None:
    fill(root / "imagenet-r", WNIDS_R)
    fill(root / "imagenet" / "train", (WNIDS[0], WNIDS_R[7], WNIDS_R[2]))
    assert WNIDS[0] not in WNIDS_R
    data = load(ImageNetR(), root)
    assert not data.has_source
    assert data.clear is not None
    found = data.clear()
    assert {
        number_of(found.images[np.array([row])][0]): data.classes[label]
        for row, label in enumerate(found.labels)
    } == {1: WNIDS_R[7], 2: WNIDS_R[2]}
    assert data.clear() is found  # a folder of a million is read once


def test_no_more_of_them_than_extras_take(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "CLEAR_PICTURES", 3)
    for part in ("train", "val"):
        fill(root / "imagenet" / part, WNIDS[:6])
    data = load(few(ImageNet, 6), root)
    assert data.clear is not None
    assert len(data.clear().images) == 3
    assert load(few(ImageNet, 6), root, "train").clear is None  # the target itself


def test_a_stream_of_corruptions_has_them_too(root: Path) -> None:
    corrupted(root / "imagenet-c", ("fog", "snow"), WNIDS[:4])
    plan = stream_of(few(ImageNetC), root, shifts="published-fog:5")
    with pytest.raises(DataError, match=r"training folder.*no folder imagenet or .*'eta' in place"):
        _ = plan.clear_source
    fill(root / "imagenet" / "val", WNIDS[:4])
    with pytest.raises(DataError, match="domain folder 'train' is missing"):
        _ = stream_of(few(ImageNetC), root, shifts="published-fog:5").clear_source
    fill(root / "imagenet" / "train", WNIDS[5:9])
    with pytest.raises(DataError, match="has no folder of imagenet-c's classes"):
        _ = stream_of(few(ImageNetC), root, shifts="published-fog:5").clear_source
    fill(root / "imagenet" / "train", WNIDS[2:4])
    found = stream_of(few(ImageNetC), root, shifts="published-fog:5").clear_source
    assert sorted(found.labels) == [2, 3]


# --- the crop ----------------------------------------------------------------------------------


def test_the_central_square_is_read(root: Path) -> None:
    """A bar at the edge, outside the central .875, is not seen; corrupted ones are not cut."""
    pixels = np.zeros((72, 108, 3), np.uint8)
    pixels[:2] = pixels[-2:] = pixels[:, :18] = pixels[:, -18:] = 255
    for home in ("imagenet-sketch", "imagenet-c/fog/1"):
        folder = root / home / WNIDS[0]
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "a.png")
    cut = load(few(ImageNetSketch, 1), root).target_all
    assert int(cut.images[np.array([0])][0, 1:-1, 1:-1].max()) == 0
    whole = load(few(ImageNetC, 1), root, "fog/1").target_all
    assert int(whole.images[np.array([0])].max()) > 100


@pytest.mark.parametrize("size", [(512, 384), (300, 301), (230, 500), (90, 70), (343, 256)])
def test_the_crop_is_that_of_torchvision(size: tuple[int, int], root: Path) -> None:
    from torchvision.transforms import v2

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    folder = root / "imagenet-sketch" / WNIDS[0]
    folder.mkdir(parents=True)
    image.save(folder / "a.png")
    request = DataRequest("imagenet", "sketch", 224, root, root.parent / "cache")
    found = few(ImageNetSketch, 1).load(request).target_all.images[np.array([0])][0]
    usual = np.asarray(v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(image))
    np.testing.assert_array_equal(found, usual)


def test_every_set_says_where_its_classes_lie_in_a_model() -> None:
    named = {**vars(imagenet), **vars(imagenet_c)}.values()
    sets = [cls for cls in named if isinstance(cls, type) and issubclass(cls, ClassFolder)]
    found = {cls for cls in sets if hasattr(cls, "spec")}
    assert len(found) == 7
    for cls in found:
        assert set(cls.spec.classes) <= set(cls.spec.model_classes)
        assert cls.defaults["target"] in cls.domains
