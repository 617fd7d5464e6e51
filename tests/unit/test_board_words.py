"""``dabench diff`` and the claims of papers: what is said, and when nothing may be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench import registry
from dabench.board.tables.claims import AVERAGE, claims, read_claims
from dabench.board.tables.diff import compare_runs
from dabench.board.tables.leaderboard import table
from dabench.cli.main import main
from dabench.errors import StoreError
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
CLAIMS = Path(__file__).parents[2] / "results" / "claims.csv"


def test_runs_of_a_column_and_seed_are_comparable(made_run: Make) -> None:
    ours = made_run("usd", 0, 0.7, scores={"UNK": None}, options={"lr": 1})
    found = compare_runs(ours, made_run("source", 0, 0.5, scores={"OS": 0.1}))
    assert found.comparable
    assert found.compared == ["method usd against source"]
    assert found.scores == {"HOS": (0.7, 0.5), "UNK": (None, None), "OS": (None, 0.1)}
    where = "sf-osda on digits print→handwritten"
    assert found.names[0] == f"usd, seed 0, {where} ({ours['run_id']})"


def test_versions_of_a_protocol_are_other_tasks_whatever_the_ids_say(made_run: Make) -> None:
    newer = made_run("source", 0, versions={"method": "1", "protocol": "99"})
    found = compare_runs(made_run("usd", 0), newer)
    assert found.reasons == ["protocol version 1 against 99: another task; run the older one again"]
    assert not found.scores


def test_what_differs_in_the_column_is_named(made_run: Make) -> None:
    other = made_run("usd", 0, epochs=9, target="print", source="handwritten")
    other["spec"]["protocol_options"] = {"split": "r3", "new": 1}
    other["spec"]["source_seed"] = 4
    found = compare_runs(made_run("usd", 0), other)
    assert found.reasons == [
        "source print against handwritten",
        "target handwritten against print",
        "epochs 2 against 9",
        "source_seed not given against 4",
        "option split default against r3 of the protocol",
        "option held_out 0.3 against not given of the protocol",
        "option new not given against 1 of the protocol",
    ]
    assert not found.comparable
    assert found.scores == {}


def test_other_seeds_are_not_held_against_each_other(made_run: Make) -> None:
    found = compare_runs(made_run("usd", 0), made_run("usd", 1))
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("seed 0 against 1: pair runs of one seed")


def test_ids_that_differ_at_equal_settings_are_named(made_run: Make) -> None:
    other = made_run("source", 0, ids={"data": "d", "stream": "elsewhere", "source": "s0"})
    found = compare_runs(made_run("usd", 0), other)
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("stream id t0 against elsewhere at equal settings")


def test_versions_machines_and_extras_are_remarks(made_run: Make) -> None:
    theirs = {"method": "9", "protocol": "1", "torch": "3"}
    other = made_run("source", 0, versions=theirs, extras=["fisher"], threads=2)
    found = compare_runs(made_run("usd", 0, reconstruction=True), other)
    assert found.comparable
    assert found.remarks == [
        "versions: dabench 0.1.0 against not given",
        "versions: torch not given against 3",
        "threads moves the last digits of scores, and training amplifies them",
        "granted extras none against fisher",
        "A is a reconstruction",
    ]
    same = compare_runs(made_run("usd", 0), made_run("usd", 0, versions=theirs))
    assert "versions: method 1 against 9" in same.remarks


def test_a_failed_run_compares_with_nothing(made_run: Make) -> None:
    found = compare_runs(made_run("usd", 0, failed=True), made_run("source", 0))
    assert found.reasons == ["A failed and has no scores"]


def test_the_command(made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "results")
    runs = (made_run("usd", 0, 0.7), made_run("source", 0, 0.5), made_run("usd", 1))
    usd, source, other = (store.write(record).stem for record in runs)
    where = ["--results", str(store.root)]
    assert main(["diff", usd, source, *where]) == 0
    out = capsys.readouterr().out
    assert "\ncomparable\ncompared:\n  method usd against source\n" in out
    assert "HOS     0.7000  0.5000  +0.2000" in out
    assert main(["diff", usd, other, *where]) == 0
    assert "not comparable:\n  seed 0 against 1" in capsys.readouterr().out
    assert main(["diff", "nothing", source, *where]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err


HEAD = "claim,method,protocol,dataset,source,target,metric,percent,backbone,image_size,weights,"
HEAD += "options,paper,table,read_in,note\n"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "claims.csv"
    path.write_text(HEAD + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_claims_stand_beside_what_was_measured(made_run: Make, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "USD,usd,sf-osda,digits,print,handwritten,HOS,80.5,small-cnn,32,none,"
        "held_out=0.3 split=default,Paper,T1,a page,",
        "Other,usd,sf-osda,digits,print,handwritten,HOS,90,resnet50,,none,"
        "split=r3,Paper,T1,a page,a remark",
        "Third,,sf-osda,digits,print,handwritten,HOS,70,,,,,Paper,T1,a page,",
        "Mean,usd,sf-osda,digits,,average,HOS,70,,,,,Paper,T1,a page,",
    )
    records = [made_run("usd", seed, 0.7, reconstruction=True) for seed in range(3)]
    found = claims(table(records), read_claims(path))
    same, other, third, mean = found.to_dict("records")
    assert (same["value"], same["measured"], same["n"]) == (0.805, pytest.approx(0.7), 3)
    assert same["same_setting"]
    assert same["differs"] == "our row is a reconstruction"
    assert not other["same_setting"]
    assert other["differs"] == (
        "backbone resnet50, here small-cnn; image size of the paper unknown; "
        "split r3, here default; our row is a reconstruction; a remark"
    )
    assert (third["row"], mean["row"]) == ("", "")
    assert (third["n"], str(third["measured"])) == (0, "nan")


@pytest.mark.parametrize(
    ("protocol", "options", "differs"),
    [
        ("bb-uda", "split=r3", "split r3, here None"),  # our spec leaves the default out
        ("bb-uda", "split=None", ""),
        ("bb-uda", "rounds=2", "rounds 2, here no such option"),
        ("sf-osda", "held_out=0.3 split=r3", "split r3, here default"),
        ("gone", "split=r3", "split r3, here no such option"),
    ],
)
def test_an_option_that_our_spec_leaves_out_has_its_default(
    made_run: Make, tmp_path: Path, protocol: str, options: str, differs: str
) -> None:
    of_paper = f"small-cnn,32,none,{options},P,T,page,"
    path = written(tmp_path, f"U,usd,{protocol},digits,print,handwritten,HOS,80,{of_paper}")
    record = made_run("usd", 0, 0.7, protocol=protocol)
    if protocol != "sf-osda":
        record["spec"]["protocol_options"] = {"held_out": 0.3}
    (found,) = claims(table([record]), read_claims(path)).to_dict("records")
    assert found["differs"] == differs
    assert found["same_setting"] == (not differs)


def test_a_variant_is_claimed_by_its_options(made_run: Make, tmp_path: Path) -> None:
    path = written(
        tmp_path, "D,dine fine_tune=0.5,sf-osda,digits,print,handwritten,HOS,80,,,,,P,T,page,"
    )
    records = [made_run("dine", 0, 0.6), made_run("dine", 0, 0.7, variant={"fine_tune": 0.5})]
    found = claims(table(records), read_claims(path))
    assert found[["row", "measured"]].to_numpy().tolist() == [["dine fine_tune=0.5", 0.7]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A,,p,d,s,t,HOS,eighty,,,,,P,T,page,", "line 2: percent 'eighty' is not in 0 to 100"),
        ("A,,p,d,s,t,HOS,0.8,,,,,P,T,page", "line 2: expected 16 fields"),
        ("A,,p,d,s,t,HOS,101,,,,,P,T,page,", "percent '101' is not in 0 to 100"),
        ("A,,p,d,s,t,HOS,80,,,,,,T,page,", "line 2: paper is empty"),
    ],
)
def test_bad_claims_are_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        read_claims(written(tmp_path, line))


def test_a_claims_file_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text("claim,percent\nA,3\n")
    with pytest.raises(StoreError, match="column method, protocol"):
        read_claims(path)
    assert read_claims(tmp_path / "absent.csv") == []


def test_the_committed_claims_use_known_names() -> None:
    found = read_claims(CLAIMS)
    assert len(found) > 100
    keys = [(c.claim, c.protocol, c.dataset, c.source, c.target, c.metric) for c in found]
    assert len(set(keys)) == len(keys)
    for claim in found:
        assert claim.protocol in registry.PROTOCOLS
        assert claim.method.partition(" ")[0] in {"", *registry.METHODS}
        domains = registry.dataset(claim.dataset).domains
        assert claim.target in {AVERAGE, *domains}
        assert claim.source in domains or (claim.target == AVERAGE and not claim.source)


def test_averages_of_the_committed_claims_fit_their_tasks() -> None:
    found = [c for c in read_claims(CLAIMS) if "ResNet-50 to" in c.table]
    for name in {c.claim for c in found}:
        own = [c for c in found if c.claim == name]
        tasks = [c.percent for c in own if c.target != AVERAGE]
        mean = next(c.percent for c in own if c.target == AVERAGE)
        assert len(tasks) == 12
        assert sum(tasks) / 12 == pytest.approx(mean, abs=0.1), name  # each is rounded to .1
