"""Aerial sets as domains of each other, over the classes that two of them share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dabench.datasets.class_folders.aerial import Aid, EuroSat, Resisc45, Rsscn7, Ucm, WhuRs19
from dabench.datasets.class_folders.folder_check import check_folder
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.folder_spec import DomainTree, Spec
from dabench.datasets.class_folders.folder_tree import Tree
from dabench.errors import ConfigError, DataError, did_you_mean

SPECS: Mapping[str, Spec] = {
    cls.spec.name: cls.spec for cls in (Aid, Ucm, Resisc45, EuroSat, WhuRs19, Rsscn7)
}
#: class, and its folders in the sets in the order of ``SPECS``; ``-`` = none, ``+`` joins folders.
#: Our own convention: equal names and plain synonyms. ``residential`` comes last: it is shared only
#: where no density of it is.
_TABLE = """
airplane        -               airplane        airplane                               -  -  -
airport         Airport         -               airport                                -  Airport  -
baseball-field  BaseballField   baseballdiamond baseball_diamond                       -  -  -
beach           Beach           beach           beach                                  -  Beach  -
bridge          Bridge          -               bridge                                 -  Bridge -
chaparral       -               chaparral       chaparral                              -  -  -
church          Church          -               church                                 -  -  -
commercial      Commercial      -               commercial_area                        -  Commercial -
dense-housing   DenseResidential denseresidential dense_residential                    -  -  -
desert          Desert          -               desert                                 -  Desert -
farmland        Farmland        agricultural    circular_farmland+rectangular_farmland AnnualCrop Farmland bField
forest          Forest          forest          forest                                 Forest Forest eForest
golf-course     -               golfcourse      golf_course                            -  -  -
harbor          Port            harbor          harbor                                 -  Port -
highway         -               freeway         freeway                                Highway -  -
industrial      Industrial      -               industrial_area                        Industrial Industrial cIndustry
intersection    -               intersection    intersection                           -  -  -
meadow          Meadow          -               meadow                                 -  Meadow aGrass
medium-housing  MediumResidential mediumresidential medium_residential                 -  -  -
mobile-homes    -               mobilehomepark  mobile_home_park                       -  -  -
mountain        Mountain        -               mountain                               -  Mountain -
overpass        Viaduct         overpass        overpass                               -  Viaduct -
park            Park            -               -                                      -  Park -
parking         Parking         parkinglot      parking_lot                            -  Parking gParking
pond            Pond            -               -                                      -  Pond -
railway-station RailwayStation  -               railway_station                        -  railwayStation -
river           River           river           river                                  River River -
runway          -               runway          runway                                 -  -  -
sparse-housing  SparseResidential sparseresidential sparse_residential                 -  -  -
stadium         Stadium         -               stadium                                -  -  -
storage-tanks   StorageTanks    storagetanks    storage_tank                           -  -  -
tennis-court    -               tenniscourt     tennis_court                           -  -  -
residential     DenseResidential+MediumResidential+SparseResidential denseresidential+mediumresidential+sparseresidential dense_residential+medium_residential+sparse_residential Residential Residential fResident
"""  # noqa: E501 - a table
#: class -> set -> its folders there
SHARED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    row[0]: {
        name: tuple(cell.split("+"))
        for name, cell in zip(SPECS, row[1:], strict=True)
        if cell != "-"
    }
    for row in map(str.split, _TABLE.strip().splitlines())
}


def shared_classes(source: str, target: str) -> tuple[str, ...]:
    """Return the classes that two sets share; no folder of either is in two of them."""
    used: set[tuple[str, str]] = set()
    found = []
    for name, folders in SHARED.items():
        if source not in folders or target not in folders:
            continue
        own = {(place, folder) for place in (source, target) for folder in folders[place]}
        if not own & used:
            found.append(name)
            used |= own
    return tuple(sorted(found))


class AerialShared(ClassFolder):
    """Aerial scenes of two sets, over their shared classes: aid, ucm, resisc45, eurosat, whu-rs19,
    rsscn7.

    Every set lies where it lies on its own, and is checked whole. Which folders are one class is
    our own convention (docs/datasets.md).
    """

    spec = Spec("aerial-shared", "see the cards of its sets", domains=dict.fromkeys(SPECS, ()))
    domains = tuple(SPECS)
    defaults: ClassVar[Mapping[str, Any]] = {
        "source": "aid",
        "target": "ucm",
        "image_size": 224,
        "backbone": "resnet50",
        "weights": "pretrained",
        "epochs": 15,
        "source_epochs": 30,
        "freeze": 0,
        "batch_size": 64,
    }

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the sets that are there, one line each."""
        lines, there = [], 0
        for name, spec in SPECS.items():
            try:
                spec.home(data_root)
            except DataError as error:
                lines.append(f"optional: {error}")
                continue
            there += 1
            for line in check_folder(spec, data_root):
                mark = "optional: " if line.startswith("optional: ") else ""
                lines.append(f"{mark}{name}: {line.removeprefix(mark)}")
        if there < 2:
            lines.append(f"{there} of the sets {', '.join(SPECS)} in {data_root}; two are needed")
        return lines

    def _domain(self, root: Path | None, name: str) -> DomainTree:
        spec = SPECS.get(str(name).lower())
        if spec is None:
            raise ConfigError(f"aerial-shared has no domain '{name}'{did_you_mean(name, SPECS)}")
        domain = spec.tree(spec.home(root), "clear")
        matched, problems = spec.match(spec.classes, domain.tree)
        if problems:
            raise DataError(f"{spec.name}: {'; '.join(problems)} ({spec.advice()})")
        return DomainTree(spec.name, domain.folder, matched)

    def _arrange(self, domains: list[DomainTree]) -> tuple[tuple[str, ...], list[DomainTree]]:
        names = [domain.name for domain in domains]
        classes = shared_classes(names[0], names[-1])
        if len(classes) < 2:
            raise DataError(
                f"aerial-shared: {names[0]} and {names[-1]} share {len(classes)} class(es); choose "
                "two other sets"
            )
        return classes, [
            domain._replace(tree=_merged(domain.tree, classes, domain.name)) for domain in domains
        ]


def _merged(tree: Tree, classes: tuple[str, ...], of: str) -> Tree:
    """Return a set's pictures under the shared classes."""
    return {
        name: sorted(path for folder in SHARED[name][of] for path in tree[folder])
        for name in classes
    }
