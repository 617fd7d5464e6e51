"""What ``dabench data check`` says of a set in class folders; every image is really decoded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from dabench.datasets.arrays.checksums import differing_archives
from dabench.datasets.caching.image_build import QUIET
from dabench.datasets.class_folders.folder_spec import DomainTree, Spec
from dabench.datasets.class_folders.folder_tree import Tree, class_names, few, folders_in
from dabench.datasets.class_folders.own_splits import own_splits
from dabench.datasets.class_folders.splits import comparable_name
from dabench.datasets.decoding.images import read_picture
from dabench.datasets.decoding.picture_files import describe_left_out
from dabench.errors import ConfigError, DataError, one_line

#: how many times the images of the smallest class the largest may have
_IMBALANCE = 100


class Found(NamedTuple):
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
    problems = differing_archives((home.parent, home), spec.archives)
    found: list[DomainTree] = []
    there = spec.domains or spec.discover(home)
    present = spec.present(home)
    absent = [name for name in spec.optional if name not in present]
    if absent and len(absent) == len(there):
        return [f"{spec.name}: no folder of a domain in {home} ({spec.where})"]
    for folder in there:
        if folder in absent:
            continue
        try:
            found.append(spec.tree(home, folder))
        except (DataError, ConfigError) as error:
            problems.append(str(error))
    trees = {domain.name: domain.tree for domain in found}
    if absent:
        problems.append(f"optional: {len(absent)} domain(s) not there: {few(absent, 3)}")
    if not spec.domains:
        for other in folders_in(home):
            if other.name not in there:
                lines = describe_left_out(other, ())
                problems += [f"optional: no domain '{other.name}': {line}" for line in lines]
        problems += _usable_for(home, trees)
    classes = spec.classes or class_names(*trees.values())
    same: dict[str, list[Found]] = defaultdict(list)
    for domain in found:
        problems += _check_classes(spec, domain, classes)
        problems += decode_all(domain.name, domain.tree, same)
    return problems + duplicates([group for group in same.values() if len(group) > 1])


def _usable_for(home: Path, trees: dict[str, Tree]) -> list[str]:
    """Return which protocols a user's own folders serve, and what is missing for the others."""
    if not trees:
        return [f"{home} has no domain folder with class folders of images (domain/class/*.jpg)"]
    if len(trees) == 1:
        (only,) = trees
        return [
            f"optional: one domain: it serves the streams, whose shift is weather (--source {only} "
            f"--target {only}); every other protocol needs a second domain folder"
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


def left_out(spec: Spec, domain: DomainTree) -> list[str]:
    """Return a line for each reason why files of a domain are not read."""
    files = [path for paths in domain.tree.values() for path in paths]
    if spec.listed or not files:
        return []
    lines = describe_left_out(domain.folder, files)
    return [f"domain '{domain.name}': {line}" for line in lines]


def _check_classes(spec: Spec, domain: DomainTree, classes: tuple[str, ...]) -> list[str]:
    at, tree = f"domain '{domain.name}'", domain.tree
    matched, wrong = spec.match(classes, tree)
    problems = [f"{at}: {line}" for line in wrong]
    total = sum(map(len, tree.values()))
    public = spec.counts.get(domain.name)
    if public is not None and total != public:
        reduced = "optional: " if (spec.single or spec.trained_on) and total else ""
        problems.append(f"{reduced}{at}: {total} images, the public set has {public}")
    problems += [f"optional: {line}" for line in left_out(spec, domain)]
    if twins := _twins(matched):
        problems.append(
            f"optional: {at}: names that differ in case or ending only: {few(twins, 3)}"
        )
    counts = {name: len(files) for name, files in matched.items() if files}
    if single := [name for name, count in counts.items() if count == 1]:
        problems.append(
            f"optional: {at}: a single image of {few(single, 3)}: too few to hold any out"
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


def decode_all(domain: str, tree: Tree, same: dict[str, list[Found]]) -> list[str]:
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
        same[pixels].append(Found(domain, folder, path))
    return problems


def duplicates(groups: Sequence[Sequence[Found]]) -> list[str]:
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
        f"optional: {len(found)} picture(s) {kind}, pixel by pixel: {few(found, 3)}"
        for kind, found in kinds.items()
    ]
