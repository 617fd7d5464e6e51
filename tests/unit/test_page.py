"""The leaderboard page: everything escaped, nothing fetched, every rule of the tables kept."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dabench import registry
from dabench.board.page.bars import MOST, bar_chart
from dabench.board.page.blocks import Block, blocks, group_runs
from dabench.board.page.build import leaderboard_page
from dabench.board.page.command import full_command
from dabench.board.page.page_records import PageRecords, RecordReducer, read_page_records
from dabench.board.page.scatter import frontier
from dabench.board.page.svg import Picture, axis_ceiling, ticks
from dabench.board.page.texts import headline_metrics
from dabench.board.tables.card_figures import Figure
from dabench.board.tables.cards import read_card
from dabench.board.tables.leaderboard import table
from dabench.cli.dotted import dotted_options
from dabench.cli.main import main
from dabench.cli.parser import build_parsers
from dabench.config.spec import resolve
from dabench.errors import StoreError
from dabench.registry.method_info import registered_info
from dabench.store.identity import column_key
from dabench.store.store import Store

ROOT = Path(__file__).parents[2]
Make = Callable[..., dict[str, Any]]
HOSTILE = "<script>alert(1)</script>\"'&amp;{{ 7*7 }}"


class Page(HTMLParser):
    """What a browser would make of a page, as far as the tests ask."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self._open = ""
        self.feed(content.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = f"{tag} {dict(attrs).get('type', '')}".strip()
            self.inside.setdefault(self._open, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open][-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that a reader sees."""
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> Any:
        """The page's JSON."""
        return json.loads(self.inside["script application/json"][0])


def page(records: list[dict[str, Any]], **more: Any) -> Page:
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(record) for record in records], **more)
    return Page(leaderboard_page(kept, "source", registered_info()))


def runs(make: Make, seeds: int = 5) -> list[dict[str, Any]]:
    levels = {"source": 0.5, "usd": 0.7, "shot": 0.3, "target-supervised": 0.95}
    return [
        make(
            name,
            seed,
            value + 0.01 * (seed % 3) + 1e-5 * value * seed,  # no two rows differ by a constant
            scores={"UNK": 0.4, "OS*": None},
        )
        for name, value in levels.items()
        for seed in range(seeds)
    ]


def test_it_asks_the_network_for_nothing(made_run: Make) -> None:
    found = page(runs(made_run))
    for tag, attributes in found.tags:
        assert (
            tag not in ("link", "iframe", "object", "img", "base")
            or attributes.get("href") == "data:,"
        ), (tag, attributes)
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has a handler in its markup"
            assert name != "style"
            if name in ("src", "href", "action"):
                assert str(value).startswith(("#", "data:")), (tag, name, value)
    for kind in ("style", "script"):
        assert not re.search(
            r"https?:|//\w|@import|url\(", found.inside[kind][0].replace("// ", "")
        )


