"""Pictures of every mode, depth, byte order, ending and orientation: read right, or named.

Files are written by hand from their formats' definitions where Pillow cannot write them, and what
they show is computed here from the values that went in, so that a reader is not its own judge.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from dabench.datasets.decoding.images import read_picture
from dabench.datasets.decoding.picture_files import endings, is_picture
from dabench.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
RNG = np.random.default_rng(0)
SIZES = ((5, 9), (8, 8), (1, 7))
Array = np.ndarray


class Case(NamedTuple):
    """A file, and what it shows ((H, W, 3), 0-255) or None where it must be refused.

    ``within`` says how exactly, ``rare`` that it may be refused too.
    """

    name: str
    data: bytes
    shown: Array | None
    within: float = 0.5
    rare: bool = False


def turned(pixels: Array, orientation: int) -> Array:
    """Return pixels as EXIF's orientations define them: where row 0 and column 0 are shown."""
    flat = pixels.transpose(1, 0, 2) if orientation > 4 else pixels
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    if orientation > 4:
        rows = -1 if orientation in (7, 8) else 1
    return flat[::rows, ::columns]


def grey(values: Array) -> Array:
    return np.repeat(np.asarray(values, np.float64)[..., None], 3, axis=2)


# --- PNG ---------------------------------------------------------------------------------------


