"""Damaged, edited and invented records: named and left out, whatever command meets them."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_DEEP: Any = []
for _ in range(300):
    _DEEP = [_DEEP]
VALUES: list[Any] = [
    *(None, True, -1, 0, 10**400, 1e308, -0.5, 7.5, "", "x", "\x1b[31mred\x07", "é" * 3000, "=1+1"),
    *([], [1], [None], {}, {"a": 1}, {"": None}, [[]], [{}], "../../x", "NaN", "\u202e", _DEEP),
]
Keys = tuple[str | int, ...]


def places(value: Any, at: Keys = ()) -> Iterator[Keys]:
    """Yield the way to every value of a record, down to four steps."""
    if at:
        yield at
    if len(at) < 4:
        inner = value.items() if isinstance(value, dict) else ()
        inner = enumerate(value[:2]) if isinstance(value, list) else inner
        for key, below in inner:
            yield from places(below, (*at, key))


def edits(record: dict[str, Any], count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``count`` copies of a record with one value changed, or gone, or one more."""
    rng = random.Random(seed)
    every = list(places(record))
    while count:
        at, value = rng.choice(every), rng.choice(VALUES)
        made = copy.deepcopy(record)
        owner = made
        for key in at[:-1]:
            owner = owner[key]  # type: ignore[index]
        how = rng.choice(("put", "put", "put", "drop", "more"))
        if how == "put":
            owner[at[-1]] = value
        elif how == "drop":
            del owner[at[-1]]
        elif isinstance(owner, dict):
            owner["more"] = value
        if made != record:
            count -= 1
            yield f"{how} {'/'.join(map(str, at))} {value!r:.40}", made


def spoilt_files(text: bytes, seed: int) -> dict[str, bytes]:
    """Return contents that are no record."""
    rng = random.Random(seed)
    half = len(text) // 2
    found = {
        "empty": b"",
        "blank": b"\n \n",
        "half": text[:half],
        "all but the last bracket": text.rstrip()[:-1],
        "twice": text + text,
        "marked": b"\xef\xbb\xbf" + text,
        "latin-1": text.replace(b'"method"', b'"m\xe9thode"'),
        "utf-16": text.decode().encode("utf-16"),
        "zeros": bytes(len(text)),
        "deep": b"[" * 100_000,
        "deep objects": b'{"a":' * 50_000,
        "a number": b"7",
        "a string": b'"record"',
        "null": b"null",
        "a list": b"[" + text + b"]",
        "not a number": text.replace(b'"value": 0', b'"value": NaN0', 1).replace(b"NaN0", b"NaN"),
        "a long number": text.replace(b'"seed": 0', b'"seed": ' + b"9" * 5000),
        "html": b"<html><body>404</body></html>",
    }
    for i in range(12):
        at, bit = rng.randrange(len(text)), 1 << rng.randrange(8)
        found[f"bit {i}"] = text[:at] + bytes([text[at] ^ bit]) + text[at + 1 :]
    return found


@pytest.fixture(scope="session")
def studied(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a place with three runs will lie."""
    return tmp_path_factory.mktemp("studied") / "place"


@pytest.fixture
def place(studied: Path, workplace: Callable[..., Any]) -> Any:
    """A workplace with three runs of three kinds, made once."""
    if not studied.exists():
        made = workplace()
        for words in (
            ("--method", "source", "--protocol", "sf-uda"),
            ("--method", "shot", "--protocol", "sf-uda"),
            ("--method", "tent", "--protocol", "online-tta", "--batch-size", "8"),
        ):
            assert made.run(*words).code == 0
        shutil.copytree(made.root, studied)
    return workplace(studied)


def record_of(place: Any, method: str) -> Path:
    """Return the record's file of a method."""
    for path in sorted((place.results / "records").glob("*/*/*.json")):
        if json.loads(path.read_text())["spec"]["method"] == method:
            return path
    raise AssertionError(method)


def look_with_every_command(place: Any, path: Path, turn: int) -> str:
    """Read a store with a spoilt record; return all that the leaderboard said."""
    at = ("--results", str(place.results))
    table = place.call("leaderboard", *at)
    other = next(p for p in (place.results / "records").glob("*/*/*.json") if p != path)
    more = [
        ("show", str(path)),
        ("show", path.stem, *at),
        ("diff", path.stem, other.stem, *at),
        ("leaderboard", "--selection", "last,oracle", *at),
        ("leaderboard", "--wide", str(place.root / "wide"), *at),
        ("report", path.stem, "--html", str(place.root / "report.html"), *at),
        ("leaderboard", "--html", str(place.root / "page"), *at),
    ]
    place.call(*more[turn % len(more)])
    return table.text


@pytest.mark.parametrize("method", ["source", "shot", "tent"])
def test_an_edited_record_is_named_and_the_rest_stands(place: Any, method: str) -> None:
    path = record_of(place, method)
    text = path.read_bytes()
    assert path.name not in place.call("leaderboard", "--results", str(place.results)).err
    silent = []
    for turn, (what, made) in enumerate(edits(json.loads(text), 40, len(method))):
        path.write_text(json.dumps(made), encoding="utf-8")
        if path.stem not in look_with_every_command(place, path, turn):
            silent.append(what)
    assert not silent
    path.write_bytes(text)
    assert path.name not in place.call("leaderboard", "--results", str(place.results)).err


@pytest.mark.parametrize("method", ["source", "shot", "tent"])
def test_a_record_without_a_checksum_is_read_or_named(place: Any, method: str) -> None:
    path = record_of(place, method)
    old = json.loads(path.read_text())
    old.pop("checksum", None)
    for turn, (_, made) in enumerate(edits(old, 25, 7)):
        made.pop("checksum", None)
        path.write_text(json.dumps(made), encoding="utf-8")
        look_with_every_command(place, path, turn)


def test_what_is_no_record_is_named(place: Any) -> None:
    path = record_of(place, "shot")
    text = path.read_bytes()
    silent = []
    for turn, (what, content) in enumerate(spoilt_files(text, 1).items()):
        path.write_bytes(content)
        said = look_with_every_command(place, path, turn)
        if path.stem not in said and not tables_need_not_mind(content, text):
            silent.append(what)
    assert not silent


def tables_need_not_mind(content: bytes, right: bytes) -> bool:
    """Whether a file differs in its curves alone, which a table does not read."""
    rest = [re.sub(rb'\n "curves": \[.*?\n \]', b"", text, flags=re.S) for text in (content, right)]
    return rest[0] == rest[1]


def test_a_spoilt_record_is_no_finished_run(place: Any) -> None:
    path = record_of(place, "source")
    good = json.loads(path.read_text())
    for what, content in spoilt_files(path.read_bytes(), 2).items():
        path.write_bytes(content)
        answer = place.run("--method", "source", "--protocol", "sf-uda")
        assert answer.code == 0, what
        assert "was already there" not in answer.text, what
        assert json.loads(path.read_text())["scores"] == good["scores"], what
