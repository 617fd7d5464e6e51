"""Domains whose classes are told by a list of pictures, and not by folders alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from dabench.datasets.class_folders.folder_tree import Tree, few, scan
from dabench.datasets.class_folders.splits import comparable_name
from dabench.errors import DataError, one_line, reason_of

Reader = Callable[[Path], Tree]


def by_list(
    patterns: Sequence[str], classes: Sequence[str], *, folders_will_do: bool = False
) -> Reader:
    """Return a reader of ``path number`` lists, as papers' authors publish them.

    A path may begin anywhere, as on the authors' machines: what follows the domain folder's name
    counts, or all of it where that name does not occur.

    Args:
        patterns: of the list's place from the folder around the domain on; ``{domain}`` is the
            domain folder's name. The first that is there is read.
        classes: in the order of their numbers.
        folders_will_do: where the domain has class folders, those are read in place of a list.
    """

    numbers = {comparable_name(name): i for i, name in enumerate(classes)}

    def read(folder: Path) -> Tree:
        tree = scan(folder) if folders_will_do else {}
        if any(comparable_name(name) in numbers for name in tree):
            return tree
        tried = [pattern.format(domain=folder.name) for pattern in patterns]
        place = next((p for p in (folder.parent / name for name in tried) if p.is_file()), None)
        if place is None:
            raise DataError(
                f"no list {' or '.join(tried)} in {folder.parent}, which says which pictures of "
                f"{folder.name} count and what their classes are; put it there"
            )
        found: Tree = {}
        for number, line in list_lines(place):
            path, _, label = line.replace("\t", " ").rpartition(" ")
            known = path and label.isascii() and label.isdigit() and int(label) < len(classes)
            if not known:
                raise DataError(
                    f"{place}, line {number}: '{one_line(line, 80)}'; expected a path and a class "
                    f"number from 0 to {len(classes) - 1}"
                )
            within = PurePosixPath(path.strip()).parent.name
            if numbers.get(comparable_name(within), int(label)) != int(label):
                raise DataError(
                    f"{place}, line {number}: class {label} is {classes[int(label)]}, and the "
                    f"picture lies in the folder {one_line(within, 60)}; get the list of this set"
                )
            found.setdefault(classes[int(label)], []).append(_below(folder, path.strip()))
        return all_there(place, found)

    return read


def by_ids(name: str) -> Reader:
    """Return a reader of those pictures in class folders that a list of ``class/file`` names.

    Args:
        name: of the list, which lies in one of the three folders around the domain.
    """

    def read(folder: Path) -> Tree:
        around = folder.parents[:3]
        place = next((parent / name for parent in around if (parent / name).is_file()), None)
        if place is None:
            raise DataError(
                f"no list {name} in {' or '.join(map(str, around))}, which says which pictures "
                "count; put it there"
            )
        found: Tree = {}
        for number, line in list_lines(place):
            path = PurePosixPath(line)
            if len(path.parts) != 2 or ".." in path.parts:
                raise DataError(
                    f"{place}, line {number}: '{one_line(line, 80)}'; expected class/file"
                )
            found.setdefault(path.parts[0], []).append(folder / path)
        return all_there(place, found)

    return read


def by_number(classes: Sequence[str]) -> Reader:
    """Return a reader of class folders that are called by the numbers 0, 1, 2 of their classes.

    Sorted as text, as folders usually are, 10 would come before 2.
    """

    def read(folder: Path) -> Tree:
        return {
            classes[int(name)] if name.isdecimal() and int(name) < len(classes) else name: paths
            for name, paths in scan(folder).items()
        }

    return read


def list_lines(place: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that hold something, stripped, with their numbers from 1.

    Raises:
        DataError: it cannot be read, is no UTF-8, or holds nothing.
    """
    try:
        lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)})") from None
    if not any(lines):
        raise DataError(f"{place}: no lines; get the list again")
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def all_there(place: Path, tree: Tree) -> Tree:
    """Return a list's pictures, sorted by name, if all are there.

    Raises:
        DataError: some are not, or stand there twice.
    """
    paths = [path for paths in tree.values() for path in paths]
    if gone := [str(path) for path in paths if not path.is_file()]:
        raise DataError(
            f"{place}: {len(gone)} of its {len(paths)} pictures are not there: {few(gone, 2)}"
        )
    if twice := [str(path) for path, count in Counter(paths).items() if count > 1]:
        raise DataError(f"{place}: {few(twice, 2)} stand(s) there twice")
    return {name: sorted(found) for name, found in tree.items()}


def _below(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    own = comparable_name(folder.name)
    same = [i for i, part in enumerate(parts[:-1]) if comparable_name(part) == own]
    return folder.joinpath(*parts[same[-1] + 1 :]) if same else folder / path.lstrip("/")
