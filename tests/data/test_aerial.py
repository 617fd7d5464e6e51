"""AID and UC Merced: class folders with one domain, in their public layouts, and bad cousins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.cli import main as cli
from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.class_folders import splits
from dabench.datasets.class_folders.aerial import Aid, Ucm
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.errors import ConfigError, DataError

Maker = Callable[..., Path]
AID, UCM = splits.CLASSES["aid"], splits.CLASSES["ucm"]
SIZE = 16


def load(
    dataset: ClassFolder, root: Path | None, source: str = "clear", target: str = "clear"
) -> DomainData:
    cache = (root or Path("nowhere")).parent / "cache"
    return dataset.load(DataRequest(source, target, SIZE, root, cache))


def as_tiff(root: Path) -> None:
    """Turn every JPEG of a tree into a TIFF."""
    for path in list(root.rglob("*.jpg")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".tif"))
        path.unlink()


LAYOUTS: dict[str, tuple[ClassFolder, str, tuple[str, ...]]] = {
    "aid as published": (Aid(), "AID", AID),
    "aid, lower case": (Aid(), "aid", tuple(c.lower() for c in AID)),
    "aid in a folder of its own": (Aid(), "aid/AID", AID),
    "ucm as published": (Ucm(), "UCMerced_LandUse/Images", UCM),
    "ucm in a folder of its own": (Ucm(), "ucm/UCMerced_LandUse/Images", UCM),
    "ucm": (Ucm(), "ucm", UCM),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_public_layouts(layout: str, make_tree: Maker) -> None:
    dataset, folder, classes = LAYOUTS[layout]
    root = make_tree([folder], classes)
    if dataset.spec.name == "ucm":
        as_tiff(root)
    data = load(dataset, root)
    assert data.classes == splits.CLASSES[dataset.spec.name]
    assert data.source == data.target == "clear"
    assert data.source_train is data.target_all
    assert data.source_val is None
    assert data.splits == {}
    assert data.flip
    assert sorted(data.target_all.labels) == sorted([*range(len(classes))] * 2)
    assert data.target_all.images[np.arange(3)].shape == (3, SIZE, SIZE, 3)
    (line,) = dataset.check(root)  # nothing but the public counts
    assert line.startswith("optional: domain 'clear': ")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pixels_of_tiffs_belong_to_their_label(mode: str, make_tree: Maker) -> None:
    root = make_tree(["ucm"], UCM, per_class=1)
    for i, name in enumerate(UCM):
        (root / "ucm" / name / "frame_0000.jpg").unlink()
        pixels = np.full((20, 24, 3), 10 * i, dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(root / "ucm" / name / f"{name}00.tif")
    data = load(Ucm(), root).target_all
    for row, label in enumerate(data.labels):
        assert set(np.unique(data.images[np.array([row])])) == {10 * label}


def test_order_says_nothing_about_the_class(make_tree: Maker) -> None:
    labels = load(Aid(), make_tree(["AID"], AID, per_class=4)).target_all.labels
    assert np.sum(np.diff(labels) != 0) > 100  # sorted by class there are 29 changes
    assert abs(np.corrcoef(np.arange(len(labels)), labels)[0, 1]) < 0.3


def test_names_and_counts() -> None:
    assert (len(AID), len(UCM)) == (30, 21)
    assert splits.COUNTS["aid"] == {"clear": 10_000}
    assert splits.COUNTS["ucm"] == {"clear": 21 * 100}
    assert {"BareLand", "Viaduct", "Airport"} <= set(AID)
    assert {"agricultural", "tenniscourt", "chaparral"} <= set(UCM)


# --- bad cousins -------------------------------------------------------------------------------


def test_missing_root_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-root.*https://captain-whu"):
        load(Aid(), None)
    with pytest.raises(DataError, match="no folder ucm or UCMerced_LandUse"):
        load(Ucm(), tmp_path)
    (tmp_path / "AID").mkdir()
    with pytest.raises(DataError, match="aid: no class folders in"):
        load(Aid(), tmp_path)
    for root in (None, tmp_path / "absent", tmp_path):
        assert len(Aid().check(root)) == 1


def test_missing_and_extra_class(make_tree: Maker) -> None:
    root = make_tree(["AID"], AID, per_class=1)
    shutil.rmtree(root / "AID" / "Pond")
    (root / "AID" / "Lake").mkdir()
    with pytest.raises(DataError) as error:
        load(Aid(), root)
    for words in ("missing class folder: Pond", "extra class folder: Lake"):
        assert words in str(error.value)
        assert any(words in line for line in Aid().check(root))
    assert "dabench data check aid" in str(error.value)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_broken_tiff(content: bytes | None, make_tree: Maker) -> None:
    root = make_tree(["UCMerced_LandUse/Images"], UCM, per_class=1)
    as_tiff(root)
    path = root / "UCMerced_LandUse/Images/harbor/frame_0000.tif"
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(DataError) as error:
        load(Ucm(), root)
    assert str(path) in str(error.value)
    assert any(str(path) in line for line in Ucm().check(root))


def test_unknown_domain(make_tree: Maker) -> None:
    root = make_tree(["AID"], AID, per_class=1)
    with pytest.raises(ConfigError, match="aid has no domain 'cloudy'"):
        load(Aid(), root, target="cloudy")
    with pytest.raises(ConfigError, match="name --source"):
        load(Aid(), root, source="")


# --- dabench data check --------------------------------------------------------------------------


def test_a_reduced_copy_is_usable(make_tree: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_tree(["aid"], AID, per_class=1)
    words = ["data", "check", "aid", "--data-root", str(root)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "optional: domain 'clear': 30 images, the public set has 10000" in out
    assert "aid: usable" in out
    assert "complete" not in out
    shutil.rmtree(root / "aid" / "River")
    assert cli.main(words) == cli.EXIT_USER


def test_an_empty_copy_is_not(make_tree: Maker) -> None:
    root = make_tree(["aid"], AID, per_class=0)
    lines = Aid().check(root)
    assert not any(line.startswith("optional") for line in lines)
    assert any("0 images" in line for line in lines)
