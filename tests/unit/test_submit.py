"""``dabench submit``: what is refused, what is written, and the run that is made again."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dabench.cli.reproduce
from dabench.cli.main import main
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec, resolve
from dabench.registry import primary_metric
from dabench.store.identity import run_digest, versions_of
from dabench.store.records import Record
from dabench.store.score_check import check_scores
from dabench.store.store import Store

Submit = Callable[..., tuple[int, str]]


def arrays_of(value: float = 0.5) -> dict[str, np.ndarray]:
    """Return answers with that HOS; which rows they are lies in a file that all runs share."""
    truth, right = np.repeat([0, 1], 100), np.tile(np.arange(100) < round(100 * value), 2)
    rows = {"adapt.truth": truth, "adapt.row": np.arange(200)}
    return rows | {"adapt.prediction": np.where(right, truth, 1 - truth)}


def record_of(spec: RunSpec, value: float = 0.5, data: str = "d") -> Record:
    row = {"metric": "HOS", "value": value, "n": 4, "segment": "all", "at": 0}
    classes = [row | {"metric": "class_accuracy", "segment": name} for name in ("a", "unknown")]
    ids = {"data": data, "stream": f"t{spec.seed}", "source": f"s{spec.seed}"}
    # of an earlier dabench: its version decides no number
    versions = {"dabench": "0.1.0", "torch": "2.15.0", **versions_of(spec)}
    return {
        "run_id": run_digest(spec.to_dict(), versions, ids),
        "spec": spec.to_dict(),
        "variant": {},
        "ids": ids,
        "versions": versions,
        "environment": {"device": "cpu", "threads": 1, "git_commit": "abc"},
        "scores": [row, *classes],
        "curves": [],
    }


def specs(method: str, seeds: str = "0-4") -> list[RunSpec]:
    words = {"method": method, "protocol": "sf-osda", "device": "cpu", "threads": 1}
    return resolve({**words, "seeds": seeds})


@pytest.fixture
def offered(tmp_path: Path) -> Store:
    """Five runs of shot and of source, in a folder of their own."""
    store = Store(tmp_path / "mine")
    for method, value in (("source", 0.5), ("shot", 0.6)):
        for spec in specs(method):
            found = record_of(spec, value + spec.seed / 100 * (1 + (method == "shot")))
            store.write(found, arrays_of(found["scores"][0]["value"]))
    return store


@pytest.fixture
def submit(
    tmp_path: Path, offered: Store, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def call(*words: str) -> tuple[int, str]:
        records = words if words and not words[0].startswith("-") else (str(offered.root), *words)
        joined = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
        code = main(["submit", *records, *joined])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def first(store: Store) -> Path:
    return sorted(store.records.glob("*/*/*.json"))[0]


def refused(submit: Submit, tmp_path: Path, reason: str, *words: str) -> None:
    code, said = submit(*words)
    assert code == 2
    assert reason in said
    assert not (tmp_path / "out").exists()


def test_sound_records_are_written_with_the_text_to_paste(
    submit: Submit, offered: Store, tmp_path: Path
) -> None:
    code, said = submit()
    assert code == 0, said
    assert "10 records are sound" in said
    there = {path.relative_to(offered.root) for path in offered.records.rglob("*.*") if path.suffix}
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")}
    assert written - {Path("PULL_REQUEST.md")} == there - {Path("records/.lock")}
    assert sum("shared" in path.parts for path in written) == 1
    assert len(Store(tmp_path / "out").read()) == 10
    text = (tmp_path / "out" / "PULL_REQUEST.md").read_text()
    assert "10 runs" in text
    assert "| `shot` | 2/1 | 0 1 2 3 4 | HOS | 0.640 | +0.120 (win) |" in text
    assert "dabench 0.1.0, torch 2.15.0" in text
    assert "## Run again\n\n- nothing" in text


def test_what_is_said_to_be_next_makes_the_tables_that_other_tests_ask_for(
    submit: Submit, tmp_path: Path
) -> None:
    """Records have to be tracked first: docs/tables.py reads no others."""
    _, said = submit()
    shown = said.partition("next, in a clone of dabench:\n")[2].splitlines()
    steps = [line.strip().split("  ")[0] for line in shown if line.startswith("  ")]
    assert steps[:5] == [
        f"cp -r {tmp_path / 'out' / 'records'} results/",
        "git add results",
        "dabench leaderboard --csv results/leaderboard/leaderboard.csv.gz",
        "python docs/tables.py",
        "dabench cards --markdown docs/reproduction.md",
    ]
    asked = "".join(
        (Path(__file__).parent / f"test_{name}.py").read_text(encoding="utf-8")
        for name in ("doc_tables", "cards")
    )
    assert [step for step in steps[2:5] if step not in asked] == []


def test_it_finds_runs_by_id_and_by_file(submit: Submit, offered: Store, tmp_path: Path) -> None:
    path = first(offered)
    code, said = submit(str(path))
    assert code == 0, said
    assert [p.name for p in (tmp_path / "out").rglob("*.json")] == [path.name]
    code, said = submit("nothing-of-that-name")
    assert code == 2
    assert "is there already" in said


def test_and_by_a_file_s_name_within_its_folder(
    submit: Submit, offered: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = first(offered)
    monkeypatch.chdir(path.parent)
    code, said = submit(path.name)
    assert code == 0, said


def test_records_beside_which_a_row_of_the_tables_would_be_refused(
    submit: Submit, tmp_path: Path
) -> None:
    """``source`` says which ids a column has: others would put out whatever stands there."""
    there, other = Store(tmp_path / "results"), Store(tmp_path / "other")
    for spec in specs("shot"):
        there.write(record_of(spec), arrays_of())
    for spec in specs("source", "0-2"):
        other.write(record_of(spec, data="elsewhere"), arrays_of())
    reason = "shot: this row is there already, and beside these records it would be refused"
    refused(submit, tmp_path, reason, str(other.root))


def test_a_record_without_predictions_is_remarked(submit: Submit, tmp_path: Path) -> None:
    bare = Store(tmp_path / "bare")
    bare.write(record_of(specs("source", "0")[0]))
    code, said = submit(str(bare.root))
    assert code == 0, said
    assert "note: some records have no predictions: their scores cannot be computed anew" in said


def test_a_record_that_was_edited_is_refused(
    submit: Submit, offered: Store, tmp_path: Path
) -> None:
    path = first(offered)
    path.write_text(path.read_text().replace('"value": 0.', '"value": 0.9', 1))
    refused(submit, tmp_path, f"{path}: its checksum is not that of what it holds")


def test_so_is_one_without_its_predictions(submit: Submit, offered: Store, tmp_path: Path) -> None:
    path = first(offered)
    path.with_suffix(".npz").unlink()
    refused(submit, tmp_path, "do not lie beside it")


def test_so_is_an_earlier_version_of_a_method(
    submit: Submit, offered: Store, tmp_path: Path
) -> None:
    found = record_of(specs("shot", "7")[0])
    found["versions"]["method"] = "1"
    found["run_id"] = run_digest(*(found[name] for name in ("spec", "versions", "ids")))
    offered.write(found)
    refused(submit, tmp_path, "of version 1 of shot, which has 2 now; run it again")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            {"method": "shot", "method.lr": "0.5"},
            "variant is {}, and by its spec it is {'lr': 0.5}",
        ),
        ({"method": "usd"}, "usd is a reconstruction, and the record says otherwise"),
        ({"method": "eata"}, "eata takes fisher-images, which its extras do not name"),
        ({"method": "t3a"}, "t3a takes answers-after, which its extras do not name"),
        ({"method": "target-supervised"}, "takes target-labels, which its extras do not name"),
        ({"method": "linear-probe"}, "takes frozen-trunk, which its extras do not name"),
    ],
)
def test_so_is_one_that_hides_what_its_row_has_to_say(
    submit: Submit, tmp_path: Path, words: dict[str, str], said: str
) -> None:
    hidden = Store(tmp_path / "hidden")
    hidden.write(record_of(resolve({**words, "device": "cpu", "threads": 1})[0]))
    refused(submit, tmp_path, said, str(hidden.root))


def test_so_is_one_whose_score_its_predictions_do_not_give(submit: Submit, tmp_path: Path) -> None:
    """Its checksum fits: whoever edits a record can compute it anew."""
    store = Store(tmp_path / "edited")
    truth = np.array([0, 0, 1, 2])
    answers = {"adapt.truth": truth, "adapt.prediction": np.array([0, 1, 1, 2])}
    found = record_of(specs("shot", "0")[0])
    classes = [
        {"metric": "class_accuracy", "value": value, "n": 1, "segment": name, "at": 0}
        for name, value in (("a", 0.5), ("b", 1.0), ("unknown", 1.0))
    ]
    right = 2 * 0.75 / 1.75
    found["scores"] = [{**found["scores"][0], "value": right}, *classes]
    path = store.write(found, {"adapt.row": np.arange(4)} | answers)
    assert submit(str(path))[0] == 0
    (tmp_path / "out").rename(tmp_path / "before")
    found["scores"][0]["value"] = right + 0.001
    path = store.write(found, {"adapt.row": np.arange(4)} | answers)
    refused(submit, tmp_path, "HOS is 0.858143, and by its predictions it is 0.857143", str(path))


def dense_counts(rounds: int) -> dict[str, np.ndarray]:
    """Return the counts of two conditions, each of two frames a round: mean IoU 1/3 and 1."""
    bad, good = np.array([[1, 1], [1, 1]]), np.array([[3, 0], [0, 5]])
    frames = np.stack([bad, bad, good, good] * rounds).astype(np.int64)
    return {
        "stream.row": np.tile([0, 1], 2 * rounds),
        "stream.segment": np.arange(2 * rounds).repeat(2),
        "stream.after": frames,
        "segment.after": frames.reshape(2 * rounds, 2, 2, 2).sum(1),
    }


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_mean_over_conditions_of_frames_follows_too(
    submit: Submit, tmp_path: Path, rounds: int
) -> None:
    words = {"method": "source", "protocol": "online-seg", "device": "cpu", "threads": 1}
    words |= {"protocol.rounds": rounds, "protocol.schedule": "cycle"} if rounds > 1 else {}
    found, arrays = record_of(resolve(words)[0]), dense_counts(rounds)
    score = {"metric": "mIoU", "value": 2 / 3, "n": 4, "segment": "mean-conditions", "at": 0}
    found["scores"] = [score]
    path = Store(tmp_path / "frames").write(found, arrays)
    assert submit(str(path))[0] == 0
    (tmp_path / "out").rename(tmp_path / "before")
    score["value"] = 0.7
    said = "mIoU/mean-conditions is 0.7, and by its predictions it is 0.666667"
    refused(submit, tmp_path, said, str(Store(tmp_path / "edited").write(found, arrays)))
    arrays["segment.after"] = arrays["segment.after"] + 1
    said = "segment.after is not the sum of its frames"
    refused(submit, tmp_path, said, str(Store(tmp_path / "counts").write(found, arrays)))
    del arrays["segment.after"]
    said = "counts cannot be used"
    refused(submit, tmp_path, said, str(Store(tmp_path / "none").write(found, arrays)))


@pytest.mark.parametrize("lacks", ["class", "truth"])
def test_so_is_one_whose_ranking_score_cannot_be_computed(
    submit: Submit, tmp_path: Path, lacks: str
) -> None:
    """Whoever edits a score can leave out what it is computed from, too."""
    store, found, arrays = Store(tmp_path / "edited"), record_of(specs("shot", "0")[0]), arrays_of()
    if lacks == "class":
        found["scores"].pop()
    else:
        arrays.pop("adapt.truth")
    path = store.write(found, arrays)
    refused(submit, tmp_path, "HOS does not follow from what it holds", str(path))


@pytest.mark.slow
def test_the_scores_of_all_committed_records_follow_from_their_predictions() -> None:
    runs = Store(Path(__file__).parents[2] / "results", curves=False, index=False).read()
    assert runs
    for path, record in runs:
        spec = record["spec"]
        check_scores(path, record, primary_metric(spec["protocol"], spec["dataset"]))


def test_so_is_a_run_that_is_there_already(submit: Submit, offered: Store, tmp_path: Path) -> None:
    there = Store(tmp_path / "results")
    there.write(json.loads(first(offered).read_text()))
    refused(submit, tmp_path, "is in")
    assert submit(str(first(there)))[0] == 0  # one that lies there is no second one


def test_so_is_one_that_saw_other_data_than_the_rest(submit: Submit, tmp_path: Path) -> None:
    there = Store(tmp_path / "results")
    for spec in specs("source", "5-6"):
        there.write(record_of(spec))
    other = Store(tmp_path / "other")
    for spec in specs("shot", "5-6"):
        other.write(record_of(spec, data="e"))
    refused(submit, tmp_path, "refused; seed 5: data id differs", str(other.root))


def test_of_a_results_folder_the_records_alone_are_taken(
    submit: Submit, offered: Store, tmp_path: Path
) -> None:
    """Not trials on development shifts, nor tickets of a cluster."""
    trials = Store(offered.root / "tuned" / "trials")
    trials.write(record_of(specs("usd", "0")[0]))
    (offered.root / "slurm").mkdir()
    (offered.root / "slurm" / "a.ticket.json").write_text("{}")
    code, said = submit()
    assert code == 0, said
    assert "10 records are sound" in said
    (tmp_path / "above").mkdir()
    offered.root.rename(tmp_path / "above" / "mine")
    (tmp_path / "out").rename(tmp_path / "before")
    assert "10 records are sound" in submit(str(tmp_path / "above"))[1]


def test_a_folder_without_records_is_named(submit: Submit, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(submit, tmp_path, "no record in this folder", str(tmp_path / "empty"))


@pytest.mark.parametrize("change", [0.0, 0.25])
def test_one_is_run_again(
    submit: Submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float
) -> None:
    asked: list[RunSpec] = []

    def again(spec: RunSpec, settings: Settings) -> Path:
        asked.append(spec)
        before = {run.seed: run for run in specs(spec.method)}[spec.seed]
        value = {"source": 0.5, "shot": 0.6}[spec.method]
        made = record_of(before, value + spec.seed / 100 * (1 + (spec.method == "shot")) + change)
        store: Any = Store(settings.results)
        arrays = arrays_of(made["scores"][0]["value"] - change)
        return Path(store.write(copy.deepcopy(made), arrays))

    monkeypatch.setattr(dabench.cli.reproduce, "_again", again)
    code, said = submit("--reproduce")
    assert len(asked) == 1
    assert code == (1 if change else 0), said
    text = (tmp_path / "out" / "PULL_REQUEST.md").read_text()
    assert ("identical bit for bit" in text) == (not change)
    assert ("not identical" in text) == bool(change)


@pytest.mark.slow
def test_a_real_run_is_made_again_and_an_invented_score_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    words = "run --method shot --protocol sf-uda --epochs 1 --source-epochs 1 --threads 1"
    assert main([*words.split(), "--no-progress", "--results", str(mine)]) == 0
    offer = ["submit", str(mine), "--reproduce", "--no-progress"]
    offer += ["--results", str(tmp_path / "results"), "--out"]
    assert main([*offer, str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert "identical bit for bit" in (tmp_path / "out" / "PULL_REQUEST.md").read_text()
    assert len(Store(tmp_path / "out").read()) == 1

    path = first(Store(mine))
    record = json.loads(path.read_text())
    # of a score that does not follow from the predictions beside it
    (score,) = (s for s in record["scores"] if (s["metric"], s["segment"]) == ("ECE", "all"))
    score["value"] += 0.001
    Store(mine).dump(path, record)  # its checksum is that of what it holds now
    assert main([*offer, str(tmp_path / "again")]) == 1
    assert "not identical, although" in (tmp_path / "again" / "PULL_REQUEST.md").read_text()


def test_one_run_without_a_source_row_has_no_difference(submit: Submit, tmp_path: Path) -> None:
    alone = Store(tmp_path / "alone")
    (spec,) = specs("shot", "0")
    alone.write(record_of(spec), arrays_of())
    code, said = submit(str(alone.root))
    assert code == 0, said
    text = next((tmp_path / "out").glob("*.md")).read_text()
    assert "1 run, checked" in text
    row = next(line for line in text.splitlines() if "`shot`" in line)
    assert row.endswith("| 0.500 | – |"), row


def test_a_broken_record_is_named_where_there_are_no_others(submit: Submit, tmp_path: Path) -> None:
    broken = tmp_path / "half.json"
    broken.write_text('{"run_id": ')
    code, said = submit(str(broken))
    assert code == 2
    assert "half.json" in said
    assert "this is a bug" not in said
