"""``dabench weather``: a list and a contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.cli.main import main
from dabench.datasets.weather.apply import KINDS


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weather", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(KINDS)
    assert "aid-cc" in [line.split()[0] for line in lines if line.endswith("published")]


def test_preview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    words = ["--kinds", "fog,aid-cc", "--size", "32", "--seed", "3", "--out", str(out)]
    assert main(["weather", "preview", *words]) == 0
    assert str(out) in capsys.readouterr().out
    first = np.asarray(Image.open(out))
    assert first.shape == (2 * (32 + 26), 8 * 32, 3)
    clear, worst = first[26:58, :32].astype(int), first[26:58, 5 * 32 : 6 * 32].astype(int)
    assert np.abs(worst - clear).mean() > 20
    assert main(["weather", "preview", *words]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out)), first)


def test_sheets_have_large_cells_by_default_and_may_be_webp(tmp_path: Path) -> None:
    out = tmp_path / "sheet.webp"
    assert main(["weather", "preview", "--kinds", "fog", "--out", str(out)]) == 0
    with Image.open(out) as sheet:
        assert (sheet.format, sheet.size) == ("WEBP", (6 * 160, 160 + 26))
        title = np.asarray(sheet.convert("L"))[:26]
    for level in range(6):  # each column is named
        assert title[:, level * 160 : (level + 1) * 160].min() < 100, level


def test_preview_of_ones_own_picture(tmp_path: Path) -> None:
    given, out = tmp_path / "mine.png", tmp_path / "sheet.png"
    Image.new("RGB", (70, 40), (10, 200, 30)).save(given)
    words = ["--image", str(given), "--kinds", "rain", "--size", "24", "--out", str(out)]
    assert main(["weather", "preview", *words]) == 0
    assert (np.asarray(Image.open(out))[26:50, :24] == (10, 200, 30)).all()


def test_preview_reads_pictures_as_data_sets_do(tmp_path: Path) -> None:
    given, out = tmp_path / "mine.png", tmp_path / "sheet.png"
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = np.full((24, 24), 20_000, dtype=np.uint16)
    pixels[:12] = 40_000
    Image.fromarray(pixels).save(given, exif=exif)
    words = ["--image", str(given), "--kinds", "rain", "--size", "24", "--out", str(out)]
    assert main(["weather", "preview", *words]) == 0
    shown = np.asarray(Image.open(out))[26:50, :24]
    assert (shown[:12] == 78).all()
    assert (shown[12:] == 156).all()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--kinds", "fogg"], "did you mean 'fog'"),
        (["--size", "8"], "--size 8: expected a whole number from 16"),
        (["--size", "big"], "--size big"),
        (["--seed", "-1"], "--seed -1"),
        (["--out", "sheet.jpg"], "end the name in .png"),
        (["--out", "nowhere/sheet.png"], "no folder nowhere"),
        (["--kinds", "fog", "--size", "24", "--out", "/proc/sheet.png"], "/proc/sheet.png: "),
        (["--image", "nothing.jpg"], "--image nothing.jpg: not a readable image"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["weather", "preview", *words]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))
