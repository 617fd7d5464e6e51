"""A record once more: what is compared, what is said, exit codes, and the store stays as it is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dabench.cli.reproduce
from dabench.board.reproduce import compare, new_options, spec_of
from dabench.cli.main import main
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec, resolve
from dabench.errors import StoreError
from dabench.store.identity import run_digest
from dabench.store.reading import load_record
from dabench.store.records import Record
from dabench.store.store import Store

SCORES = [("HOS", 0.5, "all"), ("UNK", None, "all"), ("HOS", 0.1 + 0.2, "held-out")]
Edit = Callable[[Record], None]


def record_of(spec: RunSpec) -> Record:
    rows = [{"metric": m, "value": v, "n": 4, "segment": s, "at": 0} for m, v, s in SCORES]
    ids = {"data": "d", "stream": "t", "source": "s"}
    versions = {"dabench": "1", "method": "1", "protocol": "1", "torch": "2.15.0"}
    return {
        "run_id": run_digest(spec.to_dict(), versions, ids),
        "spec": spec.to_dict(),
        "ids": ids,
        "versions": versions,
        "environment": {"instructions": "AVX2", "threads": spec.threads, "git_commit": "abc"},
        "scores": rows,
        "curves": [{**rows[0], "at": epoch} for epoch in (1, 2)],
    }


@pytest.fixture
def spec() -> RunSpec:
    words = {"method": "shot", "protocol": "sf-osda", "device": "cpu", "threads": 1}
    return resolve(words)[0]


@pytest.fixture
def again(
    spec: RunSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, RunSpec]]:
    """Reproduce a stored run, whose second run is the first one edited."""
    store = Store(tmp_path / "results")
    arrays = {"adapt.prediction": np.arange(4)}
    path = store.write(record_of(spec), arrays)
    before = path.read_bytes()

    def call(edit: Edit = lambda record: None, *words: str, **changed: Any) -> Any:
        seen: list[RunSpec] = []

        def run(asked: RunSpec, chosen: Settings) -> Path:
            seen.append(asked)
            assert chosen.checkpoint_every == 0  # its folder goes away
            record = copy.deepcopy(record_of(asked))
            edit(record)
            parts = (record[name] for name in ("spec", "versions", "ids"))
            record["run_id"] = run_digest(*parts)
            return Store(chosen.results).write(record, arrays | changed)

        monkeypatch.setattr(dabench.cli.reproduce, "_again", run)
        code = main(["reproduce", path.stem[:6], "--results", str(store.root), *words])
        assert path.read_bytes() == before
        assert sorted(p.name for p in path.parent.iterdir()) == [
            f"{path.stem}.json",
            f"{path.stem}.npz",
        ]
        return code, capsys.readouterr().out, seen[0]

    return call


def test_the_same_again_is_said_and_exit_code_0(again: Any, spec: RunSpec) -> None:
    code, out, asked = again()
    assert code == 0
    assert asked == spec
    assert "0 of 3 scores differ" in out
    assert "identical bit for bit: scores, curves and predictions" in out


def test_another_commit_is_named_and_no_reason_to_fail(again: Any) -> None:
    code, out, _ = again(lambda record: record["environment"].update(git_commit="def+"))
    assert code == 0
    assert "differs: code (git commit) (abc then, def+ now)" in out


def test_another_processor_is_named_and_what_a_record_did_not_say_is_not(again: Any) -> None:
    _, out, _ = again(lambda r: r["environment"].update(instructions="AVX512", device="cpu"))
    assert "differs: the CPU's vector instructions (AVX2 then, AVX512 now)" in out
    assert "None then" not in out


def test_the_last_bit_counts(again: Any) -> None:
    def edit(record: Record) -> None:
        record["scores"][2]["value"] = 0.3
        record["versions"]["torch"] = "2.16.0"

    code, out, _ = again(edit)
    assert code == 1
    assert "HOS/held-out" in out
    assert "1 of 3 scores differ; by 5.55e-17 at most" in out
    assert "not identical; the reason is among: torch (2.15.0 then, 2.16.0 now)" in out


def test_a_hole_is_not_zero(again: Any) -> None:
    def edit(record: Record) -> None:
        record["scores"][1]["value"] = 0.0

    code, out, _ = again(edit)
    assert code == 1
    assert "one is a hole on one side" in out
    assert "this run is not deterministic" in out


def test_curves_and_predictions_count_too(again: Any) -> None:
    code, out, _ = again(lambda record: record["curves"][1].update(value=0.6))
    assert code == 1
    assert "0 of 3 scores differ; 1 points of curves differ" in out
    code, out, _ = again(**{"adapt.prediction": np.array([0, 1, 2, 2])})
    assert code == 1
    assert "predictions that differ: adapt.prediction" in out


@pytest.mark.parametrize(("kind", "name"), [("method", "shot"), ("init", "source")])
def test_another_version_is_expected_to_differ(again: Any, kind: str, name: str) -> None:
    def edit(record: Record) -> None:
        record["versions"][kind] = "2"
        record["scores"][0]["value"] = 0.9

    code, out, _ = again(edit)
    assert code == 1
    assert f"as expected: the record is of version 1 of {name}, and this is version 2" in out


def test_other_data_are_another_run_whatever_their_scores(again: Any) -> None:
    code, out, _ = again(lambda record: record["ids"].update(data="e"))
    assert code == 1
    assert "0 of 3 scores differ" in out
    assert "another run with equal results; what differs: data (d then, e now)" in out
    assert re.search(r"^run id: [0-9a-f]{16} then, [0-9a-f]{16} now$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["spec"].update(epochs="x"), "its spec.epochs is 'x', not a whole number"),
        (lambda r: r["spec"].update(batch_size=-5), "its spec.batch_size is -5"),
        (lambda r: r["spec"].update(batch_size=9), "do not give its run id: edited by hand"),
        (lambda r: r["scores"][0].update(value=0.9), "its checksum is not that"),
    ],
)
def test_an_edited_record_is_not_run(
    spec: RunSpec, tmp_path: Path, edit: Edit, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Store(tmp_path).write(record_of(spec))
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    assert main(["reproduce", path.stem, "--results", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_marks_that_the_code_would_not_give_are_named(again: Any) -> None:
    code, out, _ = again(lambda record: record.update(reconstruction=True, extras=["buffer"]))
    assert code == 1  # tables would show another row
    assert "not identical; the reason is among: extras" in out
    assert "differs: extras (None then, ['buffer'] now)" in out
    assert "differs: reconstruction (None then, True now)" in out


def test_threads_of_the_command_line(again: Any, spec: RunSpec) -> None:
    code, out, asked = again(lambda record: None, "--threads", "2")
    assert code == 0
    assert asked == replace(spec, threads=2)
    assert "differs: threads (1 then, 2 now)" in out


def test_scores_of_one_side_alone(spec: RunSpec) -> None:
    then, now = record_of(spec), record_of(spec)
    now["scores"] = [*now["scores"][1:], {**now["scores"][0], "metric": "new"}]
    found = compare(then, now, Path("a.json"), Path("b.json"))
    assert found.scores == [("HOS", 0.5, None)]
    assert found.later == ["new"]  # a score that came after the record differs from nothing
    assert not found.identical
    assert found.same == 2
    assert found.arrays is None
    assert found.largest is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r.update(failed=True), "failed: it has no scores"),
        (lambda r: r.update(spec=None), "has no spec"),
        (lambda r: r["spec"].pop("freeze"), "its spec lacks freeze, which this version needs"),
        (lambda r: r["spec"].update(warp=1), "its spec has warp, which this version does not"),
        (lambda r: r["spec"].update(method="gone"), "unknown method 'gone'"),
        (lambda r: r["spec"]["method_options"].update(old=1), "had the option old, which is gone"),
    ],
)
def test_records_that_this_version_cannot_run(spec: RunSpec, edit: Edit, message: str) -> None:
    record = record_of(spec)
    edit(record)
    with pytest.raises(StoreError) as caught:
        spec_of(record)
    assert message in str(caught.value)


def test_options_that_are_newer_than_the_record(spec: RunSpec) -> None:
    record = copy.deepcopy(record_of(spec))
    usual = record["spec"]["protocol_options"].pop("unknown_share")
    assert new_options(record) == [f"protocol.unknown_share={usual}"]
    assert "unknown_share" not in spec_of(record).protocol_options


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "zz", "--results", str(tmp_path)]) == 2
    assert "no run 'zz'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_run_repeats_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "--method shot --protocol sf-uda --epochs 1 --source-epochs 1 --threads 1"
    assert main(["run", *words.split(), "--device", "cpu", "--no-progress"]) == 0
    (path,) = Path("results/records/sf-uda/digits").glob("*.json")
    assert load_record(path)["scores"]
    assert main(["reproduce", path.stem[:6], "--no-progress"]) == 0
    assert "identical bit for bit" in capsys.readouterr().out
    assert len(list(path.parent.glob("*.json"))) == 1
