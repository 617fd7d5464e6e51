"""Real sets in their public layouts, ``<data root>/<set>/<domain>/<class>/*.jpg``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from dabench.contract.data import ClassSplit, DataRequest, DomainData, Labelled
from dabench.datasets.image_cache import QUIET, Entry, decode, load_images
from dabench.datasets.splits import CLASSES, COUNTS, DOMAINS, SPLITS, same
from dabench.errors import ConfigError, DataError, did_you_mean

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
Tree = dict[str, list[Path]]  # class -> its image files


@dataclass(frozen=True)
class Spec:
    """What a set looks like on disk; names are compared without case, spaces, ``_`` and ``-``.

    Attributes:
        name: registered name.
        where: where one gets the data.
        folders: names of its folder under the data root; empty = the data root itself.
        domains: canonical domain -> further names of its folder; empty = every folder.
        classes: canonical class names; empty = the folders that are there.
        counts: images per domain in the public release, where known.
        splits: open-set class splits.
        between: folders that may lie between the set and its domains, or a domain and its classes.
    """

    name: str
    where: str
    folders: tuple[str, ...] = ()
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    counts: Mapping[str, int | None] = field(default_factory=dict)
    splits: Mapping[str, ClassSplit] = field(default_factory=dict)
    between: tuple[str, ...] = ("images",)


def _spec(name: str, where: str, *, also: tuple[str, ...] = (), **more: Any) -> Spec:
    """Return the spec of a set whose lists are in ``splits``."""
    domains = {domain: (domain,) for domain in DOMAINS[name]} | more.pop("domains", {})
    return Spec(
        name,
        where,
        folders=(name, *also),
        domains=domains,
        classes=CLASSES[name],
        counts=COUNTS[name],
        splits=SPLITS[name],
        **more,
    )


class ClassFolder:
    """The ``DataSet`` contract for class folders; a subclass names a ``Spec`` and defaults.

    Images come in name-hashed order, squeezed to image_size x image_size (aspect ratio not kept);
    classes are in alphabetical order of their canonical names.
    """

    spec: ClassVar[Spec]
    domains: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def load(self, request: DataRequest) -> DomainData:
        """Return the two domains.

        Raises:
            ConfigError: no or an unknown domain, or a useless image size.
            DataError: no data root, a missing, extra or empty class, an undecodable image.
            CacheError: the image cache cannot be written.
        """
        if request.image_size < 8:
            raise ConfigError(f"--image-size {request.image_size}: expected at least 8 pixels")
        home = self._home(request.data_root)
        source, target = self._tree(home, request.source), self._tree(home, request.target)
        classes = self.spec.classes or tuple(sorted(source[1], key=lambda c: (c.lower(), c)))
        ready: dict[str, Labelled] = {}
        for domain, tree in (source, target):
            matched, problems = _match(classes, tree)
            if problems:
                raise DataError(
                    f"{self.spec.name}: domain '{domain}': {'; '.join(problems)}; mend the folder "
                    f"({self._advice()})"
                )
            name, size = self.spec.name, request.image_size
            entries = list(_entries(domain, classes, matched))
            if domain not in ready:
                ready[domain] = load_images(name, domain, entries, size, request.cache_dir)
        return DomainData(
            dataset=self.spec.name,
            source=source[0],
            target=target[0],
            classes=classes,
            image_size=request.image_size,
            source_train=ready[source[0]],
            source_val=None,
            target_all=ready[target[0]],
            splits=self.spec.splits,
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each; every image is really decoded."""
        try:
            home = self._home(data_root)
        except DataError as error:
            return [str(error)]
        problems = []
        trees: dict[str, Tree] = {}
        for domain in self.spec.domains or self._discover(home):
            try:
                trees[domain] = self._tree(home, domain)[1]
            except (DataError, ConfigError) as error:
                problems.append(str(error))
        every = {c for tree in trees.values() for c in tree}
        classes = self.spec.classes or tuple(sorted(every))
        if not self.spec.domains and len(trees) < 2:
            problems.append(
                f"{home} has {len(trees)} domain folder(s) (domain/class/*.jpg), need 2"
            )
        for domain, tree in trees.items():
            problems += self._check_domain(domain, classes, tree)
        return problems

    def _check_domain(self, domain: str, classes: tuple[str, ...], tree: Tree) -> list[str]:
        problems = [f"domain '{domain}': {problem}" for problem in _match(classes, tree)[1]]
        files = [path for paths in tree.values() for path in paths]
        public = self.spec.counts.get(domain)
        if public is not None and len(files) != public:
            problems.append(f"domain '{domain}': {len(files)} images, the public set has {public}")
        for path in tqdm(files, desc=f"checking {domain}", disable=len(files) <= QUIET):
            try:
                decode(path, 32, self.spec.name)
            except DataError as error:
                problems.append(f"domain '{domain}': {str(error).split(';')[0]}")
        return problems

    def _advice(self) -> str:
        return f"see `dabench data check {self.spec.name}`; {self.spec.where}"

    def _home(self, root: Path | None) -> Path:
        """Return the folder that holds the domains."""
        spec = self.spec
        if root is None:
            raise DataError(
                f"{spec.name}: no data root; pass --data-root or set DABENCH_DATA ({spec.where})"
            )
        if not root.is_dir():
            raise DataError(
                f"{spec.name}: data root {root} is not a folder; mend --data-root or DABENCH_DATA"
            )
        found = [home for home in (_child(root, (name,)) for name in spec.folders) if home]
        found = found if spec.folders else [root]
        if not found:
            raise DataError(
                f"{spec.name}: no folder {' or '.join(spec.folders)} in data root {root} "
                f"({spec.where})"
            )
        homes = [deep for home in found for deep in (home, _child(home, spec.between)) if deep]
        return max(homes, key=lambda home: sum(map(bool, self._domain_folders(home).values())))

    def _domain_folders(self, home: Path) -> dict[str, Path | None]:
        return {d: _child(home, (d, *names)) for d, names in self.spec.domains.items()}

    def _discover(self, home: Path) -> list[str]:
        return [folder.name for folder in _folders(home) if any(_scan(folder).values())]

    def _tree(self, home: Path, domain: str | None) -> tuple[str, Tree]:
        """Return a domain's canonical name and its class folders."""
        spec = self.spec
        known = list(spec.domains) or [folder.name for folder in _folders(home)]
        if not domain:
            raise ConfigError(f"{spec.name}: name --source and --target; in {home}: {known}")
        name = next((d for d in known if d == domain), None)
        name = name or next((d for d in known if same(d) == same(domain)), None)
        if name is None:
            raise ConfigError(f"{spec.name} has no domain '{domain}'{did_you_mean(domain, known)}")
        folder = _child(home, (name, *spec.domains.get(name, ())))
        if folder is None:
            raise DataError(
                f"{spec.name}: domain folder '{name}' is missing in {home} ({spec.where})"
            )
        tree = _scan(_child(folder, spec.between) or folder) if spec.classes else _scan(folder)
        if not tree:
            raise DataError(f"{spec.name}: no class folders in {folder} ({self._advice()})")
        return name, tree


