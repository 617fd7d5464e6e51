"""A user's own folders under every protocol: real open sets, partial sets, splits, one domain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dabench import registry
from dabench.cli.main import main
from dabench.config.spec import resolve
from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.class_folders.class_folder import ImageFolder
from dabench.datasets.class_folders.manifest import Manifest
from dabench.errors import ConfigError, DataError

COLOURS = {"ant": (200, 30, 30), "bee": (30, 200, 30), "cat": (30, 30, 200), "dog": (200, 200, 30)}
Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Return ``fill(domain, classes, count)``, which makes class folders of coloured noise."""

    def make(domain: str, classes: str = "ant bee cat dog", count: int = 12) -> Path:
        rng = np.random.default_rng(len(domain))
        for name in classes.split():
            folder = tmp_path / "data" / domain / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(-30, 30, (32, 32, 3))
                pixels = np.clip(np.array(COLOURS[name]) + noise + 20 * (domain == "b"), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        return tmp_path / "data"

    return make


def load(root: Path, source: str = "a", target: str = "b") -> DomainData:
    return ImageFolder().load(DataRequest(source, target, 16, root, root.parent / "cache"))


def test_a_real_open_set(fill: Fill) -> None:
    fill("a", "ant cat")
    root = fill("b", "ant bee cat dog")
    data = load(root)
    assert data.classes == ("ant", "bee", "cat", "dog")
    assert set(data.source_train.labels) == {0, 2}
    assert data.splits["default"].known == ("ant", "cat")
    assert data.splits["default"].unknown == ("bee", "dog")
    plan = registry.protocol("sf-osda")().plan(data, 8, 0)
    assert plan.task.classes == ("ant", "cat")
    assert sorted(set(plan.truth["adapt"])) == [0, 1, 2]
    for name in ("sf-uda", "bb-uda"):
        reason = registry.protocol(name)().is_valid(data)
        assert "the source 'a' has no image of bee, dog, and sf-osda is for such a target" in reason
    reason = registry.protocol("online-tta")().is_valid(data)
    assert "its model cannot name them" in reason
    lines = ImageFolder().check(root)
    assert any("a to b: 2 class(es)" in line and "sf-osda" in line for line in lines)


def test_a_partial_set(fill: Fill) -> None:
    fill("a")
    data = load(fill("b", "ant dog"))
    assert data.splits == {}
    protocol = registry.protocol("sf-uda")()
    assert protocol.is_valid(data) is None
    assert set(protocol.plan(data, 8, 0).truth["adapt"]) == {0, 3}


def test_splits_of_ones_own(fill: Fill) -> None:
    fill("a")
    root = fill("b")
    (root / "splits.yaml").write_text("mine: {known: [dog], unknown: [ant, cat]}\n")
    other = registry.protocol("sf-osda")(split="mine").plan(load(root), 8, 0).stream
    (root / "splits.yaml").write_text("mine: {known: [Ant, cat], unknown: [dog]}\n")
    data = load(root)
    # the same pictures in the same parts, and yet another task
    assert registry.protocol("sf-osda")(split="mine").plan(data, 8, 0).stream.digest != other.digest
    assert set(data.splits) == {"default", "mine"}
    assert data.splits["mine"].known == ("ant", "cat")
    assert set(registry.protocol("sf-osda")(split="mine").plan(data, 8, 0).truth["adapt"]) == {
        0,
        1,
        2,
    }
    assert registry.protocol("sf-osda")(split="mine").plan(data, 8, 0).task.classes == (
        "ant",
        "cat",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: {known: [ant], unknown: [fly]}", "no class 'fly'"),
        ("mine: {known: [ant], unknown: [ANT]}", "ant is known and unknown"),
        ("mine: {known: [ant, ant], unknown: [bee]}", "ant stands there twice"),
        ("mine: {known: [ant]}", "expected lines like"),
        ("mine: {known: [], unknown: [bee]}", "expected a list of one class or more"),
        ("- ant", "expected lines like"),
        ("mine: {known: [ant", "cannot be read"),
        ("mine:\n\tknown: [ant]", "line 2, column 1"),
        (
            "mine: {known: [ant], unknown: [bee]}\nmine: {known: [bee], unknown: [ant]}",
            "key 'mine' stands twice",
        ),
    ],
)
def test_a_bad_file_of_splits(fill: Fill, text: str, message: str) -> None:
    fill("a")
    root = fill("b")
    (root / "splits.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        load(root)
    assert any(message.split(" twice")[0][:20] in line for line in ImageFolder().check(root))


def test_known_and_unknown_on_the_command_line(fill: Fill) -> None:
    fill("a")
    data = load(fill("b"))
    given = {"method": "usd", "dataset": "image-folder", "source": "a", "target": "b"}
    options = {"protocol.known": "cat,ant", "protocol.unknown": "dog"}
    (spec,) = resolve({**given, **options, "device": "cpu"})
    assert spec.protocol_options["split"] == "cat,ant:dog"
    plan = registry.protocol("sf-osda")(**spec.protocol_options).plan(data, 8, 0)
    assert plan.task.classes == ("ant", "cat")
    with pytest.raises(ConfigError, match="go together"):
        resolve({**given, "protocol.known": "ant"})
    for split, message in (
        ("ant:fly", "no class 'fly'"),
        ("ant:ant", "both have ant"),
        ("ant:", "expected names"),
    ):
        with pytest.raises(ConfigError, match=message):
            registry.protocol("sf-osda")(split=split).plan(data, 8, 0)


def test_check_says_what_one_domain_serves(fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill("a")
    assert main(["data", "check", "image-folder", "--data-root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "one domain: it serves the streams" in out
    assert "image-folder: usable (see above)" in out
    shutil.rmtree(root / "a")
    assert main(["data", "check", "image-folder", "--data-root", str(root)]) == 2
    assert "no domain folder with class folders of images" in capsys.readouterr().out


# -- a list in place of folders


def listed(root: Path, text: str | None = None) -> Path:
    """Write a list of the folders' pictures, or ``text``."""
    lines = ["path,label,domain,split"]
    for path in sorted(root.rglob("*.png")):
        domain, label = path.parts[-3:-1]
        split = "val" if domain == "a" and path.stem in ("0", "1") else ""
        lines.append(f"{path.relative_to(root)},{label},{domain},{split}")
    place = root / "list.csv"
    place.write_text("\n".join(lines) if text is None else text)
    return place


def test_a_manifest(fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    fill("a")
    place = listed(fill("b"))
    data = Manifest().load(DataRequest("a", "b", 16, place, place.parent.parent / "cache"))
    assert data.classes == ("ant", "bee", "cat", "dog")
    assert len(data.target_all.labels) == 48
    assert data.source_val is not None
    assert len(data.source_val.labels) == 8
    assert len(data.source_train.labels) == 40
    assert data.splits["default"].known == ("ant", "bee")
    folders = load(place.parent)
    assert sorted(folders.target_all.labels) == sorted(data.target_all.labels)
    assert main(["data", "check", "manifest", "--data-root", str(place)]) == 0
    assert "manifest: complete" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no such domain; known: a, b"):
        Manifest().load(DataRequest("a", "c", 16, place, place.parent.parent / "cache"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx,y", "no column domain"),
        ("path,label,domain\n", "no rows"),
        ("path,label,domain\nx.png,cat,a", "x.png: no such file"),
        ("path,label,domain\n,cat,a", "line 2: an empty path"),
        ("path,label,domain\na/ant/0.png,cat,a\na/ant/0.png,dog,a", "stand.s. there twice"),
        ("path,label,domain\na/ant/0.png,cat,a\n./a/ant/0.png,dog,a", "stand.s. there twice"),
        ("path,label,label,domain\na/ant/0.png,cat,dog,a", "column label stands there twice"),
        ("path,label,domain\na/ant/0.png,cat,a\na/ant/1.png,dog,A", "domains 'a' and 'A' differ"),
        ("path,label,domain\na/ant/0.png,cat,a\na/ant/1.png,Cat,a", "labels 'cat' and 'Cat' dif"),
        ("path,label,domain,split\na/ant/0.png,cat,a,test", "split 'test'; expected train, val"),
        ("path,label,domain,split\na/ant/0.png,cat,a,val", "all rows of 'a' are val"),
    ],
)
def test_a_bad_manifest_is_one_line(fill: Fill, text: str, message: str) -> None:
    place = listed(fill("a"), text)
    with pytest.raises(DataError, match=message):
        Manifest().load(DataRequest("a", "a", 16, place, place.parent.parent / "cache"))


def test_who_is_held_out_is_for_the_protocol_where_there_is_one_domain(fill: Fill) -> None:
    rows = [f"a/ant/{i}.png,ant,a,{'val' if i else 'train'}" for i in range(2)]
    place = listed(fill("a"), "\n".join(["path,label,domain,split", *rows]))
    with pytest.raises(DataError, match="1 rows of 'a' are val, and where one domain is source"):
        Manifest().load(DataRequest("a", "a", 16, place, place.parent.parent / "cache"))


def test_names_in_a_manifest_are_compared_as_folders_are(fill: Fill) -> None:
    fill("a")
    place = listed(fill("b"))
    cache = place.parent.parent / "cache"
    expected = Manifest().load(DataRequest("a", "b", 16, place, cache))
    text = place.read_text()
    other = place.with_name("other.csv")
    other.write_text(text.replace(",ant,b", ",ANT,b").replace(",bee,b", ",B_ee,b"))
    found = Manifest().load(DataRequest("A", "b", 16, other, cache))
    assert (found.source, found.classes) == ("a", expected.classes)
    assert found.splits == expected.splits
    assert found.target_all.digest == expected.target_all.digest


def test_pictures_twice_in_a_manifest(fill: Fill) -> None:
    place = listed(fill("a"))
    folder = place.parent / "a"
    (folder / "dog/0.png").write_bytes((folder / "ant/0.png").read_bytes())
    assert any("1 picture(s) under two classes" in line for line in Manifest().check(place))


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    assert "no list; give --data-root" in Manifest().check(None)[0]
    assert "there is no file" in Manifest().check(tmp_path / "none.csv")[0]


RUNS = {
    "sf-uda": ("shot", ("a", "b")),
    "sf-osda": ("usd", ("a", "b")),
    "sf-pda": ("shot", ("a", "b")),
    "sf-unida": ("glc", ("a", "b")),
    "sf-msda": ("source", ("a,c", "b")),
    "bb-uda": ("dine", ("a", "b")),
    "bb-osda": ("source", ("a", "b")),
    "online-tta": ("tent", ("a", "a")),
    "continual-tta": ("bn-adapt", ("a", "b")),
    "gradual-weather": ("shot-online", ("a", "a")),
}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", RUNS)
def test_every_protocol_runs_on_own_folders(
    fill: Fill, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    method, (source, target) = RUNS[protocol]
    for domain in sorted({*source.split(","), target}):
        root = fill(domain, count=20)
    words: list[Any] = [
        "run",
        "--method",
        method,
        "--protocol",
        protocol,
        "--dataset",
        "image-folder",
    ]
    words += ["--source", source, "--target", target, "--data-root", root, "--image-size", 32]
    words += ["--backbone", "small-cnn", "--weights", "none", "--source-epochs", 2, "--threads", 1]
    words += ["--batch-size", 8, "--device", "cpu", "--json", "--results", tmp_path / "results"]
    words += ["--cache-dir", tmp_path / "cache", "--no-progress"]
    sides = {"sf-pda": ("known",), "sf-unida": ("known", "source_private", "unknown")}
    for side, name in zip(sides.get(protocol, ()), ("ant", "bee", "cat"), strict=False):
        words += [f"--protocol.{side}", name]
    words += [] if target == source or protocol == "continual-tta" else ["--epochs", 2]
    assert main([str(word) for word in words]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert registry.PROTOCOLS[protocol].primary_metric in printed["scores"]
