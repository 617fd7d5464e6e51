"""Sets by lists (DomainNet-126, ImageCLEF, VisDA's test part) and further aerial sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.class_folders import splits
from dabench.datasets.class_folders.aerial import Aid, EuroSat, Resisc45, Rsscn7, Ucm, WhuRs19
from dabench.datasets.class_folders.aerial_shared import (
    SHARED,
    SPECS,
    AerialShared,
    shared_classes,
)
from dabench.datasets.class_folders.class_folder import (
    DomainNet126,
    ImageClef,
    OfficeCaltech10,
    VisdaC,
)
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.errors import ConfigError, DataError

Maker = Callable[..., Path]
SIZE = 8
NAMES = splits.CLASSES["domainnet126"]
ROOT = Path(__file__).parents[2]


def load(
    dataset: ClassFolder, root: Path, source: str | None = None, target: str | None = None
) -> DomainData:
    names = source or dataset.defaults["source"], target or dataset.defaults["target"]
    return dataset.load(DataRequest(*names, SIZE, root, root.parent / "cache"))


def problems(dataset: ClassFolder, root: Path) -> list[str]:
    """What is wrong but for counts."""
    lines = dataset.check(root)
    return [x for x in lines if not x.startswith("optional") and "public set has" not in x]


# --- DomainNet-126 -----------------------------------------------------------------------------


def domainnet(make_tree: Maker, start: str = "") -> Path:
    """Two domains with all of their folders; the lists leave one class and half the files out."""
    root = make_tree(["domainnet126/real", "domainnet126/clipart"], [*NAMES, "zigzag"])
    for domain in ("real", "clipart"):
        lines = [
            f"{start}{domain}/{name}/frame_0000.jpg {number}\n" for number, name in enumerate(NAMES)
        ]
        (root / "domainnet126" / f"{domain}_list.txt").write_text("".join(reversed(lines)))
    return root


def test_domainnet_reads_what_its_lists_name(make_tree: Maker) -> None:
    data = load(DomainNet126(), domainnet(make_tree))
    assert data.classes == NAMES
    assert (NAMES[30], NAMES[31], NAMES[115]) == ("cello", "cell_phone", "The_Eiffel_Tower")
    assert sorted(data.target_all.labels) == list(range(126))
    assert len(data.source_train.labels) == 126


def test_lists_may_begin_on_another_machine(make_tree: Maker) -> None:
    root = domainnet(make_tree, start="/home/real/data/domainnet/")
    assert len(load(DomainNet126(), root).source_train.labels) == 126


def test_domainnet_without_lists_is_another_set(make_tree: Maker) -> None:
    root = domainnet(make_tree)
    place = root / "domainnet126" / "clipart_list.txt"
    lines = place.read_text().splitlines()
    for text, words in (
        (lines[0], r"1 classes, expected 126; missing class folder: aircraft_carrier, .* more"),
        (
            "clipart/ant/frame_0000.jpg 3",
            "class 3 is anvil, and the picture lies in the folder ant",
        ),
        ("clipart/ant/frame_0000.jpg 200", "expected a path and a class number from 0 to 125"),
        ("clipart/ant/frame_0000.jpg", "line 1: "),
        ("clipart/ant/frame_0007.jpg 2", r"1 of its 1 pictures are not there: .*frame_0007\.jpg"),
        (f"{lines[0]}\n{lines[0]}", r"stand\(s\) there twice"),
        ("", "no lines"),
    ):
        place.write_text(text)
        with pytest.raises(DataError, match=words) as error:
            load(DomainNet126(), root)
        assert "dabench data check domainnet126" in str(error.value)
        assert "\n" not in str(error.value)
    place.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        load(DomainNet126(), root)
    place.unlink()
    with pytest.raises(DataError, match=r"no list clipart_list\.txt in .*put it there"):
        load(DomainNet126(), root)
    assert any("no list clipart_list.txt" in line for line in problems(DomainNet126(), root))


# --- other lists -------------------------------------------------------------------------------


def test_image_clef_by_its_lists(make_tree: Maker) -> None:
    root = make_tree([f"image_CLEF/{d}" for d in "ip"], ["x"], per_class=12)
    home = root / "image_CLEF"
    (home / "list").mkdir()
    for letter in "ip":
        for i, path in enumerate(sorted((home / letter / "x").iterdir())):
            path.rename(home / letter / f"{i}.jpg")
        (home / letter / "x").rmdir()
        text = "".join(f"{letter}/{i}.jpg {(i + 3) % 12}\n" for i in range(12))
        (home / "list" / f"{letter}List.txt").write_text(text)
    data = load(ImageClef(), root)
    assert (data.source, data.target) == ("imagenet", "pascal")
    assert sorted(data.target_all.labels) == list(range(12))
    with pytest.raises(DataError, match="domain folder 'bing' is missing"):
        load(ImageClef(), root, "bing")
    shutil.rmtree(home / "list")
    with pytest.raises(DataError, match=r"no list list/iList\.txt or iList\.txt or i_list\.txt"):
        load(ImageClef(), root, target="imagenet")


def test_image_clef_in_class_folders(make_tree: Maker) -> None:
    names = splits.CLASSES["image-clef"]
    root = make_tree(["ImageCLEF/I", "ImageCLEF/P"], names, per_class=1)
    assert load(ImageClef(), root).classes == names


def test_the_test_part_of_visda(make_tree: Maker) -> None:
    names = splits.CLASSES["visda-c"]
    root = make_tree(["visda-c/train", "visda-c/validation"], names, per_class=1)
    assert not any("'test'" in line for line in problems(VisdaC(), root))
    trunk = root / "visda-c/test/trunk00"
    trunk.mkdir(parents=True)
    for i in range(12):
        shutil.copy(root / f"visda-c/train/{names[i]}/frame_0000.jpg", trunk / f"{i}.jpg")
    with pytest.raises(DataError, match=r"no list test/image_list\.txt"):
        load(VisdaC(), root, target="test")
    lines = "".join(f"trunk00/{i}.jpg {i}\n" for i in range(12))
    (trunk.parent / "image_list.txt").write_text(lines)
    data = load(VisdaC(), root, target="test")
    assert data.target == "test"
    for row, label in enumerate(data.target_all.labels):
        picture = data.target_all.images[np.array([row])]
        (same,) = np.flatnonzero(data.source_train.labels == label)
        np.testing.assert_array_equal(picture, data.source_train.images[np.array([same])])


def test_office_caltech(make_tree: Maker) -> None:
    names = splits.CLASSES["office-caltech10"]
    domains = [f"office_caltech_10/{d}" for d in ("amazon", "caltech", "dslr", "webcam")]
    root = make_tree(domains, names, per_class=1)
    data = load(OfficeCaltech10(), root, target="caltech")
    assert data.classes == splits.SPLITS["office31"]["default"].known
    assert problems(OfficeCaltech10(), root) == []


def test_office31_is_no_office_caltech(make_tree: Maker) -> None:
    root = make_tree(["office/amazon"], splits.CLASSES["office31"], per_class=1)
    (root / "office").rename(root / "office-caltech10")
    with pytest.raises(DataError, match=r"31 classes, expected 10; extra class folder: bike_hel"):
        load(OfficeCaltech10(), root, target="amazon")


# --- aerial sets -------------------------------------------------------------------------------

AERIAL: dict[str, tuple[ClassFolder, str, int]] = {
    "resisc45": (Resisc45(), "NWPU-RESISC45", 45),
    "eurosat": (EuroSat(), "eurosat/2750", 10),
    "eurosat, newer archive": (EuroSat(), "EuroSAT_RGB", 10),
    "whu-rs19": (WhuRs19(), "WHU-RS19", 19),
    "rsscn7": (Rsscn7(), "RSSCN7", 7),
}


@pytest.mark.parametrize("layout", AERIAL)
def test_aerial_layouts(layout: str, make_tree: Maker) -> None:
    dataset, folder, count = AERIAL[layout]
    names = splits.CLASSES[dataset.spec.name]
    assert len(names) == count
    root = make_tree([folder], names, per_class=1)
    data = load(dataset, root)
    assert data.classes == names
    assert data.source == data.target == "clear"
    assert problems(dataset, root) == []
    path = root / folder / names[1] / "frame_0000.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert [line for line in problems(dataset, root) if str(path) in line]
    shutil.rmtree(root / folder / names[0])
    with pytest.raises(DataError, match=f"{count - 1} classes, expected {count}; missing class"):
        load(dataset, root)


def test_the_table_of_shared_classes_names_folders_that_there_are() -> None:
    for name, folders in SHARED.items():
        assert len(folders) > 1 or name == "church" or "-" in name, f"{name} is shared by nobody"
        for place, own in folders.items():
            assert set(own) <= set(splits.CLASSES[place]), (name, place)


def test_no_folder_is_in_two_shared_classes() -> None:
    for source in SPECS:
        for target in SPECS:
            for place in (source, target):
                names = shared_classes(source, target)
                assert names == shared_classes(target, source)
                folders = [folder for name in names for folder in SHARED[name][place]]
                assert len(folders) == len(set(folders))
    assert "residential" not in shared_classes("aid", "ucm")
    assert {"residential", "farmland"} <= set(shared_classes("aid", "rsscn7"))


def test_the_docs_have_the_table_as_it_is() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text()
    for name, folders in SHARED.items():
        cells = [" + ".join(folders.get(place, ("–",))) for place in SPECS]
        assert f"| {' | '.join((name, *cells))} |" in text
    for source in SPECS:
        for target in SPECS:
            if source < target:
                assert f"{source}–{target} {len(shared_classes(source, target))}" in text


def test_two_aerial_sets_over_their_shared_classes(make_tree: Maker) -> None:
    root = make_tree(["AID"], splits.CLASSES["aid"], per_class=1)
    make_tree(["RSSCN7"], splits.CLASSES["rsscn7"], per_class=2)
    data = load(AerialShared(), root, "aid", "rsscn7")
    assert data.classes == shared_classes("aid", "rsscn7")
    counts = np.bincount(data.source_train.labels)
    assert counts[data.classes.index("residential")] == 3  # of three densities
    assert counts.sum() == len(data.classes) + 2
    assert len(data.target_all.labels) == 2 * len(data.classes)
    assert problems(AerialShared(), root) == []
    with pytest.raises(ConfigError, match="did you mean 'rsscn7'"):
        load(AerialShared(), root, "aid", "rsscn")
    with pytest.raises(DataError, match="ucm: no folder ucm or UCMerced_LandUse"):
        load(AerialShared(), root, "aid", "ucm")
    shutil.rmtree(root / "RSSCN7" / "eForest")
    with pytest.raises(DataError, match=r"rsscn7: 6 classes, expected 7; missing .* eForest"):
        load(AerialShared(), root, "aid", "rsscn7")
    assert any("rsscn7: domain 'clear': 6 classes" in x for x in problems(AerialShared(), root))
    shutil.rmtree(root / "RSSCN7")
    assert any("1 of the sets" in line for line in problems(AerialShared(), root))


def test_aid_and_ucm_are_their_own_cards() -> None:
    assert {"aid", "ucm"} <= set(SPECS)
    assert SPECS["aid"] is Aid.spec
    assert SPECS["ucm"] is Ucm.spec