def png(rows: list[bytes], size: tuple[int, int], depth: int, colour: int, *extra: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", head), *(chunk(e[:4], e[4:]) for e in extra), chunk(b"IDAT", body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def packed(values: Array, depth: int, order: str = ">") -> list[bytes]:
    """Return rows of values of ``depth`` bits, the first one in the highest bits of a byte."""
    rows = values.reshape(len(values), -1)
    if depth == 16:
        return [row.astype(f"{order}u2").tobytes() for row in rows]
    bits = ((rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
    return [np.packbits(row.ravel()).tobytes() for row in bits]


def exif(orientation: int) -> bytes:
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack(
        "<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0
    )


def png_cases() -> Iterator[Case]:
    for size in SIZES:
        for depth in (1, 2, 4, 8, 16):
            top = 2**depth - 1
            values = RNG.integers(0, top + 1, size)
            for transparent in (False, True):
                extra = [b"tRNS" + struct.pack(">H", int(values[0, 0]))] if transparent else []
                data = png(packed(values, depth), size, depth, 0, *extra)
                yield Case(f"grey{depth}{transparent}.png", data, grey(values * 255 / top))
        for depth in (8, 16):
            top = 2**depth - 1
            for colour, channels in ((2, 3), (4, 2), (6, 4)):
                values = RNG.integers(0, top + 1, (*size, channels))
                shown = values * 255 / top
                shown = grey(shown[..., 0]) if channels == 2 else shown[..., :3]
                data = png(packed(values, depth), size, depth, colour)
                yield Case(f"colour{colour}-{depth}.png", data, shown, 0.5 if depth == 8 else 1.0)
        for depth in (1, 2, 4, 8):
            palette = RNG.integers(0, 256, (2**depth, 3), dtype=np.uint8)
            values = RNG.integers(0, 2**depth, size)
            for alpha in (b"", b"tRNS" + bytes(range(0, min(2**depth, 200)))):
                extra = [b"PLTE" + palette.tobytes(), *([alpha] if alpha else [])]
                data = png(packed(values, depth), size, depth, 3, *extra)
                yield Case(f"palette{depth}{bool(alpha)}.png", data, palette[values])
    for orientation in range(1, 9):
        for depth, colour, channels in ((8, 0, 1), (8, 2, 3), (16, 0, 1), (8, 6, 4), (1, 0, 1)):
            top = 2**depth - 1
            values = RNG.integers(0, top + 1, (5, 9, channels))
            shown = values[..., :3] * 255 / top
            shown = turned(grey(shown[..., 0]) if channels == 1 else shown, orientation)
            data = png(packed(values, depth), (5, 9), depth, colour, b"eXIf" + exif(orientation))
            yield Case(f"turned{orientation}-{depth}-{colour}.png", data, shown)
    for bad in (0, 9, 255, 65535):
        values = RNG.integers(0, 256, (5, 9, 3))
        data = png(packed(values, 8), (5, 9), 8, 2, b"eXIf" + exif(bad))
        yield Case(f"turned{bad}.png", data, values)
    for junk in (b"", b"II", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40):
        values = RNG.integers(0, 256, (5, 9, 3))
        data = png(packed(values, 8), (5, 9), 8, 2, b"eXIf" + junk)
        yield Case(f"junk{len(junk)}.png", data, values)


# --- TIFF --------------------------------------------------------------------------------------


def tiff(body: bytes, size: tuple[int, int], order: str, tags: dict[int, int]) -> bytes:
    """Return a TIFF file of one strip with one channel; ``tags`` add to the usual ones."""
    every = {256: size[1], 257: size[0], 259: 1, 273: 8, 277: 1, 278: size[0], 279: len(body)}
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag in (256, 257, 273, 278, 279)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in sorted((every | tags).items())
    )
    body += b"\0" * (len(body) % 2)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(body))
    count = struct.pack(f"{order}H", len(every | tags))
    return head + body + count + entries + b"\0" * 4


def tiff_cases() -> Iterator[Case]:
    for size in SIZES:
        for order in "<>":
            for depth in (1, 4, 8, 12, 16):
                top = 2**depth - 1
                values = RNG.integers(0, top + 1, size)
                body = b"".join(packed(values, depth, order))
                for white_is_zero in (False, True):
                    shown = (top - values if white_is_zero else values) * 255 / top
                    tags = {258: depth, 262: int(not white_is_zero)}
                    data = tiff(body, size, order, tags)
                    rare = depth > 8 and (order, depth, white_is_zero) != ("<", 16, False)
                    name = f"g{depth}{order}{white_is_zero}.tif"
                    yield Case(name, data, grey(shown), rare=rare)
            floats = RNG.random(size)
            for kind, wanted in (
                ("unit", floats),
                ("wide", floats * 300),
                ("nan", floats * np.nan),
            ):
                body = wanted.astype(f"{order}f4").tobytes()
                data = tiff(body, size, order, {258: 32, 262: 1, 339: 3})
                yield Case(
                    f"f{kind}{order}.tif", data, grey(floats * 255) if kind == "unit" else None
                )
            for depth, code in ((16, "i2"), (32, "i4")):
                body = RNG.integers(0, 30000, size).astype(f"{order}{code}").tobytes()
                data = tiff(body, size, order, {258: depth, 262: 1, 339: 2})
                yield Case(f"signed{depth}{order}.tif", data, None)
    for orientation in range(1, 9):
        for order in "<>":
            for depth in (8, 16):
                values = RNG.integers(0, 2**depth, (5, 9))
                body = b"".join(packed(values, depth, order))
                data = tiff(body, (5, 9), order, {258: depth, 262: 1, 274: orientation})
                shown = turned(grey(values * 255 / (2**depth - 1)), orientation)
                yield Case(f"turned{orientation}-{depth}{order}.tif", data, shown)


# --- the rest ----------------------------------------------------------------------------------


def ppm_cases() -> Iterator[Case]:
    for size in SIZES:
        for top in (1, 15, 100, 255, 1023, 4095, 65535):
            for magic, channels in (("P5", 1), ("P6", 3), ("P2", 1), ("P3", 3)):
                values = RNG.integers(0, top + 1, (*size, channels))
                body = values.astype(">u2" if top > 255 else "u1").tobytes()
                if magic in ("P2", "P3"):
                    body = " ".join(map(str, values.ravel())).encode()
                shown = values * 255 / top
                shown = grey(shown[..., 0]) if channels == 1 else shown
                data = f"{magic}\n{size[1]} {size[0]}\n{top}\n".encode() + body
                yield Case(f"{magic}-{top}.pnm", data, shown, 1.0)
        bits = RNG.integers(0, 2, size)
        data = f"P4\n{size[1]} {size[0]}\n".encode() + b"".join(packed(bits, 1))
        yield Case("P4.pbm", data, grey((1 - bits) * 255))
        floats = RNG.random(size).astype("<f4")
        data = f"Pf\n{size[1]} {size[0]}\n-1.0\n".encode() + floats[::-1].tobytes()
        yield Case("Pf.pfm", data, grey(floats * 255))


def saved(image: Image.Image, ending: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[ending], **options)
    return buffer.getvalue()


LOSSLESS = (".bmp", ".dib", ".tga", ".pcx", ".sgi", ".qoi", ".jp2", ".tif", ".webp", ".dds", ".im")
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".avif", ".webp")