def test_the_policy_names_the_one_style_and_the_one_script(made_run: Make) -> None:
    found = page(runs(made_run))
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        assert len(found.inside[kind]) == 1
        digest = hashlib.sha256(found.inside[kind][0].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_every_string_of_a_record_is_escaped(made_run: Make) -> None:
    bad = [
        made_run("source", seed, 0.5, **dict.fromkeys(("dataset", "source", "target"), HOSTILE))
        | {"extras": [HOSTILE], "environment": {"git_commit": HOSTILE}}
        for seed in range(5)
    ]
    worse = [
        made_run(HOSTILE, seed, 0.6, **dict.fromkeys(("dataset", "source", "target"), HOSTILE))
        | {"variant": {HOSTILE: HOSTILE}, "versions": {"method": HOSTILE}}
        | {"scores": [{"metric": HOSTILE, "value": 0.5, "n": 5, "segment": "all", "at": 1}]}
        for seed in range(5)
    ]
    clean, found = page(runs(made_run)), page([*bad, *worse], problems=[HOSTILE])
    assert len(found.inside["script"]) == 1
    assert {t for t, _ in found.tags} <= {t for t, _ in clean.tags} | {"ul", "li"}
    assert all(set(a) <= KNOWN for _, a in found.tags)
    assert HOSTILE in found.text
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|49", found.text)
    assert any(cell["title"].startswith(HOSTILE) for cell in found.data["cells"])


KNOWN = set(
    """
    http-equiv charset content name rel href lang class id role aria-label aria-controls title
    aria-selected aria-labelledby aria-sort tabindex type placeholder autocomplete spellcheck
    checked scope data-c data-name data-open data-line colspan open d x y x1 x2 y1 y2 cx cy r rx
    width height viewbox method
    """.split()  # noqa: SIM905 - two dozen quotes are harder to read
)


def test_lone_surrogates_and_long_names_do_not_break_it(made_run: Make) -> None:
    odd = made_run("source", 0, 0.5, dataset="b\ud800d", target="ü→" * 300)
    found = page([odd])
    assert "ü→" * 300 in found.text
    assert found.data["cells"][0]["runs"][0]["id"] == odd["run_id"]


def test_rows_verdicts_and_gain(made_run: Make) -> None:
    found = page(runs(made_run))
    assert "▲ +0.200 [+0.200, +0.200] win" in found.text
    assert "▼ −0.200 [−0.200, −0.200] loss" in found.text
    assert "upper bound" in found.text
    assert "usd reconstruction" not in found.text  # these runs do not say that they are one
    assert "gain" in found.text
    assert "No mean ranks: too few tasks (1 of 6);" in found.text


def test_terms_and_marks_are_explained_where_they_stand(made_run: Make) -> None:
    found = page([run | {"extras": ["buffer"]} for run in runs(made_run)])
    assert (
        "Ranked by HOS (harmonic mean of OS*, accuracy on the known classes, and UNK" in found.text
    )
    assert "+buffer keeps images of the target" in found.text
    assert "upper bound trained with target labels; it does not rank" in found.text
    assert "sf-osda 20 runs" in found.text
    assert "+source-parts" not in found.text  # no row has it


def test_what_a_row_lacks_is_printed(made_run: Make) -> None:
    records = [r for r in runs(made_run) if r["spec"]["method"] != "usd" or r["spec"]["seed"] < 3]
    found = page(records)
    assert "3 of 5" in found.text
    assert "3 !" not in found.text
    said = {cell["title"]: cell.get("remark") for cell in found.data["cells"]}
    assert (said["usd"], said["shot"]) == ("3 of 5 seeds", None)


def test_few_seeds_have_a_range_and_no_verdict(made_run: Make) -> None:
    found = page(runs(made_run, seeds=3))
    assert "0.700 – 0.720" in found.text
    assert "no verdict" in found.text
    assert "▲ +" not in found.text


def test_a_refused_cell_says_why(made_run: Make) -> None:
    records = runs(made_run)
    records[7]["ids"] = {"data": "d", "stream": "another", "source": "s2"}
    found = page(records)
    assert "refused seed 2: stream id differs in this column" in found.text
    notes = [cell["note"] for cell in found.data["cells"] if cell["note"]]
    assert len(notes) == 1
    assert notes[0].startswith("refused; seed 2: stream id differs in this column; see ")


def test_the_data_hold_every_run(made_run: Make) -> None:
    data = page(runs(made_run)).data
    cell = next(cell for cell in data["cells"] if cell["title"] == "usd")
    assert [run["seed"] for run in cell["runs"]] == [0, 1, 2, 3, 4]
    told = data["texts"]
    assert [told[i] for i in cell["metrics"]] == ["HOS", "UNK", "OS*"]
    assert cell["runs"][1]["scores"] == [0.71, 0.4, None]
    assert [told[i] for i in cell["runs"][1]["ids"]] == ["d", "t1", "s1"]
    assert ["protocol.split", "default"] in [[told[i] for i in pair] for pair in cell["spec"]]
    command = " --".join(told[i] for i in cell["command"])
    assert command.startswith("dabench run --method usd --protocol")


def test_many_runs_are_named_by_a_few(made_run: Make) -> None:
    reader = RecordReducer(registered_info(), detail=False)
    kept = [reader.reduced(record) for record in runs(made_run)]
    assert {row["metric"] for row in kept[0]["scores"]} == {"HOS", "UNK", "OS*"}
    found = Page(leaderboard_page(PageRecords(kept, detail=False), "source", registered_info()))
    cell = next(cell for cell in found.data["cells"] if cell["title"] == "usd")
    assert cell["n"] == 5
    assert len(cell["ids"]) == 3
    assert set(cell) == {"title", "where", "note", "n", "key", "ids"}


def test_many_runs_keep_what_marks_and_passes_are_made_of(made_run: Make) -> None:
    scores = {"UNK": 0.4, "OS*": 0.5, "AUROC": 0.5, "below_source": 1.0, "unlabelled": 0.0}
    reader = RecordReducer(registered_info(), detail=False)
    kept = reader.reduced(made_run("tent", 0, 0.7, scores=scores))
    names = {row["metric"] for row in kept["scores"]}
    assert names == {"HOS", "OS*", "UNK", "below_source", "unlabelled"}


def test_gather_reads_what_is_sound_and_narrows(made_run: Make, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for record in [*runs(made_run), made_run("source", 9, 0.4, protocol="sf-uda")]:
        store.write(record)
    folder = tmp_path / "records" / "sf-osda" / "digits"
    (folder / "broken.json").write_text("{")
    (folder / "lost.failed.json").write_text("{}")
    found = read_page_records(tmp_path)
    assert (len(found.records), len(found.problems), found.failed) == (21, 1, 1)
    assert len(read_page_records(tmp_path, "sf-osda/dig").records) == 20
    assert len(read_page_records(tmp_path, "sf-uda").records) == 1
    assert read_page_records(tmp_path, "sf-uda/office").records == []
    with pytest.raises(StoreError, match="no records"):
        leaderboard_page(PageRecords())
    with pytest.raises(StoreError, match="no such row; did you mean 'shot'"):
        leaderboard_page(found, "shoot", registered_info())


def test_the_command_line(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in runs(made_run):
        Store(tmp_path).write(record)
    out = tmp_path / "page"
    words = ["leaderboard", "--results", str(tmp_path), "--html", str(out)]
    assert main(words) == 0
    assert (out / "index.html").stat().st_size < 200_000
    assert "20 runs" in capsys.readouterr().out
    assert not (tmp_path / "leaderboard").exists()
    assert main([*words, "--only", "bb-uda"]) == 2
    assert "no records" in capsys.readouterr().err
    (tmp_path / "records" / "sf-osda" / "digits" / "broken.json").write_text("{")
    assert main(words) == 0
    assert "1 file skipped" in Page((out / "index.html").read_bytes()).text
    assert main([*words, "--strict"]) == 2


def test_the_command_makes_the_same_spec_again(made_run: Make) -> None:
    record = made_run("usd", 3, options={"lr": 0.1, "teacher": False}) | {
        "variant": {"teacher": False, "name": "a b", "top": None}
    }
    words = full_command(record)
    assert words.startswith("dabench run --method usd --protocol sf-osda --dataset digits")
    assert "--method.name 'a b' --method.teacher false --method.top none" in words
    assert "--method.lr" not in words  # a default of this version
    assert words.endswith("--protocol.split default --seed 3 --device cpu --threads 1")
    del record["variant"]
    assert "--method.lr 0.1 --method.teacher false" in full_command(record)


@pytest.mark.parametrize("protocol", ["sf-uda", "bb-uda"])
def test_the_command_of_a_run_with_somebody_elses_model(made_run: Make, protocol: str) -> None:
    given = {"method": "source", "protocol": protocol, "device": "cpu", "threads": 1}
    given |= {"source-model": "resnet18", "source-checkpoint": "net.pt"}
    given |= {"backbone": "resnet18", "weights": "none"} if protocol == "bb-uda" else {}
    (spec,) = resolve(given)
    record = made_run("source", 0) | {"spec": spec.to_dict(), "variant": {}}
    args, rest = build_parsers()[0].parse_known_args(shlex.split(full_command(record))[1:])
    again = {k: v for k, v in vars(args).items() if k not in ("command", "help")}
    assert resolve(again | dotted_options(rest))[0] == spec


def test_blocks_are_grouped_as_in_the_table(made_run: Make) -> None:
    records = [*runs(made_run), made_run("source", 0, target="dslr")]
    assert sorted(len(rows) for rows in group_runs(records).values()) == [1, 4]


def only_block(records: list[dict[str, Any]]) -> Block:
    reader, info = RecordReducer(registered_info()), registered_info()
    kept = [reader.reduced(record) for record in records]
    (found,) = blocks(table(kept, info=info), group_runs(kept), info, "source", compact=False)
    return found


def test_who_does_not_compete_is_not_the_best(made_run: Make) -> None:
    records = runs(made_run)
    for record in records:
        record["versions"] = record["versions"] | {"protocol": "2"}
    older = [made_run("aad", seed, 0.9) for seed in range(5)]
    tuned = [made_run("rrda", seed, 0.9, target_tuned=True) for seed in range(5)]
    for record in tuned:
        record["versions"] = record["versions"] | {"protocol": "2"}
    found = only_block(records + older + tuned)
    assert {line.name for line in found.lines} >= {"aad", "rrda"}
    assert found.best is not None
    assert found.best.name == "usd"
    marks = {line.name: line.lasting_marks for line in found.lines}
    assert (marks["rrda"], marks["usd"]) == (["target-tuned"], [])
    assert "target-tuned labels of the target chose its options" in page(records + tuned).text


def test_source_stands_among_the_bars_however_many_are_better(made_run: Make) -> None:
    made = [
        made_run("source", 0, 0.3),
        *(made_run(f"m{i:02}", 0, 0.5 + i / 100) for i in range(18)),
    ]
    found = bar_chart(only_block(made), 1.0).markup
    assert found.count('class="bar ') == MOST
    assert 'class="reference"' in found
    assert f"HOS of {MOST} of 19 methods" in found
    assert f">{MOST} of 19<" in found
    few = bar_chart(only_block(made[:3]), 1.0).markup
    assert "HOS of 3 methods" in few


def test_pictures_escape_and_axes_are_round() -> None:
    picture = Picture(10, 10, HOSTILE)
    picture.text(1, 2, HOSTILE, HOSTILE, css=HOSTILE)
    assert "<script" not in picture.markup
    assert ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(0, 184, 8)[:3] == [0, 25, 50]
    assert [axis_ceiling(value) for value in (0.05, 0.41, 0.6, 7.0)] == [0.2, 0.6, 0.6, 1.0]


def test_the_stair_joins_what_is_better_than_all_that_is_cheaper() -> None:
    points = {1: (1.0, 0.5), 2: (2.0, 0.7), 3: (2.0, 0.6), 4: (3.0, 0.7), 5: (9.0, 0.8)}
    assert frontier(points) == [1, 2, 5]
    assert frontier({7: (2.0, 0.5), 3: (2.0, 0.5)}) == [3]
    assert frontier({}) == []


def test_columns_beside_the_one_that_ranks() -> None:
    keys = ["HOS", "HOS/held-out", "UNK", "OS*/held-out", "class_accuracy/3", "UNK/after", "new"]
    assert headline_metrics(keys, "HOS", 9) == ["HOS/held-out", "UNK", "new", "OS*/held-out"]
    assert headline_metrics(keys, "HOS", 1) == ["HOS/held-out"]


@pytest.mark.slow
def test_commands_of_committed_records_give_their_specs() -> None:
    seen = set()
    for _, record in Store(ROOT / "results", curves=False).all():
        spec = record["spec"]
        kind = (spec["protocol"], spec["dataset"], spec["method"], str(record["variant"]))
        version = registry.method(spec["method"]).version
        if kind in seen or record["versions"]["method"] != version:
            continue  # an earlier version may have had other options
        seen.add(kind)
        parser, _ = build_parsers()
        args, rest = parser.parse_known_args(shlex.split(full_command(record))[1:])
        given = {k: v for k, v in vars(args).items() if k not in ("command", "help")}
        assert resolve(given | dotted_options(rest))[0].to_dict() == spec
    assert len(seen) > 20


def test_reproduction_cards_have_a_tab(made_run: Make) -> None:
    """Every text of a card is escaped, and figures are those of ``dabench cards``."""
    card = read_card(ROOT / "results" / "cards" / "source-cifar10-c.yaml")
    hostile = dataclasses.replace(card, name="mine", benchmark=HOSTILE, reason=HOSTILE)
    ours = Figure(41.5, 3, ("abc",), reconstruction=False)
    kept = PageRecords([RecordReducer(registered_info()).reduced(r) for r in runs(made_run)])
    content = leaderboard_page(
        kept, "source", registered_info(), [(card, None), (hostile, ours), (card, ours)]
    )
    found = Page(content)
    panels = [a["id"] for _, a in found.tags if a.get("role") == "tabpanel"]
    assert panels[-1] == "p-cards"
    assert any(a.get("aria-controls") == "p-cards" for _, a in found.tags)
    assert b"<script>alert" not in content
    assert HOSTILE in found.text
    assert "error 43.5 41.5 −2.0 3 seeds" in found.text
    assert "2 of 3 cards are measured here" in found.text
    assert found.text.index("Measured here card") < found.text.index("Not run: 1 card")
    assert "43.5 – – not run: needs the files of CIFAR-10" in found.text
    assert " ".join(card.commands[0].split()) in found.text
    alone = Page(leaderboard_page(kept, "source", registered_info()))
    assert "p-cards" not in [a.get("id") for _, a in alone.tags]


def test_the_command_shows_the_cards_of_its_results(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, store = tmp_path / "results", Store(tmp_path / "results")
    for record in runs(made_run, 1):
        store.write(record, {})
    (results / "cards").mkdir()
    text = (ROOT / "results" / "cards" / "source-cifar10-c.yaml").read_text("utf-8")
    (results / "cards" / "one.yaml").write_text(text, "utf-8")
    words = ["leaderboard", "--results", str(results), "--html", str(tmp_path / "page")]
    assert main(words) == 0, capsys.readouterr().err
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert 'id="card-one"' in page
    key = column_key(runs(made_run, 1)[0]["spec"])
    assert main([*words, "--only", key]) == 0
    assert 'id="card-one"' not in (tmp_path / "page" / "index.html").read_text("utf-8")
    (results / "cards" / "one.yaml").write_text(
        text.replace("metric: error", "metric: F1"), "utf-8"
    )
    assert main(words) == 2
    assert "one.yaml: metric 'F1'" in capsys.readouterr().err
