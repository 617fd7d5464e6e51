"""Class folders on disk: which there are, what lies in them, and which class each one is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dabench.datasets.class_folders.splits import comparable_name
from dabench.errors import DataError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
Tree = dict[str, list[Path]]  # class -> its image files


def folders_in(parent: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted by name."""
    return [p for p in _visible(parent) if p.is_dir() and not p.name.startswith("__")]


def _visible(parent: Path) -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"cannot read folder {parent}: {error.strerror}; mend its rights"
        ) from error


def find_child(parent: Path, names: Iterable[str]) -> Path | None:
    """Return the first folder that has one of the names: exactly, or else as ``same`` compares."""
    there = folders_in(parent)
    for name in names:
        for exactly in (True, False):
            for folder in there:
                if (
                    folder.name == name
                    if exactly
                    else comparable_name(folder.name) == comparable_name(name)
                ):
                    return folder
    return None


def scan(folder: Path) -> Tree:
    """Return class folder name -> sorted image files."""
    return {
        sub.name: [p for p in _visible(sub) if p.suffix.lower() in ENDINGS]
        for sub in folders_in(folder)
    }


def match(classes: tuple[str, ...], tree: Tree) -> tuple[Tree, list[str]]:
    """Return the tree under canonical names, and what is missing, extra, double or empty."""
    canonical = {comparable_name(name): name for name in classes}
    matched: Tree = {}
    extra, double = [], []
    for folder, files in tree.items():
        # an exact name wins: discovered classes may differ in case only
        name = folder if folder in classes else canonical.get(comparable_name(folder))
        if name is None:
            extra.append(folder)
        elif name in matched:
            double.append(folder)
        else:
            matched[name] = files
    missing = [name for name in classes if name not in matched]
    empty = [name for name, files in matched.items() if not files]
    kinds = (
        ("missing class folder", missing),
        ("extra class folder", extra),
        ("second folder of a class", double),
        ("class folder without images", empty),
    )
    return matched, [f"{kind}: {', '.join(names)}" for kind, names in kinds if names]
