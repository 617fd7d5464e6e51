"""Names of classes, domains and files as file systems allow them: no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.class_folders.class_folder import ImageFolder
from dabench.datasets.class_folders.splits import comparable_name, printable_name
from dabench.errors import DataError
from dabench.metrics.predictions import Predictions
from dabench.metrics.scoring import Scorer, class_segments

LONG = "x" * 200
#: what may stand beside ordinary classes; each must give a run, or an error that is no traceback
NAMES = [
    *(b"c\xe9t", b"\xff\xfe", b"caf\xc3\xa9", b"cafe\xcc\x81", "\u732b".encode(), LONG.encode()),
    *(b"a\tb", b"a\nb", b"a\x1b[31mb", b"a\x7fb", "a\u202eb".encode(), "a\u2028b".encode()),
    *(
        b"=cmd|' C calc'!A0",
        b"a,b;c",
        b'"quoted"',
        b"'s",
        b"a\\b",
        b"a|b",
        b"%s{0}$x",
        b"-x",
        b"*",
    ),
    *(b" lead", b"trail ", b"a.b.", b"con", b"NaN", b"null", b"true", b"0", b"007", b"1e5", b"#x"),
    *(b"unknown", b"all", b"Unknown", b"held-out", b"final", b"accuracy", b"HOS", b"OS*", b"UNK"),
    *(
        b"class_accuracy",
        b"unknown (class)",
        b"mean-conditions",
        b"metric/segment".replace(b"/", b"_"),
    ),
]


def fill(root: Path, domain: bytes, name: bytes, count: int = 3, file: bytes = b"%d.jpg") -> None:
    folder = os.path.join(os.fsencode(root), domain, name)
    os.makedirs(folder, exist_ok=True)
    for i in range(count):
        seed = [zlib.crc32(part) for part in (domain, name, file, b"%d" % i)]
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        with open(os.path.join(folder, file % i), "wb") as out:
            Image.fromarray(pixels).save(out, "PNG")


def load(root: Path, source: str = "a", target: str = "b") -> DomainData:
    return ImageFolder().load(DataRequest(source, target, 8, root, root.parent / "cache"))


@pytest.mark.parametrize("domain", [b"b", b"d\xe9", "d\u00e9 \n".encode()])
def test_all_names_at_once(tmp_path: Path, domain: bytes) -> None:
    root = tmp_path / "data"
    twins = {b"cafe\xcc\x81", b"Unknown"}  # one name twice in Unicode; one that differs in case
    names = [name for name in NAMES if name not in twins]
    for place in (b"a", domain):
        for name in names:
            fill(root, place, name)
    target = os.fsdecode(domain)
    data = load(root, "a", target)
    assert data.target == printable_name(target)
    assert len(data.classes) == len(set(data.classes)) == len(names)
    for name in (*data.classes, data.target):
        name.encode()  # what records and terminals are written with
        assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    assert sorted(np.bincount(data.target_all.labels)) == [3] * len(names)
    assert len(data.digest) == 64
    assert load(root, "a", printable_name(target)).digest == data.digest
    assert ImageFolder().check(root) == []
    segments = class_segments(data.classes)
    assert len({*segments, "unknown", "all"}) == len(names) + 2


SAME = [
    (b"cat", b"Cat"),
    (b"back_pack", b"Back Pack"),
    (b"caf\xc3\xa9", b"cafe\xcc\x81"),
    ("Stra\u00dfe".encode(), b"STRASSE"),
    ("\u0130x".encode(), "i\u0307x".encode()),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_run_and_check_compare_alike(one: bytes, other: bytes, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for domain, name in ((b"a", one), (b"b", other)):
        fill(root, domain, name)
        fill(root, domain, b"dog")
    assert comparable_name(os.fsdecode(one)) == comparable_name(os.fsdecode(other))
    assert len(load(root).classes) == 2
    assert ImageFolder().check(root) == []
    fill(root, b"b", b"third")
    data = load(root)  # a real open set
    assert data.splits["default"].unknown == ("third",)
    assert any("1 class(es) that the source has not" in line for line in ImageFolder().check(root))


def test_one_name_in_two_forms_is_a_double_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for domain in (b"a", b"b"):
        for name in (b"caf\xc3\xa9", b"cafe\xcc\x81", b"dog"):
            fill(root, domain, name)
    with pytest.raises(DataError, match="second folder of a class: caf\u00e9"):
        load(root)
    assert any("second folder of a class" in line for line in ImageFolder().check(root))


def test_classes_that_differ_in_case_stay_two(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for domain in (b"a", b"b"):
        fill(root, domain, b"cat")
        fill(root, domain, b"Cat")
    assert load(root).classes == ("Cat", "cat")
    assert ImageFolder().check(root) == []


def test_names_of_files(tmp_path: Path) -> None:
    root = tmp_path / "data"
    odd = (
        b"%d\xe9.jpg",
        b"%d\n.JPG",
        b"=%d.jpg",
        b" %d.jpg",
        b"%d",
        b"%d.jpg.old",
        b"%d" + b"x" * 200,
    )
    for domain in (b"a", b"b"):
        for file in odd:
            fill(root, domain, b"cat", 1, file)
        fill(root, domain, b"dog")
    data = load(root)
    assert np.bincount(data.source_train.labels).tolist() == [len(odd), 3]


# --- names of scores ---------------------------------------------------------------------------


def test_ordinary_classes_keep_their_names() -> None:
    names = ["back_pack", "0", "road", "Unknowns", "all-in-one", "finale"]
    assert class_segments(names) == names


def test_a_class_called_unknown_keeps_its_score() -> None:
    classes = ("all", "unknown", "unknown (class)", "vase")
    assert class_segments(classes) == [
        "all (class)",
        "unknown (class)",
        "unknown (class) (class)",
        "vase",
    ]
    truth = np.array([0, 1, 2, 3, 4, 4])
    known = np.array([0, 0, 2, 3, 0, 0])
    found = Predictions(
        known, np.full(6, 0.5), np.array([0, 0, 0, 0, 1, 1.0]), truth == len(classes)
    )
    rows = Scorer(truth, classes, open_set=True, segment="all")(found, 1)
    per_class = {row.key: row.value for row in rows if row.metric == "class_accuracy"}
    assert per_class == {
        "class_accuracy/all (class)": 1.0,
        "class_accuracy/unknown (class)": 0.0,
        "class_accuracy/unknown (class) (class)": 1.0,
        "class_accuracy/vase": 1.0,
        "class_accuracy/unknown": 1.0,
    }
    keys = [row.key for row in rows]
    assert len(keys) == len(set(keys))


# --- the command line --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["sf-uda", "sf-osda"])
def test_runs_with_odd_names(protocol: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    names = [
        b"c\xe9t",
        b"unknown",
        b"all",
        b"a\x1b[31mb",
        b"=cmd|' C calc'!A0",
        b"final",
        LONG.encode(),
    ]
    for domain in (b"d\xe9", b"b"):
        for name in names:
            fill(root, domain, name, 6)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    options = [
        *("--method", "source", "--dataset", "image-folder", "--backbone", "small-cnn"),
        *("--weights", "none", "--image-size", "16", "--source-epochs", "1", "--epochs", "1"),
        *("--threads", "1", "--no-progress"),
    ]

    def dabench(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dabench", *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        assert b"\x1b[31m" not in done.stdout + done.stderr
        return done.stdout.decode()

    source = os.fsdecode(b"d\xe9")
    dabench("data", "check", "image-folder", "--data-root", str(root))
    dabench(
        *("run", *options, "--protocol", protocol, "--source", source, "--target", "b"),
        *("--data-root", str(root), "--results", "r", "--cache-dir", "c"),
    )
    dabench("leaderboard", "--results", "r")
    (record,) = (tmp_path / "r" / "records").rglob("*.json")
    scores = json.loads(record.read_text(encoding="utf-8"))["scores"]
    keys = [(row["metric"], row["segment"]) for row in scores]
    assert len(keys) == len(set(keys))
    segments = {segment for metric, segment in keys if metric == "class_accuracy"}
    assert {"all (class)", "=cmd|' C calc'!A0"} <= segments
