"""CIFAR-10 and CIFAR-100: training images as source, test images as target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.arrays.cifar_files import ArrayFolder, CifarSpec, check_root
from dabench.datasets.arrays.turned import SIDE
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.errors import ConfigError, DataError, did_you_mean

_TEN = "airplane automobile bird cat deer dog frog horse ship truck"
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR10 = CifarSpec(
    name="cifar10",
    classes=tuple(_TEN.split()),
    python=(
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    ),
    binary=(
        "cifar-10-batches-bin",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    ),
    names=("batches.meta", "label_names"),
    labels="labels",
    label_bytes=1,
    counts={"train": 50_000, "test": 10_000},
)
CIFAR100 = CifarSpec(
    name="cifar100",
    classes=tuple(_FINE.split()),
    python=("cifar-100-python", {"train": ("train",), "test": ("test",)}),
    binary=("cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}),
    names=("meta", "fine_label_names"),
    labels="fine_labels",
    label_bytes=2,
    counts={"train": 50_000, "test": 10_000},
)
DEFAULTS: Mapping[str, Any] = {
    "source": "train",
    "target": "test",
    "image_size": SIDE,
    "backbone": "small-cnn",
    "weights": "none",
    "epochs": 5,
    "source_epochs": 30,
    "freeze": 0,
    "batch_size": 200,  # that of the field's streams
}
#: endings of pictures that lost something
LOSSY = (".jpg", ".jpeg", ".webp")


class CifarSet:
    """The ``DataSet`` contract for both sets; a subclass names its spec.

    Pictures come in the order in which they were published: the authors shuffled it, and published
    corruptions follow it. (Class folders come in name-hashed order.)
    """

    spec: ClassVar[CifarSpec]
    domains: ClassVar[tuple[str, ...]] = ("train", "test")
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS

    def load(self, request: DataRequest) -> DomainData:
        """Return the two parts.

        Raises:
            ConfigError: an image size other than 32, or no such part.
            DataError: files that are missing, damaged, or not the published ones.
            CacheError: the cache folder cannot be written.
        """
        root = check_root(request.data_root, self.spec.name, self.spec.where)
        if self.spec.find(root) is not None:
            return self.load_arrays(request)
        self.check_request(request)
        folders = self._folders()
        self._refuse_lossy(folders, root)
        return folders.load(request)

    def load_arrays(self, request: DataRequest) -> DomainData:
        """Return the two parts from pickles or records, in the published order; see ``load``."""
        self.check_request(request)
        found = self.arrays(request.data_root)
        names = {request.source, request.target}
        parts = {part: found.load(part, request.cache_dir) for part in sorted(names)}
        return DomainData(
            dataset=self.spec.name,
            source=request.source,
            target=request.target,
            classes=self.spec.classes,
            image_size=SIDE,
            source_train=parts[request.source],
            source_val=None,
            target_all=parts[request.target],
        )

    def arrays(self, data_root: Path | None) -> ArrayFolder:
        """Return the folder of pickles or records.

        Raises:
            DataError: there is none.
        """
        root = check_root(data_root, self.spec.name, self.spec.where)
        found = self.spec.find(root)
        if found is None:
            raise DataError(
                f"{self.spec.name}: no folder {self.spec.python[0]} or {self.spec.binary[0]} in "
                f"data root {root} ({self.spec.where})"
            )
        return found

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the files, one line each; every file is read whole."""
        try:
            root = check_root(data_root, self.spec.name, self.spec.where)
            if found := self.spec.find(root):
                return found.check()
            folders = self._folders()
            self._refuse_lossy(folders, root)
        except DataError as error:
            return [str(error)]
        return folders.check(data_root)

    def check_request(self, request: DataRequest) -> None:
        """Refuse another image size, and parts that there are not.

        Raises:
            ConfigError: says which there are.
        """
        if request.image_size != SIDE:
            raise ConfigError(
                f"--image-size {request.image_size}: {self.spec.name} is {SIDE} x {SIDE}"
            )
        for option, name in (("source", request.source), ("target", request.target)):
            if name not in self.domains:
                near = did_you_mean(str(name), self.domains)
                raise ConfigError(f"--{option} '{name}': {self.spec.name} has no such part{near}")

    def _folders(self) -> ClassFolder:
        return _class_folders(self.spec)

    def _refuse_lossy(self, folders: ClassFolder, root: Path) -> None:
        """Refuse class folders of lossy pictures, which are another set."""
        spec = folders.spec
        home = spec.home(root)
        for part in self.domains:
            found = spec.tree(home, part)
            for path in (path for files in found.tree.values() for path in files):
                if path.suffix.lower() in LOSSY:
                    other = "; use --dataset cifar10-jpeg" if self.spec.name == "cifar10" else ""
                    raise DataError(
                        f"{self.spec.name}: {path} is compressed with loss, and the published "
                        f"pictures are not: this is another set{other}"
                    )


def _class_folders(spec: CifarSpec) -> ClassFolder:
    """Return the reader of a copy in class folders, ``<set>/{train,test}/CLASS/*.png``."""

    class Folders(ClassFolder):
        """Class folders of one of the two sets."""

    Folders.spec = Spec(
        spec.name,
        f"{spec.where}: {spec.python[0]}, {spec.binary[0]}, or class folders of PNG files",
        folders=(spec.name, f"{spec.name}-images"),
        domains={"train": (), "test": ()},
        classes=spec.classes,
        counts=dict(spec.counts),
    )
    return Folders()


class Cifar10(CifarSet):
    """CIFAR-10 (Krizhevsky 2009): 10 classes, 32 x 32; parts train (50,000) and test (10,000).

    Layout: ``<data root>/cifar-10-batches-py/`` (pickles), ``cifar-10-batches-bin/`` (records), or
    class folders of PNG files ``cifar10/{train,test}/CLASS/*.png``. Classes in the order of the
    labels: airplane automobile bird cat deer dog frog horse ship truck. Get it from
    https://www.cs.toronto.edu/~kriz/cifar.html (cifar-10-python.tar.gz); no licence is stated, see
    its authors. Lossy JPEG copies are another set, ``cifar10-jpeg``.
    """

    spec = CIFAR10


class Cifar100(CifarSet):
    """CIFAR-100 (Krizhevsky 2009): 100 fine classes, 32 x 32; parts train (50,000), test (10,000).

    Layout: ``<data root>/cifar-100-python/`` (pickles), ``cifar-100-binary/`` (records), or class
    folders of PNG files ``cifar100/{train,test}/CLASS/*.png``. Classes are the fine labels, in
    alphabetical order. Get it from https://www.cs.toronto.edu/~kriz/cifar.html; no licence is
    stated, see its authors.
    """

    spec = CIFAR100
