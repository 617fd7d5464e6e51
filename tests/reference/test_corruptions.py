"""The corruptions against plain, slow versions with their own constants, and what holds for all."""

from __future__ import annotations

import colorsys
import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from dabench.datasets.corruptions.elastic import smooth
from dabench.datasets.corruptions.frost import LOOKS, frost_texture
from dabench.datasets.corruptions.kinds import CORRUPTIONS, EXTRA
from dabench.datasets.corruptions.plasma import plasma
from dabench.datasets.weather.groups import GROUPS
from dabench.errors import ConfigError, DataError

KINDS = {kind.name.removeprefix("c-"): kind for kind in (*CORRUPTIONS, *EXTRA)}
Array = np.ndarray[Any, Any]
SMALL, LARGE = (24, 36), (64, 76)
#: kinds that draw nothing
FIXED = {
    *("defocus-blur", "zoom-blur", "brightness", "contrast", "pixelate", "jpeg-compression"),
    *("gaussian-blur", "saturate"),
}
#: kinds whose published constants do not make every severity change more than the one before
#: (fog: severities 3 and 4 of ImageNet-C have the same strength; saturate: 1 and 2 take colour
#: away, 3 to 5 add some; spatter: 4 and 5 are mud, which covers less than the water of 3)
UNORDERED = {
    224: {"glass-blur", "snow", "frost", "fog", "elastic-transform", "saturate"},
    32: {"glass-blur", "frost", "elastic-transform", "saturate", "spatter"},
}
#: kinds whose severity 5 may change less than severity 1
TURNING = {"elastic-transform", "saturate"}


def picture(height: int, width: int) -> Array:
    """Soft patches with noise, some of it black."""
    rng = np.random.default_rng(height * width)
    rough = rng.uniform(-0.2, 1.2, (height // 6 + 2, width // 6 + 2, 3))
    soft = ndimage.zoom(rough, (6, 6, 1), order=1)[:height, :width]
    return np.clip(255 * soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)


def floor(values: Array) -> Array:
    """From 0–1 to grey levels, the fraction dropped; a hair more for what should be whole."""
    return np.floor(np.clip(values, 0, 1) * 255 + 1e-4).astype(int)


def each_channel(x: Array, change: Callable[[Array], Array]) -> Array:
    return np.stack([change(x[..., channel]) for channel in range(3)], axis=-1)


def gaussian_noise(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    c = [0.04, 0.06, 0.08, 0.09, 0.10][s] if small else [0.08, 0.12, 0.18, 0.26, 0.38][s]
    return floor(x / 255 + c * rng.standard_normal(x.shape, dtype=np.float32))


def gauss_taps(sigma: float, reach: int) -> Array:
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def defocus_blur(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    radius, sigma = (
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)][s]
        if small
        else [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)][s]
    )
    line = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    disk = np.array([[float(y * y + x * x <= radius**2) for x in line] for y in line])
    disk /= disk.sum()
    taps = gauss_taps(sigma, 1 if radius <= 8 else 2)
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, taps, axis=axis, mode="mirror")
    return floor(each_channel(x / 255, lambda p: ndimage.correlate(p, disk, mode="mirror")))


def glass_blur(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    sigma, reach, passes = (
        [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)][s]
        if small
        else [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)][s]
    )

    def soften(p: Array) -> Array:
        return ndimage.gaussian_filter(p, sigma, mode="nearest", truncate=4)

    height, width = x.shape[:2]
    image = floor(each_channel(x / 255, soften))
    draws = [
        rng.integers(-reach, reach, (height - 2 * reach, width - 2 * reach, 2), dtype=np.int8)
        for _ in range(passes)
    ]
    # the value of a pass comes from the pass before, and the origin of the last is drawn last
    for steps in draws:
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = steps[h - reach - 1, w - reach - 1]
                image[h, w] = image[h + dy, w + dx]
    return floor(each_channel(image / 255, soften))


