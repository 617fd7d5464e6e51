"""What docs/*.md and CONTRIBUTING.md print to be typed: every word is one that there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dabench import registry
from dabench.cli.dotted import AXES, dotted_options, join_dotted
from dabench.cli.main import _WITH_DOTTED
from dabench.cli.parser import build_parsers
from dabench.config.options import merge
from dabench.config.signature import validate_options
from dabench.config.spec import chosen_names

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
#: what a reader has written by then
OF_THE_READER = {"infomax", "my_idea.py:MyIdea", "my.yaml", "study.yaml"}

#: the protocol of a command that names none
USUAL = {"serve-source": "bb-uda", "stream": "continual-tta"}


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
    return [str(text) for text in found]


def printed() -> list[str]:
    """Return ``page: dabench ...`` for every command, each once a page."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
        for line in text.splitlines():
            for part in re.split(r" && | & ?", line):
                # '[--size 160]' says that it may be left out
                words = shlex.split(re.sub(r"\[(--[^]]+)\]", r"\1", part), comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words and words[0] == "dabench":
                    found[f"{page.name}: {shlex.join(words)}"] = None
    return list(found)


def check_names(command: str, given: dict[str, Any], dotted: dict[str, str]) -> None:
    """Ask registry and signatures for the names that a command gives; resolve no data."""
    method = given.get("method", "source")
    protocol = given.get("protocol", USUAL.get(command, "sf-osda"))
    if command == "run" and method not in OF_THE_READER:
        # a file of options is the reader's, and may name the method
        options = {"method": method} | given | dotted | {"config": None}
        method, protocol, _ = chosen_names(merge(options))
    for kind, name, load in (
        ("method", method, registry.method),
        ("protocol", protocol, registry.protocol),
    ):
        prefix = f"{kind}."
        own = {k.removeprefix(prefix): v for k, v in dotted.items() if k.startswith(prefix)}
        if name not in OF_THE_READER:
            validate_options(load(name), own, kind)
    for axis, field in AXES.items():
        for name in (given.get(axis) or "").split(","):
            if name and name not in OF_THE_READER:
                registry.name_of(field.replace("dataset", "data set"), name)


@pytest.mark.parametrize("command", printed())
def test_a_printed_command_has_no_word_that_there_is_not(command: str) -> None:
    words = shlex.split(command.partition(": dabench ")[2])
    parser, _ = build_parsers()
    args, rest = parser.parse_known_args(join_dotted(words))
    given = {key: value for key, value in vars(args).items() if value is not None}
    if args.command in ("run", *_WITH_DOTTED):
        check_names(args.command, given, dotted_options(rest, args.command))
    else:
        assert rest == []
    for grid in (word for word in words if word.endswith(".yaml") and word not in OF_THE_READER):
        # what 'dabench tune' writes is not there before
        assert (ROOT / grid).is_file() or grid.startswith("results/tuned/")


def test_the_commands_are_found() -> None:
    found = [command.split()[2] for command in printed()]
    assert len(found) > 80
    assert {"run", "sweep", "adapt", "submit", "serve-source", "weather"} <= {*found}


def run_blocks(page: str) -> None:
    for block in blocks(ROOT / "docs" / page, "python"):
        exec(block, {})


def test_records_are_read_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_blocks("records.md")


@pytest.mark.slow
def test_analyses_run_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_blocks("analysis.md")
