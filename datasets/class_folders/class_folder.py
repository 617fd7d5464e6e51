"""Real sets in their public layouts, ``<data root>/<set>/<domain>/<class>/*.jpg``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dabench.contract.data import ClassSplit
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.own_splits import splits_between
from dabench.datasets.class_folders.picture_lists import by_list
from dabench.datasets.class_folders.splits import CLASSES, COUNTS, DOMAINS, SPLITS

_COMMON = {"weights": "pretrained", "freeze": 0, "batch_size": 64}


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
        splits=SPLITS.get(name, {}),
        **more,
    )


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


class OfficeCaltech10(ClassFolder):
    """Office-Caltech-10 (Gong et al. 2012): 10 objects; amazon, caltech, dslr, webcam."""

    spec = _spec(
        "office-caltech10",
        "get it from https://github.com/pykale/data/tree/main/image_data/office",
        also=("office_caltech_10", "office-caltech"),
    )
    domains = DOMAINS["office-caltech10"]
    defaults: ClassVar[Mapping[str, Any]] = Office31.defaults


class ImageClef(ClassFolder):
    """ImageCLEF-DA (2014): 12 classes of 50 pictures in each of bing, caltech, imagenet, pascal."""

    spec = _spec(
        "image-clef",
        "get it from https://github.com/thuml/CDAN#image-clef",
        also=("image_CLEF", "imageclef-da", "ImageCLEF"),
        domains={"bing": ("b",), "caltech": ("c",), "imagenet": ("i",), "pascal": ("p",)},
        read=by_list(
            ("list/{domain}List.txt", "{domain}List.txt", "{domain}_list.txt"),
            CLASSES["image-clef"],
            folders_will_do=True,
        ),
        optional=("bing",),
    )
    domains = DOMAINS["image-clef"]
    defaults: ClassVar[Mapping[str, Any]] = {
        **Office31.defaults,
        "source": "imagenet",
        "target": "pascal",
        "image_size": 224,
        "backbone": "resnet50",
        "freeze": 0,
    }


class DomainNet126(ClassFolder):
    """DomainNet-126 (Peng et al. 2019; Saito et al. 2019): 126 classes that lists choose of 345."""

    spec = _spec(
        "domainnet126",
        "get the cleaned set from https://ai.bu.edu/M3SDA/, and its lists with AdaContrast "
        "(https://github.com/DianCh/AdaContrast)",
        also=("domainnet-126", "domainnet"),
        read=by_list(("{domain}_list.txt",), CLASSES["domainnet126"]),
        listed=True,
    )
    domains = DOMAINS["domainnet126"]
    defaults: ClassVar[Mapping[str, Any]] = _COMMON | {
        "source": "real",
        "target": "clipart",
        "image_size": 224,
        "backbone": "resnet50",
        "epochs": 15,
        "source_epochs": 60,
    }


class VisdaC(ClassFolder):
    """VisDA-C (Peng et al. 2017): 12 classes, renderings (train) -> photographs (validation).

    The domain ``test`` (other photographs) has no class folders: ``image_list.txt`` in it names
    them.
    """

    spec = _spec(
        "visda-c",
        "get it from https://github.com/VisionLearningGroup/taskcv-2017-public",
        also=("visda", "visda-2017"),
        read=by_list(("{domain}/image_list.txt",), CLASSES["visda-c"], folders_will_do=True),
        optional=("test",),
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

    Where the target has classes that the source has not, these are unknown (a real open set) and
    the source's are known: the split ``default``. Where it has fewer, the set is partial. With the
    same 4 or more classes in both, ``default`` is **our own convention**: in alphabetical order
    (case ignored) the first half, rounded up, is known and the rest unknown. ``splits.yaml`` in the
    data root names others: ``mine: {known: [a, b], unknown: [c]}``. One domain for source and
    target is enough for streams, whose shift is weather.
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

    def _splits(
        self, home: Path, source: tuple[str, ...], target: tuple[str, ...]
    ) -> Mapping[str, ClassSplit]:
        return splits_between(home / "splits.yaml", source, target)