def along_line(x: Array, radius: int, sigma: float, degrees: float) -> Array:
    """Every step of the line, edges continued by hand."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.arange(x.shape[0]), np.arange(x.shape[1])
    total = np.zeros(x.shape)
    for i in range(width):
        down = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        right = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        y, z = np.clip(rows + down, 0, len(rows) - 1), np.clip(columns + right, 0, len(columns) - 1)
        total += weights[i] * x[y][:, z]
    return total


def motion_blur(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    radius, sigma = (
        [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)][s]
        if small
        else [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)][s]
    )
    return floor(along_line(x / 255, radius, sigma, rng.uniform(-45, 45)))


def clipped_zoom(x: Array, factor: float) -> Array:
    """Enlarge the middle with scipy."""
    for axis in (0, 1):
        n = x.shape[axis]
        length = math.ceil(n / factor)
        part = np.take(x, np.arange((n - length) // 2, (n - length) // 2 + length), axis)
        x = enlarge_axis(part, n, factor, axis)
    return x


def enlarge_axis(part: Array, n: int, factor: float, axis: int) -> Array:
    factors = [1.0] * part.ndim
    factors[axis] = factor
    large = ndimage.zoom(part, factors, order=1, mode="nearest")
    trim = (large.shape[axis] - n) // 2
    return np.take(large, np.arange(trim, trim + n), axis)


def zoom_blur(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    end, step = (
        ([1.06, 1.11, 1.16, 1.21, 1.26][s], 0.01)
        if small
        else ([1.11, 1.16, 1.21, 1.26, 1.31][s], [0.01, 0.01, 0.02, 0.02, 0.03][s])
    )
    zoomed = [clipped_zoom(x / 255, factor) for factor in np.arange(1, end, step)]
    return floor((x / 255 + sum(zoomed)) / (len(zoomed) + 1))


def snow(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    mean, sd, factor, threshold, radius, sigma, clear = (
        [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ][s]
        if small
        else [
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ][s]
    )
    height, width = x.shape[:2]
    shown = math.ceil(height / factor), math.ceil(width / factor)
    layer = mean + sd * rng.standard_normal(shown, dtype=np.float32).astype(float)
    layer = enlarge_axis(enlarge_axis(layer, height, factor, 0), width, factor, 1)
    layer = np.floor(np.clip(np.where(layer < threshold, 0, layer), 0, 1) * 255)
    layer = np.rint(along_line(layer, int(radius), sigma, rng.uniform(-135, -45)))[..., None] / 255
    image = x / 255
    grey = (image @ [0.299, 0.587, 0.114])[..., None]
    image = clear * image + (1 - clear) * np.maximum(image, 1.5 * grey + 0.5)
    return floor(image + layer + np.rot90(layer, 2))


def frost(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    kept, added = (
        [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)][s]
        if small
        else [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)][s]
    )
    look = rng.integers(5)
    texture = frost_texture(int(look), small, 1, 1)
    top, left = rng.integers(0, len(texture), 2)
    texture = np.roll(texture, (-top, -left), (0, 1))[: x.shape[0], : x.shape[1]]
    return floor((kept * x + added * texture.astype(float)) / 255)


def diamond_square(side: int, decay: float, rng: np.random.Generator) -> Array:
    """Point by point on a torus, in double precision."""
    a = np.zeros((side, side))
    step, wobble = side, 100.0
    while step > 1:
        half, n = step // 2, side // step
        shift = wobble * wobble * (2 * rng.random((3, n, n), dtype=np.float32).astype(float) - 1)
        for i in range(n):
            for j in range(n):
                y, x = i * step, j * step
                corners = [a[(y + p) % side, (x + q) % side] for p in (0, step) for q in (0, step)]
                a[y + half, x + half] = sum(corners) / 4 + shift[0, i, j]
        for number, (dy, dx) in ((1, (0, half)), (2, (half, 0))):
            for i in range(n):
                for j in range(n):
                    y, x = i * step + dy, j * step + dx
                    near = [(y - half, x), (y + half, x), (y, x - half), (y, x + half)]
                    mean = sum(a[p % side, q % side] for p, q in near) / 4
                    a[y, x] = mean + shift[number, i, j]
        step, wobble = half, wobble / decay
    a -= a.min()
    return a / a.max()


def fog(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    strength, decay = (
        [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)][s]
        if small
        else [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)][s]
    )
    side = 64 if small else 128
    clouds = diamond_square(side, decay, rng)[: x.shape[0], : x.shape[1], None]
    top = x.max() / 255
    return floor((x / 255 + strength * clouds) * top / (top + strength))


def brightness(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    added = [0.05, 0.1, 0.15, 0.2, 0.3][s] if small else [0.1, 0.2, 0.3, 0.4, 0.5][s]
    rows = []
    for pixel in x.reshape(-1, 3) / 255:
        h, saturation, v = colorsys.rgb_to_hsv(*pixel)
        rows.append(colorsys.hsv_to_rgb(h, saturation, min(v + added, 1)))
    return floor(np.array(rows).reshape(x.shape))


def contrast(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    kept = [0.75, 0.5, 0.4, 0.3, 0.15][s] if small else [0.4, 0.3, 0.2, 0.1, 0.05][s]
    means = (x / 255).mean((0, 1), keepdims=True)
    return floor((x / 255 - means) * kept + means)


def elastic_transform(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    alpha, sigma, reach = (
        [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)]
        if small
        else [(2, 0.7, 0.1), (2, 0.08, 0.2), *((a, 0.01, 0.02) for a in (0.05, 0.07, 0.12))]
    )[s]
    height, width = x.shape[:2]
    unit = min(height, width) * (1 if small else 244 / 224)
    q = min(height, width) // 3
    corners = np.array([[q, q], [q, -q], [-q, -q]])
    points = corners + np.array([width // 2, height // 2])
    moved = points + rng.uniform(-reach * unit, reach * unit, (3, 2))
    # output (x, y, 1) -> input (x, y), then in SciPy's order (y, x)
    back = np.linalg.solve(np.c_[moved, np.ones(3)], points).T[::-1, [1, 0, 2]]

    def shear(p: Array) -> Array:
        options = {"offset": back[:, 2], "order": 1, "mode": "mirror"}
        return ndimage.affine_transform(p, back[:, :2], **options)

    image = each_channel(x / 255, shear)
    if alpha == 0:
        return floor(image)
    noise = [2 * rng.random((height, width), dtype=np.float32).astype(float) - 1 for _ in range(2)]
    dx, dy = (
        alpha * unit * ndimage.gaussian_filter(n, sigma * unit, mode="reflect", truncate=3)
        for n in noise
    )
    y, z = np.mgrid[:height, :width]
    where = [y + dy, z + dx]
    return floor(
        each_channel(image, lambda p: ndimage.map_coordinates(p, where, order=1, mode="reflect"))
    )


def pixelate(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    kept = [0.95, 0.9, 0.85, 0.75, 0.65][s] if small else [0.6, 0.5, 0.4, 0.3, 0.25][s]
    height, width = x.shape[:2]
    image = Image.fromarray(x).resize((int(width * kept), int(height * kept)), Image.Resampling.BOX)
    return np.array(image.resize((width, height), Image.Resampling.BOX)).astype(int)


def jpeg_compression(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    quality = [80, 65, 58, 50, 40][s] if small else [25, 18, 15, 10, 7][s]
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file)).astype(int)


#: reference -> largest and mean difference allowed, grey levels
def speckle_noise(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    c = [0.06, 0.1, 0.12, 0.16, 0.2][s] if small else [0.15, 0.2, 0.35, 0.45, 0.6][s]
    return floor(x / 255 + x / 255 * (c * rng.standard_normal(x.shape, dtype=np.float32)))


def gaussian_blur(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    c = [0.4, 0.6, 0.7, 0.8, 1][s] if small else [1, 2, 3, 4, 6][s]
    return floor(
        each_channel(x / 255, lambda p: ndimage.gaussian_filter(p, c, mode="nearest", truncate=4))
    )


def saturate(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    large = [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)]
    c = ([(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)] if small else large)[s]
    rows = []
    for pixel in x.reshape(-1, 3) / 255:
        h, saturation, v = colorsys.rgb_to_hsv(*pixel)
        rows.append(colorsys.hsv_to_rgb(h, min(max(saturation * c[0] + c[1], 0), 1), v))
    return floor(np.array(rows).reshape(x.shape))


def spatter(x: Array, small: bool, s: int, rng: np.random.Generator) -> Array:
    mean, sd, sigma, threshold, last, mud = (
        [
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ]
        if small
        else [
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ]
    )[s]
    noise = rng.standard_normal(x.shape[:2], dtype=np.float32).astype(float)
    liquid = ndimage.gaussian_filter(mean + sd * noise, sigma, mode="nearest", truncate=4)
    if mud:
        wet = np.where(liquid > threshold, 1.0, 0.0)
        wet = ndimage.gaussian_filter(wet, last, mode="nearest", truncate=4)
        wet = np.where(wet < 0.8, 0, wet)[..., None]
        return floor(x / 255 * (1 - wet) + wet * np.array([63, 42, 20]) / 255)
    drops = (np.where(liquid < threshold, 0, np.minimum(liquid, 1)) * 255).astype(np.uint8)
    far = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    box = np.ones((3, 3)) / 9
    level = ndimage.correlate(np.minimum(far, 20).astype(float), box, mode="mirror")
    relief = cv2.equalizeHist((level + 1e-4).astype(np.uint8))
    lit = ndimage.correlate(
        relief.astype(float), np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror"
    )
    lit = np.round(ndimage.correlate(np.clip(lit, 0, 255), box, mode="mirror"))
    shine = drops * lit
    shine = shine / max(shine.max(), 1e-9) * last
    return floor(x / 255 + shine[..., None] * np.array([175, 238, 238]) / 255)


REFERENCES: dict[Callable[..., Array], tuple[int, float]] = {
    gaussian_noise: (1, 0.003),
    defocus_blur: (1, 0.01),
    glass_blur: (1, 0.1),
    motion_blur: (1, 0.1),
    zoom_blur: (1, 0.01),
    snow: (255, 0.01),  # interpolated noise near its threshold may fall on either side
    frost: (1, 0.001),
    fog: (1, 0.01),
    brightness: (1, 0.01),
    contrast: (1, 0.001),
    elastic_transform: (1, 0.1),  # interpolation at 1/32 of a pixel, twice
    pixelate: (0, 0),
    jpeg_compression: (0, 0),
    speckle_noise: (1, 0.003),
    gaussian_blur: (1, 0.01),
    spatter: (255, 0.01),  # blurred noise near its threshold may fall on either side
    saturate: (1, 0.01),
}


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("reference", REFERENCES)
def test_it_does_what_the_plain_version_does(
    reference: Callable[..., Array], size: tuple[int, int], severity: int
) -> None:
    # the standards' own shape where a plain version is exact there only
    size = {SMALL: (32, 32), LARGE: (224, 224)}[size] if reference is pixelate else size
    x, name = picture(*size), reference.__name__.replace("_", "-")
    expected = reference(x, min(size) < 64, severity - 1, np.random.default_rng(7))
    ours = KINDS[name].render(x, severity, np.random.default_rng(7))
    difference = np.abs(ours - expected)
    assert difference.max() <= REFERENCES[reference][0]
    assert difference.mean() <= REFERENCES[reference][1]
    if name != "contrast":  # whose own effect may be smaller than a level on few values
        assert np.abs(x - expected.astype(float)).mean() > 5 * difference.mean()


@pytest.mark.parametrize(("side", "photons"), [(32, 500), (32, 50), (128, 60), (128, 3)])
def test_shot_noise_is_poisson(side: int, photons: int) -> None:
    severity = {500: 1, 50: 5, 60: 1, 3: 5}[photons]
    rng = np.random.default_rng(0)
    for grey in (0, 20, 130, 255):
        flat = np.full((side, side, 3), grey, np.uint8)
        drawn = np.stack([KINDS["shot-noise"].render(flat, severity, rng) for _ in range(9)])
        counts = np.arange(2000)
        share = stats.poisson.pmf(counts, grey / 255 * photons)
        values = np.floor(np.clip(counts / photons, 0, 1) * 255 + 1e-6)
        mean = share @ values
        sd = math.sqrt(share @ values**2 - mean**2)
        assert abs(drawn.mean() - mean) <= 5 * sd / math.sqrt(drawn.size) + 1e-9
        assert abs(drawn.std() - sd) <= 0.03 * sd + 1e-9


@pytest.mark.parametrize("side", [32, 224])
def test_impulse_noise_replaces_a_share_by_black_and_white(side: int) -> None:
    shares = {32: (0.01, 0.02, 0.03, 0.05, 0.07), 224: (0.03, 0.06, 0.09, 0.17, 0.27)}[side]
    flat = np.full((side, side, 3), 77, np.uint8)
    rng = np.random.default_rng(1)
    for severity, share in enumerate(shares, 1):
        drawn = np.stack([KINDS["impulse-noise"].render(flat, severity, rng) for _ in range(20)])
        assert set(np.unique(drawn)) == {0, 77, 255}
        for value in (0, 255):
            near = 5 * math.sqrt(share / 2 / drawn.size)
            assert abs((drawn == value).mean() - share / 2) < near


@pytest.mark.parametrize("decay", [3.0, 1.4])
def test_plasma_spans_0_to_1_and_matches_the_plain_version(decay: float) -> None:
    ours = plasma(32, decay, np.random.default_rng(3))
    assert (ours.min(), ours.max()) == (0, 1)
    plain = diamond_square(32, decay, np.random.default_rng(3))
    np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.7, 2.66, 5.9, 6.5, 19.5, 45.7])
def test_smooth_noise_is_a_truncated_gaussian(sigma: float) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (60, 90)).astype(np.float32)
    plain = ndimage.gaussian_filter(noise.astype(float), sigma, mode="reflect", truncate=3)
    # the second term: 1/100 of a pixel at the largest strength, twice the shorter side
    assert np.abs(smooth(noise, sigma) - plain).max() < 0.01 * np.abs(plain).max() + 8e-5


def test_frost_textures_differ_and_continue_at_their_edges() -> None:
    sheets = [frost_texture(look, False, 1, 1).astype(float) for look in range(5)]
    for texture, look in zip(sheets, LOOKS, strict=True):
        np.testing.assert_allclose(texture.mean((0, 1)), look.colour, atol=3)
        assert 0.8 * look.contrast < texture.mean(-1).std() < 1.05 * look.contrast
        seam = np.abs(texture[0] - texture[-1]).mean()
        assert seam < 1.5 * np.abs(np.diff(texture, axis=0)).mean()
    assert (
        np.corrcoef([sheet.mean(-1).ravel() for sheet in sheets])[~np.eye(5, dtype=bool)].max()
        < 0.3
    )


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("name", KINDS)
def test_severity_orders_the_change_except_where_the_standard_does_not(
    name: str, side: int
) -> None:
    x = picture(side, side)
    changes = [
        np.mean(
            [
                np.abs(KINDS[name].render(x, s, np.random.default_rng(seed)).astype(float) - x)
                for seed in range(2 if name in FIXED else 6)
            ]
        )
        for s in range(1, 6)
    ]
    ordered = all(b >= a for a, b in itertools.pairwise(changes))
    assert ordered != (name in UNORDERED[side]), changes
    assert (changes[-1] > changes[0]) != (name in TURNING), changes


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (224, 224)])
@pytest.mark.parametrize("name", KINDS)
def test_shape_purity_and_determinism(name: str, size: tuple[int, int]) -> None:
    x = picture(*size)
    x.flags.writeable = False  # whoever writes into it fails
    for severity in (1, 5):
        first, again, other = (
            KINDS[name].render(x, severity, np.random.default_rng(seed)) for seed in (3, 3, 4)
        )
        assert first.shape == x.shape
        assert first.dtype == np.uint8
        assert first.flags.writeable
        np.testing.assert_array_equal(first, again)
        assert (first == other).all() == (name in FIXED)


@pytest.mark.parametrize("name", KINDS)
def test_black_and_white_and_strided_pictures(name: str) -> None:
    for grey in (0, 255):
        flat = np.full((33, 20, 3), grey, np.uint8)
        made = KINDS[name].render(flat, 2, np.random.default_rng(0))
        if name.endswith("blur") or name in {"contrast", "elastic-transform", "pixelate"}:
            np.testing.assert_array_equal(made, flat)
    view = picture(80, 70)[:, ::-1][::2]
    made, copied = (
        KINDS[name].render(v, 3, np.random.default_rng(0)) for v in (view, view.copy(order="C"))
    )
    np.testing.assert_array_equal(made, copied)


def test_names_and_standard() -> None:
    assert (len(CORRUPTIONS), len(EXTRA), len(KINDS)) == (15, 4, 19)
    both = (*CORRUPTIONS, *EXTRA)
    assert all(kind.name.startswith("c-") and kind.levels == 5 for kind in both)
    assert {kind.standard for kind in both} == {"imagenet-c/cifar-c"}
    assert [kind.name for kind in CORRUPTIONS] == list(GROUPS["c-15"])
    assert [kind.name for kind in EXTRA] == list(GROUPS["c-extra"])


@pytest.mark.parametrize("name", KINDS)
def test_what_cannot_be_corrupted_is_refused(name: str) -> None:
    render, rng = KINDS[name].render, np.random.default_rng(0)
    for severity in (0, 6):
        with pytest.raises(ConfigError, match="expected 1 to 5"):
            render(picture(20, 20), severity, rng)
    for wrong in (np.zeros((20, 20), np.uint8), picture(15, 40), np.zeros((20, 20, 3), np.float32)):
        with pytest.raises(DataError, match="16 × 16"):
            render(wrong, 1, rng)
