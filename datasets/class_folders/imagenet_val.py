"""The validation pictures of ImageNet: in class folders, or flat with their ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dabench.datasets.class_folders.folder_tree import Tree, scan
from dabench.datasets.class_folders.picture_lists import list_lines
from dabench.datasets.decoding.lists import read_table
from dabench.datasets.decoding.picture_files import is_picture
from dabench.errors import DataError, reason_of

#: the development kit (``ILSVRC2012_devkit_t12.tar.gz``), and the table that comes from Kaggle
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_TABLE = "LOC_val_solution.csv"
_KITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", "")


def read_validation(folder: Path) -> Tree:
    """Return the pictures by class (WordNet number).

    The numbers of the development kit are not the models' outputs: its ``meta.mat`` says which
    WordNet number each of them is.

    Raises:
        DataError: flat pictures without their ground truth, or one that does not fit.
    """
    tree = scan(folder)
    if tree:
        return tree
    pictures = sorted(path for path in folder.iterdir() if is_picture(path))
    if not pictures:
        return {}
    place, truth = _ground_truth(folder)
    found: Tree = {}
    for path in pictures:
        if (wnid := truth.get(path.stem)) is None:
            raise DataError(f"{place} says nothing of {path}; expected ILSVRC2012_val_00000001 ...")
        found.setdefault(wnid, []).append(path)
    return found


def _ground_truth(folder: Path) -> tuple[Path, Mapping[str, str]]:
    """Return the file that was read, and a picture's name without ending -> WordNet number."""
    around = [folder, *folder.parents[:4]]  # Kaggle's pictures lie four folders below its table
    for parent in around:
        if (table := parent / _TABLE).is_file():
            rows = read_table(table, ("ImageId", "PredictionString"), f"{_TABLE} of Kaggle")
            return table, {
                row["ImageId"]: row["PredictionString"].split(" ")[0].strip() for row in rows
            }
        for kit in _KITS:
            if (truth := parent / kit / _TRUTH).is_file():
                return truth, _of_kit(truth)
    raise DataError(
        f"{folder} holds pictures without class folders, and their classes are nowhere: put "
        f"ILSVRC2012_devkit_t12/ (with data/{_TRUTH} and data/{_META}) or {_TABLE} beside it"
    )


def _of_kit(truth: Path) -> dict[str, str]:
    wnids = _wnid_of_number(truth.with_name(_META))
    found: dict[str, str] = {}
    for picture, (number, line) in enumerate(list_lines(truth), start=1):
        if picture != number:  # a line's number is its picture's
            raise DataError(f"{truth}, line {picture}: nothing; expected a number of {_META}")
        if not (line.isascii() and line.isdigit()) or int(line) not in wnids:
            raise DataError(f"{truth}, line {number}: '{line[:40]}'; expected a number of {_META}")
        found[f"ILSVRC2012_val_{number:08d}"] = wnids[int(line)]
    return found


def _wnid_of_number(place: Path) -> dict[int, str]:
    """Return ILSVRC2012_ID -> WordNet number of the classes, which are synsets without children."""
    from scipy.io import loadmat

    if not place.is_file():
        raise DataError(f"{place} is missing: it says which class a number of {_TRUTH} is")
    try:
        table: Any = loadmat(place, squeeze_me=True)["synsets"]
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table if not row["num_children"]
        }
    except (
        Exception
    ) as error:  # scipy's reader raises whatever a damaged file makes it stumble over
        raise DataError(
            f"{place}: cannot be read ({reason_of(error)}); expected that of "
            "ILSVRC2012_devkit_t12.tar.gz"
        ) from error
