"""Reproduction cards: sound, resolvable, and their page is that of the records."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from dabench import registry
from dabench.board.tables.card_figures import _specs, figure_of, markdown, state_of
from dabench.board.tables.cards import METRICS, Card, methods_without, read_card, read_cards
from dabench.cli.main import main
from dabench.errors import ConfigError
from dabench.store.store import Store

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "results" / "cards"
Records = Callable[[str, str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def records(tables: ModuleType) -> Records:
    """Return the committed records of a protocol and data set."""
    known = tables._known()
    store = Store(ROOT / "results", curves=False)

    def read(protocol: str, dataset: str) -> list[dict[str, Any]]:
        found = store.read(protocol, dataset)
        return [record for path, record in found if path in known or not known]

    return read


def test_the_committed_cards_are_sound() -> None:
    cards = read_cards(CARDS)
    assert len(cards) >= 25
    covered = {(card.method, card.benchmark) for card in cards}
    for method in ("source", "bn-adapt", "tent", "eata", "sar", "cotta"):
        for benchmark in ("CIFAR-10-C", "CIFAR-100-C", "ImageNet-C"):
            assert (method, benchmark) in covered
    assert {("shot", "Office-31"), ("dine", "Office-31")} <= covered


def test_methods_without_a_card_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = read_cards(CARDS)
    others = methods_without(cards)
    assert others
    assert not {card.method for card in cards} & set(others)
    assert not {"source", "linear-probe", "target-supervised"} & set(others)
    assert methods_without([card for card in cards if card.method != "tent"]) == [
        name for name in registry.METHODS if name == "tent" or name in others
    ]
    plugin = dataclasses.replace(registry.METHODS["tent"], target="mine:Method")
    monkeypatch.setitem(registry.METHODS, "mine", plugin)
    assert methods_without(cards) == others
    assert f"No published figure read: `{'`, `'.join(others)}`.\n" in markdown([], others)
    assert "No published figure read" not in markdown([])


def test_options_of_cards_are_options() -> None:
    """As far as dabench knows method and data set."""
    tried = 0
    for card in read_cards(CARDS):
        if card.method in registry.METHODS and card.run["dataset"] in registry.DATASETS:
            one = {k: v for k, v in card.run.items() if k != "tasks"}
            (source, target), *_ = card.tasks
            ends = {"source": source, "target": target} if source else {}
            (spec,) = _specs(dataclasses.replace(card, run=one | ends))
            assert spec["method"] == card.method
            tried += 1
    assert tried >= 15


@pytest.mark.slow
def test_the_page_is_that_of_cards_and_records(records: Records) -> None:
    cards = read_cards(CARDS)
    pairs = [
        (card, figure_of(card, records(card.run["protocol"], card.run["dataset"])))
        for card in cards
    ]
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    written = markdown(pairs, methods_without(cards))
    assert page == written, "run dabench cards --markdown docs/reproduction.md"
    for card, ours in pairs:
        assert ours or card.missing(), f"{card.name} has neither a run nor a need"
    measured = [card.name for card, ours in pairs if ours]
    assert len(measured) >= 4
    first = page.partition("## Measured here\n")[2].partition("## Not run\n")[0]
    assert re.findall(r"^\| \[([\w.-]+)\]", first, re.MULTILINE) == measured


def office(**run: str) -> Card:
    card = read_card(CARDS / "dine-office31-amazon-dslr.yaml")
    return dataclasses.replace(card, run={**card.run, **run})


def test_figures_are_means_over_tasks_of_means_over_seeds(records: Records) -> None:
    found = records("bb-uda", "office31")
    ours = figure_of(office(), found)
    other = figure_of(office(target="webcam"), found)
    assert ours is not None
    assert other is not None
    assert ours.seeds == len(ours.runs) == 3
    by_hand = [
        score["value"]
        for record in found
        for score in record["scores"]
        if record["run_id"] in ours.runs
        and (score["metric"], score["segment"]) == ("accuracy", "all")
    ]
    assert ours.percent == pytest.approx(100 * sum(by_hand) / 3)
    both = office(tasks="amazon to dslr, amazon to webcam")
    mean = figure_of(both, found)
    assert mean is not None
    assert mean.percent == pytest.approx((ours.percent + other.percent) / 2)
    assert len(mean.runs) == 6
    assert figure_of(office(tasks="amazon to dslr, dslr to amazon"), found) is None
    wrong = figure_of(dataclasses.replace(office(), metric="error"), found)
    assert wrong is not None
    assert wrong.percent == pytest.approx(100 - ours.percent)


def test_a_hole_is_no_figure(records: Records) -> None:
    found = records("bb-uda", "office31")
    card = dataclasses.replace(office(), metric="HOS")  # a closed set has none
    ours = figure_of(card, found)
    assert state_of(card, ours) == "run, and HOS is not defined there"
    assert "| HOS | 91.6 | - | - | run, and HOS is not defined there |" in markdown([(card, ours)])


def test_other_settings_are_not_taken_for_the_cards(records: Records) -> None:
    found = records("bb-uda", "office31")
    for option in ({"epochs": "7"}, {"backbone": "resnet50"}, {"method.fine_tune": "0.25"}):
        card = office(**option)
        assert figure_of(card, found) is None
        assert state_of(card, None) == "not run"
    assert figure_of(office(**{"method.fine_tune": "0.5"}), found) is not None


def test_an_option_that_a_record_lacks_had_its_default(
    made_run: Callable[..., dict[str, Any]],
) -> None:
    """Specs leave out later options at their default: a card may ask for another value."""
    plain, mixed = (read_card(CARDS / f"tent-cifar10-c{end}.yaml") for end in ("", "-mixed"))
    (spec,) = _specs(plain)
    run = made_run("tent", 0, scores={"accuracy": 0.8}) | {"spec": spec}
    assert figure_of(plain, [run]) is not None
    assert figure_of(mixed, [run]) is None
    fewer = dict(spec["method_options"])
    fewer.popitem()
    older = run | {"spec": spec | {"method_options": fewer}}
    assert figure_of(plain, [older]) is not None


def test_the_cards_of_acdc_are_of_the_mean_over_weathers() -> None:
    cards = [card for card in read_cards(CARDS) if card.benchmark == "Cityscapes to ACDC"]
    assert len(cards) == 3
    assert {METRICS[card.metric] for card in cards} == {("mIoU/mean-conditions", False)}


@pytest.mark.parametrize("part", ["method", "protocol", "init"])
def test_the_newest_version_counts_alone(records: Records, part: str) -> None:
    found = records("bb-uda", "office31")
    plain = figure_of(office(), found)
    assert plain is not None
    newer = [dict(record) for record in found if record["run_id"] in plain.runs[:1]]
    newer[0] |= {"versions": newer[0]["versions"] | {part: "99"}, "run_id": "f" * 16}
    ours = figure_of(office(), [*found, *newer])
    assert ours is not None
    assert (ours.runs, ours.seeds) == (("f" * 16,), 1)


def test_two_records_of_a_seed_are_no_two_seeds(records: Records) -> None:
    found = records("bb-uda", "office31")
    plain = figure_of(office(), found)
    assert plain is not None
    again = [dict(record) for record in found if record["run_id"] in plain.runs[:1]]
    again[0] |= {"spec": again[0]["spec"] | {"device": "cuda"}, "run_id": "f" * 16}
    seed = again[0]["spec"]["seed"]
    ours = figure_of(office(), [*found, *again])
    assert (
        state_of(office(), ours)
        == f"refused: seed {seed} has 2 records, of other device: cpu, cuda; "
        "name one under run.records"
    )
    assert markdown([(office(), ours)]).count("| - | - | refused: ") == 1
    named = figure_of(office(records=", ".join(plain.runs)), [*found, *again])
    assert named == plain


def test_runs_can_be_named(records: Records) -> None:
    found = records("bb-uda", "office31")
    plain = figure_of(office(), found)
    assert plain is not None
    named = figure_of(office(records=plain.runs[0][:8]), found)
    assert named is not None
    assert named.runs == plain.runs[:1]
    with pytest.raises(ConfigError, match=r"names 1 runs of dine, and 0 are among the records"):
        figure_of(office(records="0123456789abcdef"), found)


SOUND: dict[str, Any] = yaml.safe_load((CARDS / "tent-cifar10-c.yaml").read_text("utf-8"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": None}, "source is missing"),
        ({"source": {"paper": "Tent"}}, "source.place is missing"),
        ({"method": "tenth"}, "unknown method 'tenth'; did you mean 'tent'?"),
        ({"needs": []}, "unknown data set 'cifar10-c'"),
        ({"run": {"protocol": "continual"}}, "run.protocol: unknown 'continual'"),
        (
            {"run": SOUND["run"] | {"batchsize": "200"}},
            "run.batchsize is no option of 'dabench run'; did you mean 'batch-size'?",
        ),
        ({"setup": SOUND["setup"] | {"optimizer": "Adam"}}, "did you mean 'optimiser'?"),
        ({"metric": "F1"}, "metric 'F1'"),
        ({"percent": "none yet"}, "percent 'none yet' is not in 0 to 100"),
        ({"percent": 120}, "percent '120' is not in 0 to 100"),
        ({"ours": 20.1}, "ours is no field of a card"),
        ({"run": SOUND["run"] | {"records": "latest"}}, "'latest' is no run id"),
        ({"setup": "as usual"}, "setup is no block"),
    ],
)
def test_bad_cards_are_refused_by_name(
    change: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {name: entry for name, entry in registry.DATASETS.items() if name != "cifar10-c"}
    from dabench.board.tables import cards

    monkeypatch.setattr(cards, "_NAMED", {**cards._NAMED, "data set": known})
    path = tmp_path / "cards" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(SOUND | change), encoding="utf-8")
    assert main(["cards", "--results", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: card {path}: ")
    assert said in line


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "tent.yaml").write_text((CARDS / "tent-cifar10-c.yaml").read_text("utf-8"), "utf-8")
    assert main(["cards", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"tent +CIFAR-10-C +error +20\.0 +- +- +not run: needs", out)
    assert re.search(r"No published figure read: prior-correction, shot, .*, aerial\.\n$", out)
    page = tmp_path / "page.md"
    assert main(["cards", "tent", "--results", str(tmp_path), "--markdown", str(page)]) == 0
    out = capsys.readouterr().out
    assert "--source-model wrn-28-10" in out
    assert "optimiser   Adam 1e-3" in out
    assert "not run: needs" in page.read_text(encoding="utf-8")
    assert main(["cards", "tents", "--results", str(tmp_path)]) == 2
    assert "no card 'tents'; did you mean 'tent'?" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["cards", "--results", "mine"]) == 2
    assert "no cards there" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    folder.rename(tmp_path / "results" / "cards")
    assert main(["cards", "--results", "mine"]) == 0  # beside records of one's own
    assert "not run: needs" in capsys.readouterr().out
    (tmp_path / "mine" / "cards").mkdir()
    assert main(["cards", "--results", "mine"]) == 2
    assert "no cards there" in capsys.readouterr().err
