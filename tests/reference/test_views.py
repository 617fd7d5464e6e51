"""The suite's views against images made one by one, in numpy, by what their docstrings say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from dabench import views

COUNT, SIDE = 12, 24
IMAGES = torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def drawn(*ranges: tuple[float, float]) -> list[np.ndarray]:
    """Draw as the views do: one number an image from each range in turn."""
    torch.manual_seed(5)
    found = [torch.empty(COUNT).uniform_(low, high) for low, high in ranges]
    torch.manual_seed(5)
    return [values.numpy().astype(np.float64) for values in found]


@pytest.mark.parametrize("flip", [False, True])
def test_affine(flip: bool) -> None:
    """Where a pixel comes from: mirrored, turned and scaled about the middle, then shifted."""
    ranges = [(-0.35, 0.35), (0.8, 1.2), *([(0.0, 1.0)] * flip), (-0.1, 0.1), (-0.1, 0.1)]
    angle, zoom, *coin, across, down = drawn(*ranges)
    found = views.affine(IMAGES, rotate=0.35, scale=0.2, translate=0.1, flip=flip).numpy()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    half = (SIDE - 1) / 2
    y, x = (rows - half) / (SIDE / 2), (columns - half) / (SIDE / 2)  # -1 to 1 over the frame
    mirrored = 0
    for i, image in enumerate(IMAGES.numpy()):
        mirror = -1.0 if flip and coin[0][i] < 0.5 else 1.0
        mirrored += mirror < 0
        cos, sin = zoom[i] * np.cos(angle[i]), zoom[i] * np.sin(angle[i])
        from_x = mirror * cos * x - sin * y + 2 * across[i]
        from_y = mirror * sin * x + cos * y + 2 * down[i]
        places = [from_y * SIDE / 2 + half, from_x * SIDE / 2 + half]
        places = [np.clip(place, 0, SIDE - 1) for place in places]  # the border is repeated
        wanted = [ndimage.map_coordinates(c, places, order=1, mode="nearest") for c in image]
        np.testing.assert_allclose(found[i], np.stack(wanted), atol=1e-5)
    assert (0 < mirrored < COUNT) == flip


def test_colour() -> None:
    bright, contrast, vivid = drawn((0.6, 1.4), (0.7, 1.3), (0.5, 1.5))
    found = views.colour(IMAGES, brightness=0.4, contrast=0.3, saturation=0.5).numpy()
    for i, image in enumerate(IMAGES.double().numpy()):
        wanted = image * bright[i]
        wanted = wanted.mean() + (wanted - wanted.mean()) * contrast[i]
        grey = wanted.mean(0)
        wanted = grey + (wanted - grey) * vivid[i]
        np.testing.assert_allclose(found[i], np.clip(wanted, 0, 1), atol=1e-6)


def test_erase() -> None:
    found = views.erase(IMAGES, share=0.25).numpy()
    corners = set()
    for image, out in zip(IMAGES.numpy(), found, strict=True):
        rows, columns = np.nonzero((image != out).any(0))
        side = SIDE // 4
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (side, side, side**2)
        mean = np.broadcast_to(image.mean((1, 2))[:, None], (3, len(rows)))
        np.testing.assert_allclose(out[:, rows, columns], mean, atol=1e-6)
        corners.add((rows.min(), columns.min()))
    assert len(corners) > COUNT // 2


def test_blur() -> None:
    (amount,) = drawn((0.0, 0.8))
    found = views.blur(IMAGES, most=0.8).numpy()
    for i, image in enumerate(IMAGES.double().numpy()):
        soft = image
        for axis in (1, 2):
            soft = ndimage.correlate1d(soft, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
        np.testing.assert_allclose(found[i], image + amount[i] * (soft - image), atol=1e-6)


def test_weak_is_a_shift_and_a_zoom() -> None:
    for flip in (False, True):
        torch.manual_seed(5)
        wanted = views.affine(IMAGES, rotate=0.0, scale=0.1, translate=0.06, flip=flip)
        torch.manual_seed(5)
        assert torch.equal(views.weak(IMAGES, flip=flip), wanted)
