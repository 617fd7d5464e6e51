"""Images by a list: a CSV or Parquet file of paths, labels and domains."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.datasets.caching.image_build import Entry
from dabench.datasets.caching.image_cache import load_images
from dabench.datasets.class_folders.class_folder import ImageFolder
from dabench.datasets.class_folders.folder_check import Found, decode_all, duplicates
from dabench.datasets.class_folders.folder_tree import Tree, class_names
from dabench.datasets.class_folders.own_splits import splits_between
from dabench.datasets.class_folders.splits import comparable_name
from dabench.datasets.decoding.lists import read_table
from dabench.errors import ConfigError, DataError, did_you_mean, one_line

_COLUMNS = ("path", "label", "domain")
_SPLITS = ("", "train", "val")
_FORM = "a table with the columns path, label, domain and, if you like, split (train or val)"


class Row(NamedTuple):
    """A picture of the list."""

    path: str
    label: str
    domain: str
    split: str


class Manifest:
    """Pictures by a list of your own: ``--data-root list.csv`` (or .parquet), or a folder with
    ``manifest.csv``.

    Columns: ``path`` (from the list's folder on, or absolute), ``label``, ``domain`` and, if you
    like, ``split``: rows ``val`` of the source tell the source model's accuracy and are not trained
    on. Classes and open-set splits are those of ``image-folder``, ``splits.yaml`` included.
    """

    domains: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = ImageFolder.defaults

    def load(self, request: DataRequest) -> DomainData:
        """Return the two domains.

        Raises:
            ConfigError: an unknown domain, or a useless image size.
            DataError: no list, one of another form, missing files, files or columns twice, a name
                in two spellings, a bad image.
            CacheError: the image cache cannot be written.
        """
        if request.image_size < 8:
            raise ConfigError(f"--image-size {request.image_size}: expected at least 8 pixels")
        place = _place(request.data_root)
        rows = _rows(place)
        _check_rows(place, rows)
        named = _by_domain(rows)
        known = {comparable_name(name): name for name in named}
        names = []
        for option, given in (("source", request.source), ("target", request.target)):
            name = known.get(comparable_name(str(given)))
            if name is None:
                near = did_you_mean(str(given), named)
                raise ConfigError(f"--{option} '{one_line(given, 60)}': no such domain{near}")
            names.append(name)
        source, target = (named[name] for name in names)
        classes = class_names(_tree(place, source), _tree(place, target))
        canonical = {comparable_name(name): name for name in classes}
        source, target = (
            [row._replace(label=canonical[comparable_name(row.label)]) for row in part]
            for part in (source, target)
        )

        def images(domain: str, part: Sequence[Row], what: str = "") -> Labelled:
            entries = [
                Entry(
                    f"{domain}/{row.label}/{row.path}",
                    place.parent / row.path,
                    classes.index(row.label),
                )
                for row in part
            ]
            return load_images(
                "manifest", domain + what, entries, request.image_size, request.cache_dir
            )

        held = [row for row in source if row.split == "val"]
        trained = [row for row in source if row.split != "val"]
        if held and trained and names[0] == names[1]:
            raise DataError(
                f"{place}: {len(held)} rows of '{names[0]}' are val, and where one domain is source"
                " and target the protocol draws who is trained on; leave split out"
            )
        if not trained:
            raise DataError(f"{place}: all rows of '{names[0]}' are val; none to train on")
        own, others = ({r.label for r in part} for part in (trained, target))
        return DomainData(
            dataset="manifest",
            source=names[0],
            target=names[1],
            classes=classes,
            image_size=request.image_size,
            source_train=images(names[0], trained),
            source_val=images(names[0], held, "-val") if held else None,
            target_all=images(names[1], target),
            splits=splits_between(
                place.parent / "splits.yaml",
                tuple(name for name in classes if name in own),
                tuple(name for name in classes if name in others),
            ),
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the list, one line each; every image is really decoded."""
        try:
            place = _place(data_root)
            rows = _rows(place)
            _check_rows(place, rows)
        except DataError as error:
            return [str(error)]
        problems = []
        same: dict[str, list[Found]] = defaultdict(list)
        domains = _by_domain(rows)
        for name, part in domains.items():
            problems += decode_all(name, _tree(place, part), same)
        problems += duplicates([group for group in same.values() if len(group) > 1])
        if len(domains) == 1:
            (only,) = domains
            problems.append(
                f"optional: one domain: it serves the streams, whose shift is weather (--source "
                f"{only} --target {only}); every other protocol needs a second one"
            )
        return problems


def _place(root: Path | None) -> Path:
    if root is None:
        raise DataError(f"manifest: no list; give --data-root list.csv: {_FORM}")
    place = root / "manifest.csv" if root.is_dir() else root
    if not place.is_file():
        raise DataError(f"manifest: there is no file {place}; expected {_FORM}")
    return place


def _rows(place: Path) -> list[Row]:
    """Read the list."""
    found = read_table(place, _COLUMNS, _FORM)
    return [Row(*(row.get(name, "") for name in (*_COLUMNS, "split"))) for row in found]


def _by_domain(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.domain].append(row)
    return found


def _tree(place: Path, rows: Sequence[Row]) -> Tree:
    """Return the pictures of a domain by label."""
    tree: Tree = defaultdict(list)
    for row in rows:
        tree[row.label].append(place.parent / row.path)
    return tree


def _check_rows(place: Path, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows, start=2):  # the first line has the names
        if not (row.path and row.label and row.domain):
            raise DataError(f"{place}, line {number}: an empty path, label or domain; fill it in")
        if row.split not in _SPLITS:
            raise DataError(
                f"{place}, line {number}: split '{one_line(row.split, 40)}'; expected train, val "
                "or nothing"
            )
    domains = _by_domain(rows)
    _check_names(place, "domain", domains)
    for part in domains.values():
        _check_names(place, "label", dict.fromkeys(row.label for row in part))
    gone = [row.path for row in rows if not (place.parent / row.path).is_file()]
    if gone:
        raise DataError(
            f"{place}: {_listed(gone)}: no such file from {place.parent} on; mend the paths"
        )
    files = Counter((os.path.realpath(place.parent / row.path), row.domain) for row in rows)
    twice = [path for (path, _), n in files.items() if n > 1]
    if twice:
        raise DataError(f"{place}: {_listed(twice)} stand(s) there twice; keep one row of each")


def _check_names(place: Path, what: str, names: Iterable[str]) -> None:
    """Refuse two spellings of one name: whether they are one or two, only the user knows."""
    known: dict[str, str] = {}
    for name in names:
        first = known.setdefault(comparable_name(name), name)
        if first != name:
            raise DataError(
                f"{place}: the {what}s '{one_line(first, 60)}' and '{one_line(name, 60)}' differ "
                "in case, spaces, _ or - only, which do not count; write one of them"
            )


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return one_line(", ".join(paths[:5]), 400) + more
