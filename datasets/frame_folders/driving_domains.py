"""Where the driving sets lie: Cityscapes, what it is adapted to, and renderings, as published.

Cityscapes stands here three times, because its roles differ: as a source its val split is the
source's validation, as a target the same split is the stream, and where it is both the source's
validation is three cities that training does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dabench.datasets.frame_folders.dense_ids import (
    CROSSCITY_IDS,
    GTA5_IDS,
    LABEL_IDS,
    SYNTHIA_IDS,
    TRAIN_IDS,
    MaskIds,
)
from dabench.datasets.frame_folders.frame_domain import Domain
from dabench.datasets.frame_folders.frame_files import Layout, Naming, Pair, Part

Keep = Callable[[Sequence[Pair]], Sequence[Pair]]
HELD_OUT = ("ulm", "weimar", "zurich")
#: frames of GTA5 whose mask has another size than the image, as public readers of it list them
GTA5_MISFITS = frozenset(f"{n:05d}" for n in (15_188, 17_705, *range(20_801, 20_861)))


def _city(pair: Pair) -> str:
    return pair.name.split("/")[-2]


def seen_cities(frames: Sequence[Pair]) -> Sequence[Pair]:
    """Return the frames of all but the held-out cities."""
    return [pair for pair in frames if _city(pair) not in HELD_OUT]


def held_out_cities(frames: Sequence[Pair]) -> Sequence[Pair]:
    """Return the frames of the held-out cities."""
    return [pair for pair in frames if _city(pair) in HELD_OUT]


def first_nine_tenths(frames: Sequence[Pair]) -> Sequence[Pair]:
    """Return all but the last tenth: in one piece, because neighbours resemble each other."""
    return frames[: len(frames) - -(-len(frames) // 10)]


def last_tenth(frames: Sequence[Pair]) -> Sequence[Pair]:
    """Return the last tenth, rounded up."""
    return frames[len(frames) - -(-len(frames) // 10) :]


_TRAIN, _VAL = (f"leftImg8bit/{split}/*/*_leftImg8bit.png" for split in ("train", "val"))
_CITY_MASKS = (
    Naming(((r"^leftImg8bit/", "gtFine/"), (r"_leftImg8bit\.", "_gtFine_labelIds.")), LABEL_IDS),
)
_CITY_VAL = Part(_VAL, count=500)


def _cityscapes(layout: Layout) -> Domain:
    where = "get it from https://www.cityscapes-dataset.com/"
    return Domain("cityscapes", ("cityscapes",), (layout,), where)


CITYSCAPES_SOURCE = _cityscapes(Layout(_CITY_MASKS, Part(_TRAIN, count=2975), _CITY_VAL))
CITYSCAPES_TARGET = _cityscapes(Layout(_CITY_MASKS, target_all=_CITY_VAL))
CITYSCAPES_BOTH = _cityscapes(
    Layout(
        _CITY_MASKS,
        Part(_TRAIN, seen_cities, 2975),
        Part(_TRAIN, held_out_cities, 2975),
        _CITY_VAL,
    )
)


def fitting(frames: Sequence[Pair]) -> Sequence[Pair]:
    """Return the frames of GTA5 that have a mask of their size."""
    return [pair for pair in frames if pair.image.stem not in GTA5_MISFITS]


def _rendered(
    name: str,
    folders: tuple[str, ...],
    masks: tuple[str, str],
    ids: MaskIds,
    count: int,
    where: str,
    usable: Keep = tuple,
) -> Domain:
    """Return a domain of one folder of images, which is split here; then some are left out."""
    images = f"{masks[0]}/*.png"
    naming = Naming(((f"^{masks[0]}/", f"{masks[1]}/"),), ids)

    def part(keep: Keep) -> Part:
        return Part(images, lambda frames: usable(keep(frames)), count)

    train, val = part(first_nine_tenths), part(last_tenth)
    return Domain(name, folders, (Layout((naming,), train, val),), where)


GTA5 = _rendered(
    "gta5",
    ("gta5", "gtav", "gta"),
    ("images", "labels"),
    GTA5_IDS,
    24_966,
    "get it from https://download.visinf.tu-darmstadt.de/data/from_games/",
    fitting,
)
SYNTHIA = _rendered(
    "synthia",
    ("synthia/RAND_CITYSCAPES", "synthia", "RAND_CITYSCAPES"),
    ("RGB", "GT/LABELS"),
    SYNTHIA_IDS,
    9_400,
    "get SYNTHIA-RAND-CITYSCAPES from https://synthia-dataset.net/",
)


def _swiss(name: str, folders: tuple[str, ...], split: str, count: int, where: str) -> Domain:
    """Return a domain of ACDC or Dark Zurich; masks with train ids are preferred."""
    masks = tuple(
        Naming(((r"^rgb_anon/", "gt/"), (r"_rgb_anon\.", f"_gt_{kind}.")), ids)
        for kind, ids in (("labelTrainIds", TRAIN_IDS), ("labelIds", LABEL_IDS))
    )
    images = f"rgb_anon/{split}/*/*_rgb_anon.png"
    return Domain(name, folders, (Layout(masks, target_all=Part(images, count=count)),), where)


ACDC = tuple(
    _swiss(
        weather, ("acdc",), f"{weather}/train", 400, "get it from https://acdc.vision.ee.ethz.ch/"
    )
    for weather in ("fog", "night", "rain", "snow")
)
DARK_ZURICH = _swiss(
    "night",
    ("dark-zurich",),
    "val/night",
    50,
    "get Dark Zurich val from https://www.trace.ethz.ch/publications/2019/GCMA_UIoU/",
)


def _crosscity(name: str) -> Domain:
    masks = tuple(
        Naming(((r"^Images/", "Labels/"), (r"\.\w+$", f"{end}.png")), CROSSCITY_IDS)
        for end in ("_eval", "")
    )
    layout = Layout(masks, target_all=Part("Images/Test/*.*", count=100))
    folders = tuple(f"{home}/{name}" for home in ("crosscity", "NTHU_Datasets", "NTHU"))
    where = "get it from https://yihsinchen.github.io/segmentation_adaptation/"
    return Domain(name, folders, (layout,), where)


CITIES = tuple(_crosscity(name) for name in ("rome", "rio", "tokyo", "taipei"))
