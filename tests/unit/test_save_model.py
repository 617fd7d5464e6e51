"""Models as files: what save_model writes, load_model builds again; dabench run --save-model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import dabench
from dabench.cli.main import main
from dabench.errors import CacheError, ConfigError
from dabench.networks.ensemble import Ensemble
from dabench.networks.network import build_classifier
from dabench.source_models.model_files import replaced, save_model
from dabench.store.arrays import read_arrays

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("backbone", ["small-cnn", "small-vit"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_network_of_dabench_comes_back(tmp_path: Path, backbone: str, plain: bool) -> None:
    network = build_classifier(backbone, "none", 3, plain=plain, side=32)
    network.append_class(torch.Generator().manual_seed(0))
    network.mean.fill_(0.485)  # as of pretrained weights
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_()
    save_model(tmp_path, network.eval(), ["a", "b", "c"], None, {"image_size": 32})
    loaded = dabench.load_model(tmp_path)
    with torch.no_grad():
        found = loaded(IMAGES)
        torch.testing.assert_close(found, network(IMAGES))
    assert found.shape == (5, 4)
    card = yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert (card["backbone"], card["plain_head"], card["outputs"]) == (backbone, plain, 4)
    assert card["mean"] == [0.485] * 3
    assert torch.equal(loaded.mean, network.mean)


@pytest.mark.parametrize("averaged", ["logits", "probabilities"])
def test_networks_that_answer_together_come_back(tmp_path: Path, averaged: Any) -> None:
    both = Ensemble([build_classifier("small-cnn", "none", 3, side=32) for _ in "ab"], averaged)
    save_model(tmp_path, both.eval(), ["a", "b", "c"], None, {"image_size": 32})
    with torch.no_grad():
        torch.testing.assert_close(dabench.load_model(tmp_path)(IMAGES), both(IMAGES))
        answers = torch.stack([net(IMAGES) for net in both.networks])
        p = (
            answers.softmax(2).mean(0)
            if averaged == "probabilities"
            else answers.mean(0).softmax(1)
        )
        torch.testing.assert_close(both(IMAGES).softmax(1), p)


def test_what_no_name_builds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Linear is no network that dabench can build again"):
        save_model(tmp_path, torch.nn.Linear(2, 2), ["a", "b"], None, {"image_size": 32})
    assert not list(tmp_path.iterdir())
    with pytest.raises(CacheError, match="expected a folder of 'dabench adapt' or of 'dabench run"):
        dabench.load_model(tmp_path)
    for text in ("", "outputs: 3\n", "- 1\n", "outputs: [\n"):
        (tmp_path / "model.yaml").write_text(text)
        with pytest.raises(CacheError, match=r"model\.yaml: cannot be used"):
            dabench.load_model(tmp_path)
    card = {"outputs": 3, "mean": [0, 0, 0], "std": [1, 1, 1], "classes": ["a", "b", "c"]}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(card | {"backbone": "small-cnn"}))
    with pytest.raises(CacheError, match="image_size"):
        dabench.load_model(tmp_path)


def test_a_folder_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def fill(text: str) -> Any:
        return lambda draft: (draft / "x").write_text(text)

    with replaced(folder, fill("one")):
        assert not folder.exists()
    with pytest.raises(RuntimeError), replaced(folder, fill("two")):
        raise RuntimeError
    assert (folder / "x").read_text() == "one"
    with replaced(folder, None):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "protocol"),
    [
        ("cabb", "bb-uda"),
        ("usd", "sf-osda"),
        pytest.param("shot", "sf-uda", marks=pytest.mark.slow),
        pytest.param("beta", "bb-uda", marks=pytest.mark.slow),
    ],
)
def test_a_run_keeps_the_model_that_was_scored(place: Any, method: str, protocol: str) -> None:
    own: dict[str, Any] = {"method": method, "protocol": protocol}
    own |= {} if protocol == "bb-uda" else {"backbone": None, "weights": None}
    more = ["--protocol.held_out", "0", "--save-model"]
    more += ["--protocol.oracle", "in-process"] if protocol == "bb-uda" else []
    if protocol == "sf-osda":
        (place.root / "data/b/ant").rename(place.root / "data/b/dog")
        more += ["--protocol.known", "ant,bee,cat", "--protocol.unknown", "dog"]
    record = place.run(*more, **own)
    folder = place.root / "results/runs" / record["run_id"] / "model"
    assert sorted(path.name for path in folder.parent.glob("model*")) == ["model"]
    assert yaml.safe_load((folder / "model.yaml").read_text())["run"] == record["run_id"]
    loaded = dabench.load_model(folder)
    with torch.no_grad():
        p = loaded(place.images()).softmax(1)
    (path,) = (place.root / "results").glob("records/*/*/*.npz")
    kept = read_arrays(path)
    # the record's rows are in hashed order: as many of every answer, and the same sureness
    found = torch.bincount(p.argmax(1), minlength=4)
    said = torch.bincount(torch.from_numpy(kept["adapt.prediction"]).long(), minlength=4)
    assert found.tolist() == said.tolist()
    if protocol != "sf-osda":
        top = torch.from_numpy(kept["adapt.confidence"]).sort().values
        torch.testing.assert_close(p.amax(1).sort().values, top, atol=2**-10, rtol=0)
    assert p.shape[1] == (4 if protocol == "sf-osda" else 3)


def test_a_run_that_lacks_its_model_is_made_again(place: Any) -> None:
    words = place.words("--protocol.oracle", "in-process", method="pseudo-label")

    def run(*more: str) -> tuple[dict[str, Any], str]:
        assert main([*words, *more]) == 0
        out, err = place.capsys.readouterr()
        return json.loads(out), err

    first, _ = run()
    assert "model" not in first
    again, err = run("--save-model")
    assert f"run {first['run_id']} was recorded without its model" in err
    assert again["run_id"] == first["run_id"]
    assert len(list((place.root / "results/records/superseded").glob("*.json"))) == 1
    third, err = run("--save-model")
    assert third == again
    assert not err
    folder = Path(again["model"])
    assert folder.is_dir()
    assert "model" not in run("--force")[0]  # what lies beside a record is of that record
    assert not folder.exists()


def test_runs_that_leave_no_model_are_refused_first(place: Any) -> None:
    def error(**named: Any) -> str:
        assert main(place.words("--save-model", **named)) == 2
        (line,) = place.capsys.readouterr().err.splitlines()
        return line

    own = {"backbone": None, "weights": None, "epochs": None}
    line = error(method="tent", protocol="online-tta", **own)
    assert "--save-model: under online-tta a method goes on changing" in line
    assert "source only asks the source model" in error(method="source")
    line = error(method="prior-correction", protocol="sf-uda", **own)
    assert "--save-model: prior-correction answers by more than a network" in line
    assert not (place.root / "cache").exists()
