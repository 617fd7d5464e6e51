"""``dabench data info``: what a card says; archives that still lie there, in ``data check``."""

from __future__ import annotations

from pathlib import Path

import pytest

from dabench import registry
from dabench.cli.main import main
from dabench.contract.data import ClassSplit
from dabench.datasets.class_folders.folder_card import folder_facts
from dabench.datasets.class_folders.folder_spec import Spec


def test_a_card_has_what_the_reader_of_the_set_knows() -> None:
    spec = Spec(
        "toys",
        "get it from https://toys",
        folders=("toys", "toybox"),
        domains={"new": (), "old": ()},
        classes=("car", "bear"),
        counts={"new": 1200},
        splits={"default": ClassSplit(("car",), ("bear",))},
        archives={"toys.zip": "d41d8"},
    )
    assert folder_facts(spec) == [
        "folder: <data root>/toys or <data root>/toybox",
        "domains: new (1,200 images) old",
        "2 classes in this order: car bear",
        "split default: known car; unknown bear",
        "where: https://toys",
        "MD5 of toys.zip: d41d8",
        "more: docs/datasets.md (layout, licence, what was not checked)",
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("office31", ["split opda: known back_pack", "faculty.cc.gatech.edu", "2,817 images"]),
        ("imagenet", ["n01440764 ", "(1000 in all)", "1d675b47d978889d74fa0da5fadfb00e"]),
        ("loveda", ["7 classes in this order: background", "zenodo.org", "Train.zip: de2b1960"]),
        ("image-folder", ["expected: <data root>/<domain>/<class>/*.jpg"]),
    ],
)
def test_cards_are_printed(name: str, told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", name]) == 0
    out = capsys.readouterr().out
    assert [text for text in told if text not in out] == []


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("resisc45", "NWPU-RESISC45.rar"),
        ("resisc45", "resisc45/NWPU-RESISC45.rar"),
        ("eurosat", "EuroSAT.zip"),
        ("imagenet-r", "imagenet-r.tar"),
        ("imagenet-c", "imagenet-c/blur.tar"),
        ("loveda", "loveda/Train.zip"),
    ],
)
def test_a_look_alike_of_an_archive_is_told_once(tmp_path: Path, name: str, archive: str) -> None:
    for folder in ("weather/fog/1/n01440764", "Train/Rural/images_png"):
        (tmp_path / name / folder).mkdir(parents=True)
    (tmp_path / name / "Train/Rural/images_png/0.png").write_bytes(b"")
    (tmp_path / archive).write_bytes(b"cut off")
    told = [line for line in registry.dataset(name)().check(tmp_path) if "MD5" in line]
    (line,) = told
    assert line.startswith(f"{tmp_path / archive} has the MD5 ")
