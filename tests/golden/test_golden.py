"""Tiny runs from end to end through the real command line, on the real embedded data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench.cli.main import main
from dabench.store.reading import load_record

Golden = Callable[[str, str], tuple[dict[str, Any], dict[str, Any]]]
#: `source`, seed 0, two epochs' budget, one epoch of source training, one thread, CPU; recorded
#: with torch 2.15. The tolerance is .05 absolute: other versions of torch draw other weights and
#: sum in another order. A larger change means that data, recipe, split or metric changed: raise
#: the version of what changed, then freeze again. Methods that are still being developed have no
#: frozen numbers.
FROZEN: dict[str, float] = {
    "OS*": 0.3352,
    "UNK": 0.9160,
    "HOS": 0.4908,
    "AUROC": 0.8478,
    "HOS/held-out": 0.4905,
}
TOLERANCE = 0.05
MANDATORY = {"HOS", "OS*", "UNK", "OS", "AUROC", "FPR95", "OSCR"}


@pytest.fixture(scope="module")
def golden(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, drawn: Path
) -> Golden:
    """Return ``golden(method, place)`` -> (what ``--json`` printed, the record)."""
    places = tmp_path_factory.mktemp("golden")
    done: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}

    def run(method: str, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
        capture = request.getfixturevalue("capture")
        if (method, place) not in done:
            folder = places / place
            shutil.copytree(drawn, folder / "cache", dirs_exist_ok=True)
            words = ["run", "--method", method, "--protocol", "sf-osda", "--epochs", "2"]
            words += ["--source-epochs", "1", "--threads", "1", "--device", "cpu", "--json"]
            words += ["--force", "--results", str(folder / "results")]
            words += ["--cache-dir", str(folder / "cache")]
            done[method, place] = capture(words)
        return done[method, place]

    return run


@pytest.fixture(scope="module")
def capture() -> Callable[[list[str]], tuple[dict[str, Any], dict[str, Any]]]:
    """Run the command line with stdout caught; nothing but one JSON object may stand there."""
    import contextlib
    import io

    def call(words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = main(words)
        assert code == 0
        printed = json.loads(out.getvalue())
        return printed, load_record(Path(printed["record"]))

    return call


@pytest.mark.parametrize("method", ["source", pytest.param("usd", marks=pytest.mark.slow)])
def test_the_form_of_what_is_printed_and_kept(golden: Golden, method: str) -> None:
    printed, record = golden(method, "first")
    assert set(printed) == {"run_id", "record", "scores"}
    assert Path(printed["record"]).name == f"{printed['run_id']}.json"
    assert set(printed["scores"]) >= MANDATORY
    assert "HOS/held-out" in printed["scores"]
    for key, value in printed["scores"].items():
        assert value is None or 0 <= value <= 1, key
    assert record["run_id"] == printed["run_id"]
    assert record["spec"]["method"] == method
    assert record["spec"]["threads"] == 1
    assert set(record) >= {"schema", "ids", "versions", "environment", "cost", "scores", "curves"}
    assert set(record["ids"]) >= {"data", "stream", "source"}
    assert {row["at"] for row in record["scores"]} == {0 if method == "source" else 2}
    harmonic = printed["scores"]
    known, unknown = harmonic["OS*"], harmonic["UNK"]
    if known + unknown:
        expected = 2 * known * unknown / (known + unknown)
        assert harmonic["HOS"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["source", "usd"])
def test_same_seed_twice(golden: Golden, method: str) -> None:
    first, again = golden(method, "first"), golden(method, "second")
    assert first[0]["record"] != again[0]["record"]
    assert first[0]["run_id"] == again[0]["run_id"]
    assert first[0]["scores"] == again[0]["scores"]
    for key in ("ids", "scores", "curves", "spec"):
        assert first[1][key] == again[1][key]


@pytest.mark.slow
def test_all_rows_share_stream_data_and_source(golden: Golden) -> None:
    assert golden("source", "first")[1]["ids"] == golden("usd", "first")[1]["ids"]


def test_frozen_numbers(golden: Golden) -> None:
    scores = golden("source", "first")[0]["scores"]
    assert {key: scores[key] for key in FROZEN} == pytest.approx(FROZEN, abs=TOLERANCE)