def _folders(parent: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted by name."""
    return [p for p in _visible(parent) if p.is_dir() and not p.name.startswith("__")]


def _visible(parent: Path) -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"cannot read folder {parent}: {error.strerror}; mend its rights"
        ) from error


def _child(parent: Path, names: Iterable[str]) -> Path | None:
    """Return the first folder that has one of the names: exactly, or else as ``same`` compares."""
    there = _folders(parent)
    for name in names:
        for exactly in (True, False):
            for folder in there:
                if folder.name == name if exactly else same(folder.name) == same(name):
                    return folder
    return None


def _scan(folder: Path) -> Tree:
    """Return class folder name -> sorted image files."""
    return {
        sub.name: [p for p in _visible(sub) if p.suffix.lower() in ENDINGS]
        for sub in _folders(folder)
    }


def _match(classes: tuple[str, ...], tree: Tree) -> tuple[Tree, list[str]]:
    """Return the tree under canonical names, and what is missing, extra, double or empty."""
    canonical = {same(name): name for name in classes}
    matched: Tree = {}
    extra, double = [], []
    for folder, files in tree.items():
        # an exact name wins: discovered classes may differ in case only
        name = folder if folder in classes else canonical.get(same(folder))
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


def _entries(domain: str, classes: tuple[str, ...], tree: Tree) -> Iterable[Entry]:
    for label, name in enumerate(classes):
        for path in tree[name]:
            yield Entry(f"{domain}/{name}/{path.name}", path, label)


_COMMON = {"weights": "pretrained", "freeze": 0, "batch_size": 64}


class Office31(ClassFolder):
    """Office-31 (Saenko et al. 2010): 31 office objects, 4,110 images; amazon, dslr, webcam."""

    spec = _spec(
        "office31",
        "get it from https://faculty.cc.gatech.edu/~judy/domainadapt/",
        also=("office",),
    )
    domains = DOMAINS["office31"]
    defaults: ClassVar[Mapping[str, Any]] = _COMMON | {
        "source": "amazon",
        "target": "webcam",
        "image_size": 128,
        "backbone": "efficientnet_lite0",
        "epochs": 10,
        "batch_size": 16,  # the target is small: 150 steps and more in ten epochs
        "source_epochs": 15,
        "freeze": 8,  # the budget of two cores; a GPU affords 0
    }


class OfficeHome(ClassFolder):
    """Office-Home (Venkateswara et al. 2017): 65 objects; art, clipart, product, real-world."""

    spec = _spec(
        "office-home",
        "get it from https://www.hemanthdv.org/officeHomeDataset.html",
        also=("OfficeHomeDataset_10072016",),
        domains={"real-world": ("real-world", "real")},
    )
    domains = DOMAINS["office-home"]
    defaults: ClassVar[Mapping[str, Any]] = _COMMON | {
        "source": "art",
        "target": "clipart",
        "image_size": 224,
        "backbone": "resnet50",
        "epochs": 15,
        "source_epochs": 50,
    }


class VisdaC(ClassFolder):
    """VisDA-C (Peng et al. 2017): 12 classes, renderings (train) -> photographs (validation)."""

    spec = _spec(
        "visda-c",
        "get it from https://github.com/VisionLearningGroup/taskcv-2017-public",
        also=("visda", "visda-2017"),
    )
    domains = DOMAINS["visda-c"]
    defaults: ClassVar[Mapping[str, Any]] = _COMMON | {
        "source": "train",
        "target": "validation",
        "image_size": 224,
        "backbone": "resnet50",
        "epochs": 10,
        "source_epochs": 10,
    }


class Pacs(ClassFolder):
    """PACS (Li et al. 2017): 7 classes; art_painting, cartoon, photo, sketch."""

    spec = _spec(
        "pacs",
        "get it from https://dali-dl.github.io/project_iccv2017.html",
        between=("kfold", "images"),
    )
    domains = DOMAINS["pacs"]
    defaults: ClassVar[Mapping[str, Any]] = _COMMON | {
        "source": "photo",
        "target": "sketch",
        "image_size": 224,
        "backbone": "resnet18",
        "epochs": 10,
        "source_epochs": 20,
    }


class ImageFolder(ClassFolder):
    """Any ``<data root>/domain/class/*.jpg``; domains and classes are what is found there.

    Both domains must have the same classes. There is no open-set convention, hence no split.
    """

    spec = Spec("image-folder", "expected: <data root>/<domain>/<class>/*.jpg")
    defaults: ClassVar[Mapping[str, Any]] = _COMMON | {
        "source": None,
        "target": None,
        "image_size": 128,
        "backbone": "resnet18",
        "epochs": 10,
        "source_epochs": 15,
    }
