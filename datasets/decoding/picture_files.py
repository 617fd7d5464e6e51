"""Which files are pictures, and what to say of those that are left out."""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

#: formats of Pillow that are no pixels of their own, or keep no record of the range of their values
_NOT_READ = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "PDF", "FITS"})
#: formats whose first bytes cannot be taken for another kind of file
_BY_CONTENT = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "QOI")
_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # not in every Pillow
#: endings of notes and of systems' own files, which nobody takes for pictures
_NOTES = frozenset(
    {".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".yaml", ".yml", ".toml"}
    | {".log", ".lst", ".list", ".db", ".ini", ".mat", ".npy", ".npz", ".pkl", ".py", ".sh", ".m"}
    | {".pdf", ".zip", ".gz", ".tar", ".sha256", ".md5"}
)


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that are read, by Pillow's names."""
    from PIL import Image, features

    Image.init()
    missing = {name for name, feature in _OPTIONAL.items() if not features.check(feature)}
    return tuple(name for name in Image.ID if name not in _NOT_READ | missing)


@functools.cache
def endings() -> frozenset[str]:
    """Return the endings of the formats that are read: ``.jpg`` and so on, in lower case."""
    from PIL import Image

    known = set(formats())
    return frozenset(e for e, name in Image.registered_extensions().items() if name in known)


def is_picture(path: Path) -> bool:
    """Say whether a file is read: by its ending, or by its first bytes where the ending is unknown.

    A link that leads nowhere is: it must be named, not left out.
    """
    ending = path.suffix.lower()
    if ending in _NOTES:
        return False
    try:
        mode = path.stat().st_mode
    except OSError:
        return ending in endings()
    return stat.S_ISREG(mode) and (ending in endings() or _starts_as_picture(path))


def is_note(path: Path) -> bool:
    """Say whether nobody takes a file for a picture: notes, and systems' own files."""
    systems = path.name.startswith("._") or path.name in {".DS_Store", ".gitkeep", ".gitignore"}
    return systems or path.suffix.lower() in _NOTES


def _starts_as_picture(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=[n for n in _BY_CONTENT if n in formats()]):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # noqa: BLE001 - whatever a decoder says of bytes that are not its own
        return False


def describe_left_out(
    folder: Path, read: Iterable[Path], among: Iterable[Path] | None = None
) -> list[str]:
    """Return what is not read of the files under a folder, a line for each reason.

    Notes (``.txt``, ``.csv`` ...) and systems' own files are not mentioned.

    Args:
        folder: what the paths are told from.
        read: the files that are read.
        among: the files that are looked at; None = all in the folder, at any depth.
    """
    used = {os.fspath(path) for path in read}
    there = _files(folder) if among is None else map(os.fspath, among)
    out: dict[str, list[Path]] = {"elsewhere": [], "unreadable": []}
    for path in sorted(Path(name) for name in there if name not in used):
        if is_note(path) or path.is_dir():
            continue
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        if not hidden or path.suffix.lower() in endings():
            out["elsewhere" if is_picture(path) else "unreadable"].append(path)
    reasons = {
        "elsewhere": "hidden, or not directly in a folder that is read",
        "unreadable": f"cannot be read by this Pillow ({_version()})",
    }
    total = len(used) + sum(map(len, out.values()))
    return [_line(files, total, folder, reasons[name]) for name, files in out.items() if files]


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names)


def _line(files: Sequence[Path], total: int, folder: Path, reason: str) -> str:
    kinds = Counter(path.suffix.lower() or "no ending" for path in files).most_common(6)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds)
    first = files[0].relative_to(folder)
    return f"{len(files)} of {total} files left out: {counted}: {reason}; the first: {first}"


def _version() -> str:
    import PIL

    return PIL.__version__
