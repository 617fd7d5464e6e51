"""Classes, domains, public image counts and open-set class splits of the real sets, by name.

Names are canonical: folders are compared by :func:`comparable_name` (no case, no spaces, ``_`` or
``-``, one form of Unicode).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping

from dabench.contract.data import ClassSplit
from dabench.errors import DataError

_OFFICE31_KNOWN = """back_pack bike calculator headphones keyboard laptop_computer monitor mouse mug
projector"""
_OFFICE31_UNKNOWN = """pen phone printer punchers ring_binder ruler scissors speaker stapler
tape_dispenser trash_can"""
_OFFICE31_DROPPED = """bike_helmet bookcase bottle desk_chair desk_lamp desktop_computer
file_cabinet letter_tray mobile_phone paper_notebook"""
_HOME_KNOWN = """Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles
Chair Clipboards Computer Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops
Flowers Folder Fork"""
_HOME_UNKNOWN = """Glasses Hammer Helmet Kettle Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop
Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes Printer Push_Pin Radio Refrigerator
Ruler Scissors Screwdriver Shelf Sink Sneakers Soda Speaker Spoon TV Table Telephone ToothBrush Toys
Trash_Can Webcam"""
_VISDA = """aeroplane bicycle bus car horse knife motorcycle person plant skateboard train truck"""
_PACS = """dog elephant giraffe guitar horse house person"""
_AID = """Airport BareLand BaseballField Beach Bridge Center Church Commercial DenseResidential
Desert Farmland Forest Industrial Meadow MediumResidential Mountain Park Parking Playground Pond
Port RailwayStation Resort River School SparseResidential Square Stadium StorageTanks Viaduct"""
_UCM = """agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest
freeway golfcourse harbor intersection mediumresidential mobilehomepark overpass parkinglot river
runway sparseresidential storagetanks tenniscourt"""
_RESISC45 = """airplane airport baseball_diamond basketball_court beach bridge chaparral church
circular_farmland cloud commercial_area dense_residential desert forest freeway golf_course
ground_track_field harbor industrial_area intersection island lake meadow medium_residential
mobile_home_park mountain overpass palace parking_lot railway railway_station rectangular_farmland
river roundabout runway sea_ice ship snowberg sparse_residential stadium storage_tank tennis_court
terrace thermal_power_station wetland"""
_EUROSAT = """AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop
Residential River SeaLake"""
_WHU_RS19 = """Airport Beach Bridge Commercial Desert Farmland footballField Forest Industrial
Meadow Mountain Park Parking Pond Port railwayStation Residential River Viaduct"""
_RSSCN7 = """aGrass bField cIndustry dRiverLake eForest fResident gParking"""
_IMAGE_CLEF = """aeroplane bike bird boat bottle bus car dog horse monitor motorbike people"""
#: in the order of the numbers in its lists, which is not quite alphabetical
_DOMAINNET126 = """aircraft_carrier alarm_clock ant anvil asparagus axe banana basket bathtub bear
bee bird blackberry blueberry bottlecap broccoli bus butterfly cactus cake calculator camel camera
candle cannon canoe carrot castle cat ceiling_fan cello cell_phone chair chandelier coffee_cup
compass computer cow crab crocodile cruise_ship dog dolphin dragon drums duck dumbbell elephant
eyeglasses feather fence fish flamingo flower foot fork frog giraffe goatee grapes guitar hammer
helicopter helmet horse kangaroo lantern laptop leaf lion lipstick lobster microphone monkey
mosquito mouse mug mushroom onion panda peanut pear peas pencil penguin pig pillow pineapple potato
power_outlet purse rabbit raccoon rhinoceros rifle saxophone screwdriver sea_turtle see_saw sheep
shoe skateboard snake speedboat spider squirrel strawberry streetlight string_bean submarine swan
table teapot teddy-bear television The_Eiffel_Tower The_Great_Wall_of_China tiger toe train truck
umbrella vase watermelon whale zebra"""

#: categories of control characters, and characters that change the direction of what follows
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable_name(name: str) -> str:
    """Return a folder's name as it stands in records: composed Unicode, no control character.

    Control characters become escapes, and so do bytes that are no UTF-8: E9 is ``\\udce9``, as the
    terminal shows it.
    """
    composed = unicodedata.normalize("NFC", name)
    unsafe = {c for c in composed if c in _TURNS or unicodedata.category(c) in _CONTROL}
    return composed.translate({ord(c): ascii(c)[1:-1] for c in unsafe})


def comparable_name(name: str) -> str:
    """Return the form in which names of classes, domains and folders are compared."""
    folded = unicodedata.normalize("NFC", printable_name(name).casefold())
    return "".join(c for c in folded if c not in " _-")


def _names(text: str, count: int, *, as_given: bool = False) -> tuple[str, ...]:
    """Return sorted names; raise ``DataError`` where their number is not the published one."""
    names = tuple(text.split() if as_given else sorted(text.split(), key=str.lower))
    if len({comparable_name(n) for n in names}) != count or len(names) != count:
        raise DataError(f"a class list has {len(names)} names ({names[0]} ...), expected {count}")
    return names


#: canonical class names in alphabetical order (case ignored), but for domainnet126
CLASSES: Mapping[str, tuple[str, ...]] = {
    "office31": _names(f"{_OFFICE31_KNOWN} {_OFFICE31_UNKNOWN} {_OFFICE31_DROPPED}", 31),
    "office-home": _names(f"{_HOME_KNOWN} {_HOME_UNKNOWN}", 65),
    "visda-c": _names(_VISDA, 12),
    "pacs": _names(_PACS, 7),
    "aid": _names(_AID, 30),
    "ucm": _names(_UCM, 21),
    "office-caltech10": _names(_OFFICE31_KNOWN, 10),
    "image-clef": _names(_IMAGE_CLEF, 12),
    "domainnet126": _names(_DOMAINNET126, 126, as_given=True),
    "resisc45": _names(_RESISC45, 45),
    "eurosat": _names(_EUROSAT, 10),
    "whu-rs19": _names(_WHU_RS19, 19),
    "rsscn7": _names(_RSSCN7, 7),
}

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "office31": ("amazon", "dslr", "webcam"),
    "office-home": ("art", "clipart", "product", "real-world"),
    "visda-c": ("train", "validation", "test"),
    "pacs": ("art_painting", "cartoon", "photo", "sketch"),
    "aid": ("clear",),
    "ucm": ("clear",),
    "office-caltech10": ("amazon", "caltech", "dslr", "webcam"),
    "image-clef": ("bing", "caltech", "imagenet", "pascal"),
    "domainnet126": ("clipart", "painting", "real", "sketch"),
    "resisc45": ("clear",),
    "eurosat": ("clear",),
    "whu-rs19": ("clear",),
    "rsscn7": ("clear",),
}

#: images per domain in the public release; None where no figure is checked
COUNTS: Mapping[str, Mapping[str, int | None]] = {
    "office31": {"amazon": 2817, "dslr": 498, "webcam": 795},
    "office-home": dict.fromkeys(DOMAINS["office-home"]),
    "visda-c": {"train": 152_397, "validation": 55_388, "test": 72_372},
    "pacs": dict.fromkeys(DOMAINS["pacs"]),
    "aid": {"clear": 10_000},
    "ucm": {"clear": 2_100},
    "office-caltech10": {"amazon": 958, "caltech": 1_123, "dslr": 157, "webcam": 295},
    "image-clef": dict.fromkeys(DOMAINS["image-clef"], 600),
    "domainnet126": dict.fromkeys(DOMAINS["domainnet126"]),
    "resisc45": {"clear": 31_500},
    "eurosat": {"clear": 27_000},
    "whu-rs19": {"clear": 1_005},
    "rsscn7": {"clear": 2_800},
}


def _split(
    dataset: str,
    known: tuple[str, ...],
    unknown: tuple[str, ...],
    source_private: tuple[str, ...] = (),
) -> ClassSplit:
    """Return a split; raise ``DataError`` where the lists overlap or name a foreign class."""
    counts = Counter((*known, *unknown, *source_private))
    wrong = {name for name, n in counts.items() if n > 1 or name not in CLASSES[dataset]}
    if wrong:
        raise DataError(f"{dataset}: the class split is wrong about {', '.join(sorted(wrong))}")
    return ClassSplit(known, unknown, source_private)


def _in_turn(dataset: str, shared: int, source: int) -> ClassSplit:
    """Return an open-partial split: shared, source-private, and the rest private to the target."""
    names = CLASSES[dataset]
    both = shared + source
    return _split(dataset, names[:shared], names[both:], names[shared:both])


#: Open-set splits, and as ``opda`` open-partial ones.
#:
#: * ``office31``: 10 known (shared with Caltech-256); of the other 21 the last 11 alphabetically
#:   are unknown and the first 10 dropped. Source: the lists of GLC (Qu et al. 2023).
#: * ``office-home``: the first 25 alphabetically are known, the other 40 unknown (SHOT, GLC).
#: * ``visda-c``: ``default`` is the split of OSBP (Saito et al. 2018), ``glc`` that of GLC: the
#:   first six alphabetically are known.
#: * ``pacs``: **our own convention**, no paper's: the first 4 alphabetically are known, the last 3
#:   unknown.
#: * ``opda`` after GLC (shared/source-private/target-private): ``office31`` 10/10/11, the dropped
#:   ones being the source's; ``office-home`` 10/5/50 and ``visda-c`` 6/3/3 alphabetically. Ours:
#:   ``pacs`` 3/2/2.
SPLITS: Mapping[str, Mapping[str, ClassSplit]] = {
    "office31": {
        "default": _split("office31", _names(_OFFICE31_KNOWN, 10), _names(_OFFICE31_UNKNOWN, 11)),
        "opda": _split(
            "office31",
            _names(_OFFICE31_KNOWN, 10),
            _names(_OFFICE31_UNKNOWN, 11),
            _names(_OFFICE31_DROPPED, 10),
        ),
    },
    "office-home": {
        "default": _split("office-home", _names(_HOME_KNOWN, 25), _names(_HOME_UNKNOWN, 40)),
        "opda": _in_turn("office-home", 10, 5),
    },
    "visda-c": {
        "default": _split(
            "visda-c",
            _names("bicycle bus car motorcycle train truck", 6),
            _names("aeroplane horse knife person plant skateboard", 6),
        ),
        "glc": _split("visda-c", CLASSES["visda-c"][:6], CLASSES["visda-c"][6:]),
        "opda": _in_turn("visda-c", 6, 3),
    },
    "pacs": {
        "default": _split("pacs", CLASSES["pacs"][:4], CLASSES["pacs"][4:]),
        "opda": _in_turn("pacs", 3, 2),
    },
}