def pillow_cases() -> Iterator[Case]:
    """Formats that Pillow writes: without loss exactly, with loss on even blocks of grey."""
    for size in ((16, 24), (17, 16)):
        rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
        alpha = RNG.integers(1, 256, (*size, 1), dtype=np.uint8)
        level = RNG.integers(0, 256, size, dtype=np.uint8)
        images = {
            "RGB": (Image.fromarray(rgb), rgb),
            "RGBA": (Image.fromarray(np.concatenate((rgb, alpha), 2)), rgb),
            "L": (Image.fromarray(level), grey(level)),
            "1": (Image.fromarray(level > 127), grey((level > 127) * 255)),
        }
        for ending in LOSSLESS:
            for mode, (image, shown) in images.items():
                options = {"lossless": True, "exact": True} if ending == ".webp" else {}
                try:
                    data = saved(image, ending, **options)
                except (OSError, ValueError):  # a format without this mode
                    continue
                yield Case(f"{mode}{ending}", data, shown)
        corners = grey(np.kron(RNG.integers(0, 256, (2, 2)), np.ones((16, 16))))
        whole = Image.fromarray(corners.astype(np.uint8))
        for ending in LOSSY:
            for orientation in range(1, 9):
                tags = Image.Exif()
                tags[0x0112] = orientation
                data = saved(whole, ending, quality=95, exif=tags)
                yield Case(f"o{orientation}{ending}", data, turned(corners, orientation), 8.0)
            # the content counts where the name says nothing, or something else
            yield Case(f"none-{ending[1:]}", saved(whole, ending, quality=95), corners, 8.0)
        inks = whole.convert("CMYK")
        yield Case("cmyk.jpg", saved(inks, ".jpg", quality=95), corners, 8.0)
        yield Case("cmyk.tif", saved(inks, ".tif"), corners)
        first, second = Image.fromarray(level), Image.fromarray(255 - level)
        for ending in (".gif", ".apng", ".tif", ".webp"):
            exactly = {"lossless": True} if ending == ".webp" else {}
            data = saved(first, ending, save_all=True, append_images=[second], **exactly)
            yield Case(f"animated{ending}", data, grey(level))


def broken_cases() -> Iterator[Case]:
    values = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for ending in (".png", ".jpg", ".bmp", ".tif", ".tga", ".webp", ".jp2", ".gif", ".ppm"):
        data = saved(Image.fromarray(values), ending)
        yield Case(f"half{ending}", data[: len(data) // 2], None)
        yield Case(f"empty{ending}", b"", None)
        yield Case(f"text{ending}", b"no image at all " * 4, None)


CASES = [
    *(*png_cases(), *tiff_cases(), *ppm_cases()),
    *(*pillow_cases(), *broken_cases()),
]


def wrong(case: Case, path: Path) -> str | None:
    """Return what is wrong about how a case is read."""
    path.write_bytes(case.data)
    try:
        found = np.asarray(read_picture(path)[0], dtype=np.float64)
    except DataError as error:
        named = path.name in str(error)
        return (
            None
            if named and (case.shown is None or case.rare)
            else f"{case.name}: refused, {error}"
        )
    if case.shown is None:
        return f"{case.name}: read, and should be refused"
    if found.shape != case.shown.shape:
        return f"{case.name}: {found.shape} and not {case.shown.shape}"
    gap = np.abs(found - case.shown).max()
    return f"{case.name}: off by {gap}" if gap > case.within + 0.01 else None


def test_every_picture_is_read_right_or_named(tmp_path: Path) -> None:
    problems = [
        problem
        for number, case in enumerate(CASES)
        if (problem := wrong(case, tmp_path / f"{number}-{case.name}"))
    ]
    assert not problems, "\n".join(problems)
    assert len(CASES) >= 300


def test_every_picture_is_seen(tmp_path: Path) -> None:
    for number, case in enumerate(CASES):
        path = tmp_path / f"{number}-{case.name}"
        path.write_bytes(case.data)
        assert is_picture(path), case.name
    assert {".jfif", ".jpe", ".gif", ".ppm", ".tga", ".apng"} <= endings()
    for name, content in (("notes", b"P5 is a road"), ("a.csv", CASES[0].data), ("x.eps", b"%!PS")):
        path = tmp_path / name
        path.write_bytes(content)
        assert not is_picture(path)
    assert not is_picture(tmp_path)


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.9])
def test_damaged_bytes_are_named_or_read(cut: float, tmp_path: Path) -> None:
    """Whatever a decoder stumbles over comes out as a ``DataError``."""
    for number, case in enumerate(CASES[::5]):
        data = bytearray(case.data)
        for place in RNG.integers(0, max(1, len(data)), max(1, int(len(data) * (1 - cut) * 0.1))):
            data[place : place + 1] = bytes([int(RNG.integers(0, 256))])
        path = tmp_path / f"{number}-{case.name}"
        path.write_bytes(bytes(data))
        with suppress(DataError):
            assert read_picture(path)[0].mode == "RGB"
