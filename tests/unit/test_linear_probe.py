"""The row ``linear-probe``: pretrained features as they are, under a head trained on the source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dabench import registry
from dabench.board.tables.leaderboard import table
from dabench.config.settings import Settings
from dabench.config.spec import resolve
from dabench.contract.data import DomainData, Labelled
from dabench.engine.run import RunResult, execute
from dabench.errors import ConfigError
from dabench.networks.network import build_classifier
from dabench.registry.method_info import registered_info
from dabench.source_models.classifier import Recipe
from dabench.source_models.recipes import probe_recipe, source_recipe

Runs = Callable[..., RunResult]


@pytest.fixture
def run(tiny: DomainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return ``run(method, ...)`` on the tiny digits, from features that a file holds."""
    few = Labelled(tiny.source_train.images[:100], tiny.source_train.labels[:100], "few")
    data = dataclasses.replace(tiny, source_train=few)
    monkeypatch.setattr(registry.dataset("digits"), "load", lambda self, request: data)
    torch.manual_seed(7)
    net = build_classifier("small-cnn", "none", 2)
    for stage in net.backbone.modules():
        if isinstance(stage, torch.nn.BatchNorm2d):  # statistics that are nobody's defaults
            stage.running_mean.uniform_(-0.5, 0.5)
    torch.save(net.backbone.state_dict(), tmp_path / "w.pt")
    where = Settings(tmp_path / "results", None, tmp_path / "cache", progress=False)

    def call(method: str, **words: Any) -> RunResult:
        usual = {"protocol": "sf-osda", "weights": str(tmp_path / "w.pt"), "device": "cpu"}
        usual |= {"threads": 1, "epochs": 0, "source-epochs": 1}
        (spec,) = resolve({"method": method} | usual | words)
        return execute(spec, where)

    return call


def scores(result: RunResult) -> dict[tuple[str, str], float | None]:
    return {(s["metric"], s["segment"]): s["value"] for s in result.record["scores"]}


def test_it_stands_in_the_column_of_source(run: Runs, tmp_path: Path) -> None:
    source, probe = run("source"), run("linear-probe")
    before = torch.load(tmp_path / "w.pt", weights_only=True)
    files = (tmp_path / "cache" / "sources").glob("*/model.pt")
    states = [torch.load(path, weights_only=True)["state_dict"] for path in files]
    kept = [
        all(torch.equal(state[f"backbone.{n}"], v) for n, v in before.items()) for state in states
    ]
    assert sorted(kept) == [False, True]  # the source model moved its trunk, the probe nothing
    ids, own = source.record["ids"], probe.record["ids"]
    assert own == ids | {"probe": own["probe"]}
    assert own["probe"] != ids["source"]
    about = probe.record["source_model"]
    assert about["id"] == ids["source"]
    assert about["probe"]["id"] == own["probe"]
    assert (source.record["extras"], probe.record["extras"]) == ([], ["frozen-trunk"])
    assert scores(source) != scores(probe)
    frame = table([source.record, probe.record], info=registered_info())
    frame = frame[frame["metric"] == "HOS"].set_index("method")
    assert list(frame["note"]) == ["", ""]
    assert frame["column"].nunique() == 1
    assert frame.loc["linear-probe", "diff_n"] == 1
    best = frame["mean"].idxmax()  # it learns nothing from the target: it is a baseline
    assert set(frame["best_baseline"]) == {best}
    frozen = run("source", freeze="all")  # another column, and the same network
    assert frozen.record["spec"]["freeze"] == "all"
    assert scores(frozen) == scores(probe)
    assert frozen.record["ids"]["source"] == probe.record["ids"]["probe"]
    assert run("source", freeze="all").existed  # its record is read as a whole one


def test_a_black_box_has_one(run: Runs) -> None:
    words = {"protocol": "bb-uda", "protocol.oracle": "in-process"}
    source, probe = run("source", **words), run("linear-probe", **words)
    assert probe.record["ids"]["source"] == source.record["ids"]["source"]
    assert probe.record["source_model"]["probe"]["id"] != source.record["ids"]["source"]
    assert scores(source) != scores(probe)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ({"weights": "none"}, r"small-cnn starts from nothing \(weights none\).*--weights"),
        ({"protocol": "bb-uda", "source-backbone": "small-cnn"}, "starts from nothing"),
        ({"protocol": "bb-uda", "protocol.oracle": "http"}, "oracle http.*trained elsewhere"),
    ],
)
def test_where_there_are_no_features_to_keep(
    run: Runs, tmp_path: Path, words: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        run("linear-probe", **words)
    assert not (tmp_path / "cache" / "sources").exists()


def test_the_probe_differs_from_the_source_model_in_its_trunk_alone() -> None:
    (spec,) = resolve({"method": "source", "weights": "w.pt", "freeze": 2, "device": "cpu"})
    usual = source_recipe(spec, black_box=True)
    assert usual == Recipe("small-cnn", "w.pt", spec.source_epochs, 2, plain=True)
    assert probe_recipe(usual) == Recipe("small-cnn", "w.pt", spec.source_epochs, "all", plain=True)
