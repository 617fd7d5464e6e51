"""Class folders on disk: which there are, what lies in them, and which class each one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dabench.datasets.class_folders.splits import comparable_name, printable_name
from dabench.datasets.decoding.picture_files import is_picture
from dabench.errors import DataError

Tree = dict[str, list[Path]]  # class folder -> its image files


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
    """Return the first folder of one of the names: exactly, or else by its comparable form."""
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
    return {sub.name: [p for p in _visible(sub) if is_picture(p)] for sub in folders_in(folder)}


def class_names(*trees: Tree) -> tuple[str, ...]:
    """Return the classes of domains: what the first one has, and what the others have beside.

    In alphabetical order, case ignored. Folders of one domain may differ in case only.
    """
    found: list[str] = []
    for tree in trees:
        known = {comparable_name(name) for name in found}
        found += [printable_name(name) for name in tree if comparable_name(name) not in known]
    return tuple(sorted(dict.fromkeys(found), key=lambda c: (c.lower(), c)))


def match(classes: tuple[str, ...], tree: Tree, *, partial: bool = False) -> tuple[Tree, list[str]]:
    """Return the tree under canonical names, and what is missing, extra, double or empty.

    With ``partial`` a domain may lack classes.
    """
    canonical = {comparable_name(name): name for name in classes}
    matched: Tree = {}
    extra, double = [], []
    for raw, files in tree.items():
        folder = printable_name(raw)
        # an exact name wins: discovered classes may differ in case only
        name = folder if folder in classes else canonical.get(comparable_name(folder))
        if name is None:
            extra.append(folder)
        elif name in matched:
            double.append(folder)
        else:
            matched[name] = files
    missing = [] if partial else [name for name in classes if name not in matched]
    empty = [name for name, files in matched.items() if not files]
    kinds = (
        ("missing class folder", missing),
        ("extra class folder", extra),
        ("second folder of a class", double),
        ("class folder without images", empty),
    )
    return matched, [f"{kind}: {few(names)}" for kind, names in kinds if names]


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
