"""Bad values by the hundred, in one process: one line, exit code 2, never a traceback or a run."""

from __future__ import annotations

import json
import random
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dabench import registry
from dabench.cli.main import main
from dabench.config.options import OPTIONS
from dabench.config.spec import RunSpec, resolve
from dabench.errors import ConfigError

Case = tuple[str, ...]
RUN = ("run", "--method", "shot", "--device", "cpu", "--threads", "1")
#: texts that are no number to any option; Python or YAML 1.1 reads several of them as one
NO_NUMBERS = (
    *("", " ", "x", "1_0", "٣", "１", "010", "1:30", "0x10", "1e", "e3", "1,5", "--", "+", "1 0"),
    *("nan", "inf", "-inf", ".inf", "true", "no", "2001-01-01", "1.5.2", "²", "½", "None", "[1]"),
    *("1\x1b[31m", "1\u202e", "9" * 5000, "\udc80", "1\n2", "{}", "!!int 3", "&a", "*a", "%d"),
)
NO_WHOLE = ("1.5", "1e3", "-1", "-0.0", "99999999999999999999")
NO_SEEDS = ("9-5", "1,,2", "-1", "1-", "4294967296", "0-99999999", "0-10000", "1-2-3", "1;2", "0.5")
NO_NAMES = ("", "x" * 5000, "nosuch", "Shot\n", "shot ", "\u202eshot", "../x", "shot,usd", "\udc80")
NAMED = ("method", "protocol", "dataset", "source", "target", "init", "device")
NO_FLAGS = ("3", "maybe", "", "[]", "nul", "2", "truee")


class Reached(ConfigError):
    """The value came through to where a run would start."""


@pytest.fixture
def fuzz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Case], tuple[int, str]]:
    """Return exit code and stderr of a command that would start no run but say so."""
    monkeypatch.chdir(tmp_path)

    def execute(spec: RunSpec, settings: Any, progress: Any = None) -> Any:
        raise Reached("a run would start")

    engine = types.ModuleType("dabench.engine.run")
    engine.execute = execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dabench.engine.run", engine)

    def call(words: Case) -> tuple[int, str]:
        code = main(list(words))
        return code, capsys.readouterr().err

    return call


def whole_options() -> list[str]:
    return [name for name, (kind, _, _) in OPTIONS.items() if kind is int]


def command_lines() -> Iterator[Case]:
    """Options of ``run``, one bad value each."""
    for name in whole_options():
        bad = (*NO_NUMBERS, *NO_WHOLE)
        yield from ((*RUN, f"--{name}={value}") for value in bad)
    for name in NAMED:
        yield from ((*RUN, f"--{name}={value}") for value in NO_NAMES)
    yield from ((*RUN, f"--seeds={value}") for value in (*NO_NUMBERS, *NO_SEEDS) if value != "1,5")
    for name in ("results", "cache-dir", "data-root", "weights", "oracle-url", "config"):
        yield from ((*RUN, f"--{name}", value) for value in ("", "a\0b", "x" * 5000, "x/" * 3000))


def other_commands() -> Iterator[Case]:
    """Numbers and names of the other commands."""
    for value in (*NO_NUMBERS, *NO_WHOLE, "0"):
        yield ("sweep", "--methods", "source", "--dry-run", f"--workers={value}")
    for value in (*NO_NUMBERS, *NO_WHOLE):
        yield ("sweep", "--methods", "source", "--dry-run", "--device=cpu", f"--epochs={value}")
        yield ("reproduce", "nosuch", f"--threads={value}")
        yield ("serve-source", f"--port={value}")
        yield ("weather", "preview", "--out", "w.png", f"--size={value}")
        yield ("weather", "preview", "--out", "w.png", f"--seed={value}")
    for value in NO_NAMES:
        if value not in ("shot ", "shot,usd"):  # names with commas between
            axes = ("methods", "protocols", "datasets")
            yield from (("sweep", f"--{axis}", value) for axis in axes)
        yield from (("show", value), ("diff", value, value), ("report", value))
        yield from (("data", "check", value), ("data", "info", value), ("reproduce", value))
        yield from (("sweep", value), ("show", f"{value}.json"), (f"-{value}", value))
        yield ("weather", "preview", "--kinds", value or "fog,")


def method_options() -> Iterator[Case]:
    """Options of every method and protocol: texts that are no numbers, and bounds."""
    from dabench.config.signature import signature_options

    rng = random.Random(0)
    for prefix, table, load in (
        ("method", registry.METHODS, registry.method),
        ("protocol", registry.PROTOCOLS, registry.protocol),
    ):
        for name in sorted(table):
            method = name if prefix == "method" else "source"
            protocol = registry.METHODS[name].protocols[0] if prefix == "method" else name
            for option in signature_options(load(name)):
                if isinstance(option.default, bool) or not isinstance(option.default, int | float):
                    continue
                for value in rng.sample(NO_NUMBERS, 2):
                    head = ("run", "--method", method, "--protocol", protocol, "--device", "cpu")
                    yield (*head, f"--{prefix}.{option.name}={value}")


