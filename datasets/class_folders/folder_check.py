"""What ``dabench data check`` says of a set in class folders; every image is really decoded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from dabench.datasets.caching.image_build import QUIET
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.folder_tree import Tree, class_names, folders_in, match
from dabench.datasets.class_folders.own_splits import own_splits
from dabench.datasets.class_folders.splits import comparable_name
from dabench.datasets.decoding.images import read_picture
from dabench.datasets.decoding.picture_files import describe_left_out
from dabench.errors import ConfigError, DataError, one_line

#: how many times the images of the smallest class the largest may have
_IMBALANCE = 100


class _Found(NamedTuple):
    """A picture: which domain and class folder it lies in, and the file."""

    domain: str
    folder: str
    path: Path

    def __str__(self) -> str:
        return f"{self.domain}/{self.folder}/{self.path.name}"


def check_folder(spec: Spec, data_root: Path | None) -> list[str]:
    """Return the problems of the folder, one line each; ``optional`` where it is usable so."""
    try:
        home = spec.home(data_root)
    except DataError as error:
        return [str(error)]
    problems = []
    trees: dict[str, Tree] = {}
    there = spec.domains or spec.discover(home)
    for folder in there:
        try:
            domain, tree = spec.tree(home, folder)
            trees[domain] = tree
        except (DataError, ConfigError) as error:
            problems.append(str(error))
    if not spec.domains:
        for other in folders_in(home):
            if other.name not in there:
                lines = describe_left_out(other, ())
                problems += [f"optional: no domain '{other.name}': {line}" for line in lines]
        problems += _usable_for(home, trees)
    classes = spec.classes or class_names(*trees.values())
    same: dict[str, list[_Found]] = defaultdict(list)
    for domain, tree in trees.items():
        problems += _check_classes(spec, domain, classes, tree)
        problems += _decode_all(domain, tree, same)
    return problems + _duplicates([found for found in same.values() if len(found) > 1])


def _usable_for(home: Path, trees: dict[str, Tree]) -> list[str]:
    """Return which protocols a user's own folders serve, and what is missing for the others."""
    if not trees:
        return [f"{home} has no domain folder with class folders of images (domain/class/*.jpg)"]
    if len(trees) == 1:
        (only,) = trees
        return [
            f"optional: one domain: it serves the streams, whose shift is weather (--source {only} "
            f"--target {only}); sf-uda, sf-osda and bb-uda need a second domain folder"
        ]
    lines = []
    names = {domain: {*map(comparable_name, tree)} for domain, tree in trees.items()}
    for source, has in names.items():
        for target, wants in names.items():
            further = len(wants - has)
            if further:
                lines.append(
                    f"optional: {source} to {target}: {further} class(es) that the source has not: "
                    "an open set for sf-osda; sf-uda and bb-uda refuse it"
                )
    try:
        own_splits(home / "splits.yaml", class_names(*trees.values()))
    except DataError as error:
        lines.append(str(error))
    return lines


def left_out(domain: str, tree: Tree) -> list[str]:
    """Return a line for each reason why files of a domain are not read."""
    files = [path for paths in tree.values() for path in paths]
    lines = describe_left_out(files[0].parent.parent, files) if files else []
    return [f"domain '{domain}': {line}" for line in lines]


def _check_classes(spec: Spec, domain: str, classes: tuple[str, ...], tree: Tree) -> list[str]:
    at = f"domain '{domain}'"
    matched, wrong = match(classes, tree, partial=not spec.classes)
    problems = [f"{at}: {line}" for line in wrong]
    total = sum(map(len, tree.values()))
    public = spec.counts.get(domain)
    if public is not None and total != public:
        reduced = "optional: " if spec.single and total else ""
        problems.append(f"{reduced}{at}: {total} images, the public set has {public}")
    problems += [f"optional: {line}" for line in left_out(domain, tree)]
    if twins := _twins(matched):
        problems.append(f"optional: {at}: names that differ in case or ending only: {_few(twins)}")
    counts = {name: len(files) for name, files in matched.items() if files}
    if single := [name for name, count in counts.items() if count == 1]:
        problems.append(
            f"optional: {at}: a single image of {_few(single)}: too few to hold any out"
        )
    if counts and max(counts.values()) > _IMBALANCE * min(counts.values()):
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        problems.append(
            f"optional: {at}: from {counts[least]} ({least}) to {counts[most]} ({most}) images a "
            "class; look at the mean over classes rather than at the accuracy"
        )
    return problems


def _twins(tree: Tree) -> list[str]:
    """Return files of a class that may be the same image, saved twice."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, files in tree.items():
        for path in files:
            found[name, path.stem.casefold()].append(f"{name}/{path.name}")
    return [" = ".join(names[:3]) for names in found.values() if len(names) > 1]


def _decode_all(domain: str, tree: Tree, same: dict[str, list[_Found]]) -> list[str]:
    """Return what cannot be decoded; sort the others into ``same`` by their pixels."""
    problems = []
    files = [(folder, path) for folder, paths in tree.items() for path in paths]
    title = one_line(f"checking {domain}")
    for folder, path in tqdm(files, desc=title, disable=len(files) <= QUIET or None):
        try:
            picture, _ = read_picture(path)
        except DataError as error:
            problems.append(f"domain '{domain}': {error}")
            continue
        pixels = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
        same[pixels].append(_Found(domain, folder, path))
    return problems


def _duplicates(groups: Sequence[Sequence[_Found]]) -> list[str]:
    """Return a line for each kind of pictures that are there more than once."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        shown = " = ".join(map(str, group[:3]))
        classes = {comparable_name(found.folder) for found in group}
        domains = {found.domain for found in group}
        if len(classes) > 1:
            kinds["under two classes"].append(shown)
        if len(domains) > 1:
            kinds["in two domains"].append(shown)
        if len(classes) == len(domains) == 1:
            kinds["twice in a class"].append(shown)
    return [
        f"optional: {len(found)} picture(s) {kind}, pixel by pixel: {_few(found)}"
        for kind, found in kinds.items()
    ]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
