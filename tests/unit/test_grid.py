"""Grids: what a file of options comes to, what is refused and how it is named."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dabench import registry
from dabench.errors import ConfigError
from dabench.store.identity import column_key
from dabench.store.store import Store
from dabench.sweep import grid
from dabench.sweep.grid import Grid, choose, expand, shard
from dabench.sweep.plan import make_plan

ROOT = Path(__file__).parents[2]
USUAL = {"threads": 1, "device": "cpu"}


def grid_of(text: str, **over: Any) -> Grid:
    return expand(yaml.safe_load(text), "g.yaml", USUAL, over)


def shown(found: Grid, *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(spec, field) for field in fields) for spec in found.specs]


def test_lists_are_axes_and_seeds_come_last() -> None:
    found = grid_of("""
        method: [source, shot]
        protocol: [sf-osda, sf-uda]
        seeds: 3-4
        epochs: 2
    """)
    assert shown(found, "method", "protocol", "seed", "epochs") == [
        (method, protocol, seed, 2)
        for method in ("source", "shot")
        for protocol in ("sf-osda", "sf-uda")
        for seed in (3, 4)
    ]
    assert found.budget is None
    assert found.repeated == 0


def test_blocks_are_laid_over_what_is_above_them() -> None:
    found = grid_of("""
        budget: smoke
        seeds: 0-1
        protocol: sf-osda
        epochs: 5
        blocks:
          - method: shot
          - method: usd
            blocks:
              - seed: 7
                epochs: 1
              - method.criterion: [jsd, entropy]
                protocol.unknown_share: [0.5, null]
                seeds: [9]
    """)
    assert found.budget == "smoke"
    assert shown(found, "method", "seed", "epochs") == [
        ("shot", 0, 5),
        ("shot", 1, 5),
        ("usd", 7, 1),
        *[("usd", 9, 5)] * 4,
    ]
    options = [
        (s.method_options["criterion"], s.protocol_options["unknown_share"])
        for s in found.specs[-4:]
    ]
    assert options == [("jsd", 0.5), ("jsd", None), ("entropy", 0.5), ("entropy", None)]


def test_a_run_listed_twice_counts_once() -> None:
    found = grid_of("""
        method: source
        blocks: [{seeds: 0-2}, {seeds: 2-3}, {seeds: 0, init: source}]
    """)
    assert shown(found, "seed") == [(0,), (1,), (2,), (3,)]
    assert found.repeated == 2


def test_the_command_line_is_laid_over_every_block() -> None:
    text = "blocks: [{method: source, epochs: [3, 4], seed: [1, 2]}, {method: shot, seeds: 0-4}]"
    found = grid_of(text, epochs="9", seeds="5")
    assert shown(found, "method", "epochs", "seed") == [("source", 9, 5), ("shot", 9, 5)]


def test_a_square_of_domains_has_no_diagonal() -> None:
    found = grid_of("""
        {method: shot, dataset: office31, source: [amazon, dslr], target: [amazon, dslr]}
    """)
    assert shown(found, "source", "target") == [("amazon", "dslr"), ("dslr", "amazon")]


def test_nor_has_one_of_which_the_command_line_gives_a_side() -> None:
    text = """
        {method: shot, dataset: office31, source: [amazon, dslr], target: [amazon, dslr, webcam]}
    """
    found = grid_of(text, source="dslr")
    assert shown(found, "source", "target") == [("dslr", "amazon"), ("dslr", "webcam")]
    found = grid_of(text, target="dslr")
    assert shown(found, "source", "target") == [("amazon", "dslr")]
    with pytest.raises(ConfigError, match="source and target are the same in every run"):
        grid_of(text, source="dslr", target="dslr")


def test_two_source_models_of_one_name_are_not_one_run(tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(f"def make(): return {text}\n")
    paths = [f"{tmp_path}/{name}/net.py:make" for name in "abc"]
    words = {"method": "shot", "protocol": "sf-uda"}
    with pytest.raises(ConfigError) as caught:
        expand({**words, "source-model": paths[:2]}, "g.yaml", USUAL, {})
    said = f"--source-model {paths[1]}: {paths[0]} was named before, and tables would call both "
    assert said + "net.py:make; rename one of the files" in str(caught.value)
    assert expand({**words, "source-model": paths[::2]}, "g.yaml", USUAL, {}).repeated == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: []", "grid g.yaml: method is an empty list"),
        ("{method: source, seeds: []}", "grid g.yaml: seeds is an empty list"),
        ("blocks: []", "grid g.yaml: blocks: expected a list"),
        ("{method: source, blocks: }", "grid g.yaml: blocks: expected a list"),
        ("blocks: [{method: source}, shot]", "grid g.yaml, block 2: expected options"),
        ("methods: [source]", "grid g.yaml: unknown key 'methods'; did you mean 'method'?"),
        ("{method: source, method.lr: [[1, 2]]}", "method.lr: expected a value or a list"),
        ("{method: source, results: here}", "results decides no number; give it to the command"),
        ("{method: source, force: true}", "force decides no number"),
        ("{method: source, json: true}", "json is for the output of one run; leave it out"),
        ("{method: source, debug: true}", "give it to the command: --debug"),
        (
            "{method: source, source: [digits], target: [digits]}",
            "grid g.yaml: source and target are the same in every run, and a domain is never its",
        ),
        ("{budget: 3, method: source}", "budget 3: expected a word"),
        ("{seeds: 0-2}", "grid g.yaml: --method is needed"),
        ("{method: source, seeds: 4-2}", "--seeds 4-2: expected a range"),
        ("{method: source, seed: 1, seeds: 2}", "not both"),
        (
            "blocks: [{method: source}, {blocks: [{method: [source, shott]}]}]",
            "grid g.yaml, block 2.1 (method=shott): unknown method 'shott'; did you mean 'shot'?",
        ),
        (
            "{method: [shot, usd], protocol: [sf-osda, sf-uda]}",
            "grid g.yaml (method=usd, protocol=sf-uda): usd does not run under sf-uda",
        ),
        ("{method: shot, method.lrr: [1, 2]}", "(method.lrr=1): --method.lrr: "),
        ("{method: source, epochs: many}", "--epochs 'many': expected a whole number"),
    ],
)
def test_errors_name_the_block(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_of(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "expected lines like"),
        ("", "it is empty; expected lines like"),
        ("a: [1", "not valid YAML"),
        (None, "cannot be read"),
        ("seeds: 1\nblocks:\n- {method: a}\nseeds: 2\n", "'seeds' stands twice, in lines 1 and 4"),
    ],
)
def test_files_that_are_no_grids(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "g.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        grid.read(path)


def test_a_sweep_of_too_many_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MOST_RUNS", 20)
    assert len(grid_of("{method: source, epochs: [1, 2], seeds: 0-9}").specs) == 20
    axes = ", ".join(f"method.x{i}: [{', '.join(map(str, range(99)))}]" for i in range(9))
    for text in (
        "{method: source, epochs: [1, 2, 3], seeds: 0-9}",
        "{method: source, seeds: 0-99}",
    ):
        with pytest.raises(ConfigError, match=r"grid g.yaml: more than 20 runs in one sweep"):
            grid_of(text)
    with pytest.raises(ConfigError, match="x0"):  # 99 ** 9 runs, and the first does not fit
        grid_of(f"{{method: shot, {axes}}}")


def test_a_large_grid_is_listed_in_seconds(tmp_path: Path) -> None:
    """Making a checker for each value of each run took a hundred times as long."""
    grid_of("{method: source}")  # what is imported once does not count
    begin = time.process_time()
    found = grid_of(f"{{method: source, epochs: {list(range(1, 301))}, seeds: 0-2}}")
    plan = make_plan(found.specs, Store(tmp_path))
    assert len(plan.jobs) == len({job.key for job in plan.jobs}) == 900
    assert {job.name for job in plan.jobs} == {
        f"source · sf-osda · digits print→handwritten · epochs={epochs} · seed {n}"
        for epochs in range(1, 301)
        for n in range(3)
    }
    assert time.process_time() - begin < 3


def test_a_part_of_a_grid() -> None:
    found = grid_of("{method: [source, shot], protocol: [sf-osda, sf-uda], seeds: 0-2}")
    part = choose(found, {"method": ["shot"], "protocol": None}, "1-5")
    assert shown(part, "method", "seed") == [("shot", 1), ("shot", 2)] * 2
    with pytest.raises(ConfigError, match=r"no run with --methods shot --seeds 7; leave one"):
        choose(found, {"method": ["shot"]}, "7")
    with pytest.raises(ConfigError, match=r"--methods: not in grid g.yaml: usd, tent$"):
        choose(found, {"method": ["shot", "usd", "tent"]})
    with pytest.raises(ConfigError, match=r"--protocols: not in grid g.yaml: bb-uda"):
        choose(found, {"method": None, "protocol": ["bb-uda", "sf-uda"]})
    with pytest.raises(ConfigError, match="did you mean 'shot'"):
        grid.known_names("method", ["shott"])


def committed(name: str) -> Grid:
    path = ROOT / "grids" / name
    return expand(grid.read(path), name, USUAL, {})


def served_pairs() -> set[tuple[str, str]]:
    """Return (method, protocol) of all that run on small networks and one source."""
    # the embedded data have networks that start from nothing: no pretrained features to probe
    entries = {m: entry for m, entry in registry.METHODS.items() if not entry.frozen_trunk}
    # rem serves vision transformers of timm, which take 160 pixels and more (here: 128);
    # sf-msda needs two sources, and the embedded digits have one
    pairs = {(m, p) for m, entry in entries.items() for p in entry.protocols if m != "rem"}
    return {(m, p) for m, p in pairs if p != "sf-msda"}


def test_the_quick_grid_has_every_method_under_every_protocol_of_its() -> None:
    found = committed("quick.yaml")
    pairs = served_pairs()
    assert set(shown(found, "method", "protocol")) == pairs
    assert found.budget == "smoke"
    assert len(found.specs) == 3 * len(pairs)
    assert {spec.dataset for spec in found.specs} == {"digits", "overhead", "streets"}
    assert {(spec.threads, spec.device) for spec in found.specs} == {(1, "cpu")}


@pytest.mark.parametrize("name", ["seeds.yaml", "ablations.yaml"])
def test_no_two_runs_of_a_grid_have_one_name(name: str, tmp_path: Path) -> None:
    names = [job.name for job in make_plan(committed(name).specs, Store(tmp_path)).jobs]
    assert len(set(names)) == len(names)


def test_the_reference_grid_has_tasks_enough_for_ranks() -> None:
    found = committed("reference-sf.yaml")
    tasks: dict[str, set[tuple[str, ...]]] = {}
    for spec in found.specs:
        task = (spec.dataset, spec.source, spec.target, str(spec.protocol_options.get("split")))
        tasks.setdefault(spec.protocol, set()).add(task)
    assert set(tasks) == {"sf-osda", "sf-uda", "bb-uda", "sf-pda", "sf-unida"}
    assert min(map(len, tasks.values())) >= 6
    development = {("webcam", "amazon"), ("dslr", "webcam"), ("cartoon", "photo")}
    development |= {("mnist", "handwritten")}
    everything = set().union(*tasks.values())
    assert not {(source, target) for _, source, target, _ in everything} & development
    assert not {split for *_, split in everything} & {"r1", "r5", "r9"}


def test_the_board_has_every_method_six_tasks_a_protocol_and_five_seeds() -> None:
    found = committed("reference.yaml")
    pairs = served_pairs()
    assert set(shown(found, "method", "protocol")) == pairs
    rows: dict[tuple[str, str], dict[str, set[int]]] = {}
    for spec in found.specs:
        tasks = rows.setdefault((spec.method, spec.protocol), {})
        tasks.setdefault(column_key(spec.to_dict()), set()).add(spec.seed)
    of_protocol: dict[str, set[str]] = {}
    for (_, protocol), tasks in rows.items():
        of_protocol.setdefault(protocol, set()).update(tasks)
    assert {p: len(found) for p, found in of_protocol.items()} == {
        **{protocol: 6 for protocol in of_protocol if protocol != "online-seg"},
        "online-seg": 8,
    }
    for (_, protocol), tasks in rows.items():
        assert tasks.keys() == of_protocol[protocol]
        assert {len(seeds) for seeds in tasks.values()} == {5}
    assert found.repeated == 0
    kept = {json.dumps(spec.to_dict(), sort_keys=True) for spec in found.specs}
    part = committed("reference-sf.yaml").specs
    assert {json.dumps(spec.to_dict(), sort_keys=True) for spec in part} <= kept
    frames = [dict(spec.protocol_options) for spec in found.specs if spec.protocol == "online-seg"]
    assert frames
    for kind in ("fog", "c-frost", "c-contrast"):  # what transadapt was developed on
        assert not [options for options in frames if kind in options["conditions"]]


@pytest.mark.parametrize(
    "name",
    [
        *("quick.yaml", "full.yaml", "reference-sf.yaml", "reference.yaml", "ablations.yaml"),
        "unitta.yaml",
    ],
)
def test_words_give_the_runs_that_typed_values_give(name: str) -> None:
    typed = yaml.safe_load((ROOT / "grids" / name).read_text())
    assert committed(name) == expand(typed, name, USUAL, {})


def earlier_version(record: dict[str, Any]) -> bool:
    version: str = registry.method(record["spec"]["method"]).version
    return record["versions"]["method"] != version


def test_the_full_grid_says_what_the_committed_records_were_run_with() -> None:
    found = committed("full.yaml")
    files = (ROOT / "results" / "records").glob("*/*/*.json")
    records = [json.loads(p.read_text()) for p in files]
    kept = {json.dumps(record["spec"], sort_keys=True) for record in records}
    renewed = {r["spec"]["method"] for r in records if earlier_version(r)}
    missing = [
        s
        for s in found.specs
        # records of an earlier version may have been run with other options
        if s.method not in renewed and json.dumps(s.to_dict(), sort_keys=True) not in kept
    ]
    # a wrong word in a block, or a default that moved, loses a whole block
    assert len(missing) < 0.02 * len(found.specs), missing[:3]


def test_shards_are_disjoint_complete_and_equal_every_time() -> None:
    found = grid_of("{method: [source, shot], protocol: [sf-osda, sf-uda], seeds: 0-2}")
    parts = [shard(found, f"{k}/5").specs for k in range(1, 6)]
    assert [len(part) for part in parts] == [3, 3, 2, 2, 2]
    together = sorted((spec for part in parts for spec in part), key=found.specs.index)
    assert together == list(found.specs)
    assert [shard(found, f"{k}/5").specs for k in range(1, 6)] == parts
    assert {spec.seed for spec in shard(found, "2/3").specs} == {1}


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "1/2/3", "-1/2", "1/99"])
def test_a_shard_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard"):
        shard(grid_of("{method: source, protocol: sf-osda, seeds: 0-2}"), text)