def yaml_texts() -> Iterator[str]:
    """Files that say a bad thing in one line, or in a shape of their own."""
    for name in whole_options():
        bad = ("1_0", "010", "1:30", "no", "1.5", "[1]", "{}", "2001-01-01", "0o7", "1e3")
        yield from (f"{name}: {value}" for value in bad)
    yield from (f"seeds: {value}" for value in ("[]", "{}", "[0, [1]]", "[1.5]", "[yes]", "''"))
    yield from (f"{flag}: {value or chr(39) * 2}" for flag in ("force",) for value in NO_FLAGS)
    yield from (f"method.lr: {value}" for value in ("true", "[]", "{}", "[1]", ".nan", "1e999"))
    yield from ("method: usd\nmethod: usd", "nosuch: 1", "[a]", "a", "'", "{", "\t", "%", "a: b: c")
    yield from ("<<: 1", "<<: [1]", "? [a]\n: b", "epochs: !!python/name:os.system", "- &a")
    yield from ("epochs: &a [*a]", "epochs: *a", "epochs: !!binary aGk=", "epochs: !x 3", "\x00")
    yield from ("[" * 50, "{a: " * 50, "- " * 50, "a:\n- " * 3, "epochs: |\n  3\n  4", "a\n--- 2")
    yield from (f"source: {value}" for value in ("no", "010", "[a]", "{a: b}", "'a\\0'", '"a\\0"'))


GOOD: tuple[Case, ...] = (
    *((*RUN, f"--{name}=3") for name in OPTIONS if OPTIONS[name][0] is int if name != "image-size"),
    *((*RUN, f"--seeds={value}") for value in ("0", "0-2", "1, 2", "4294967295", "3,1-2")),
    *((*RUN, f"--method.lr={value}") for value in ("1", "1e-3", ".5", "5.", "+0.5", "1E-3")),
)


def refused(words: Case, code: int, err: str) -> str | None:
    """Return what is wrong with an answer to bad input, or None (only ``run`` names options)."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    if code != 2 or len(lines) != 1 or "Traceback" in err or "a bug" in err:
        return f"{code} {err[-300:]!r}"
    if "would start" in err:
        return "accepted"
    if len(lines[0]) > 4_100 or not lines[0].isprintable():
        return f"no line for a terminal: {lines[0][:200]!r}"
    if words[1:2] != ("--method",):
        return None
    option = words[-1].split("=")[0] if "=" in words[-1] else words[-2]
    name = option.removeprefix("--").split(".")[-1]
    told = lines[0].replace("data set", "dataset")
    return None if name in told or "zero byte" in told else f"unnamed: {told}"


@pytest.mark.slow
def test_bad_values_are_refused_in_one_line(fuzz: Any) -> None:
    cases = [*command_lines(), *method_options(), *other_commands()]
    assert len(cases) > 900
    wrong = {}
    for words in cases:
        told = refused(words, *fuzz(words))
        if told is not None:
            wrong[" ".join(words)[-100:]] = told
    assert not wrong, json.dumps(wrong, indent=1)


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_bad_files_are_refused_in_one_line(fuzz: Any, tmp_path: Path, command: str) -> None:
    wrong = {}
    for text in (texts := list(yaml_texts())):
        file = tmp_path / "bad.yaml"
        whole = text.startswith(("method:", "[", "{", "-", "a", "'", "\t", "%"))
        file.write_text(text if whole else f"method: shot\ndevice: cpu\n{text}\n")
        words = ("run", "--config", str(file))
        if command == "sweep":
            if text.endswith(": [1]") and not text.startswith("<<"):  # in a grid an axis
                continue
            words = ("sweep", str(file), "--dry-run")
        told = refused(words, *fuzz(words))
        if told is not None:
            wrong[text[:60]] = told
    assert len(texts) > 90
    assert not wrong, json.dumps(wrong, indent=1)


def test_good_values_are_taken(fuzz: Any) -> None:
    """What the refusals must not take with them."""
    for words in GOOD:
        code, err = fuzz(words)
        assert code == 2, (words, err)
        assert "a run would start" in err, (words, err)


def test_what_is_taken_is_what_was_meant() -> None:
    given = {"method": "shot", "device": "cpu", "threads": 1}
    for text, number in (("1", 1.0), (".5", 0.5), ("5.", 5.0), ("1E-3", 1e-3), ("+0.5", 0.5)):
        (spec,) = resolve(given | {"method.lr": text})
        assert json.dumps(spec.method_options["lr"]) == json.dumps(number)
