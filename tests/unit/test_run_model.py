"""``dabench.run`` with a source model that a program holds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import dabench
from dabench.cli.main import main
from dabench.errors import ConfigError


class Net(nn.Module):
    """A user's model."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.out = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.norm(self.conv(x)).relu().mean((2, 3)))
        return found


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Net()


@pytest.fixture
def given(tmp_path: Path, fill_classes: Any) -> dict[str, Any]:
    """Return options of a short run on class folders."""
    for seed, domain in enumerate("ab"):
        fill_classes(tmp_path / "data" / domain, seed)
    found: dict[str, Any] = {"dataset": "image-folder", "data_root": tmp_path / "data"}
    found |= {"source": "a", "target": "b", "image_size": 32, "protocol": "sf-uda"}
    found |= {"results": tmp_path / "results", "cache_dir": tmp_path / "cache"}
    return found | {"threads": 1, "device": "cpu", "batch_size": 8}


def test_a_source_model_in_memory(
    given: dict[str, Any], net: Net, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given |= {"protocol_options": {"held_out": 0.0}, "source_mean": [0.5, 0.5, 0.5]}
    before = copy.deepcopy(net.state_dict())
    found = dabench.run("source", source_model=net, **given)
    assert found.record["spec"]["source_model"] == "Net (in memory)"
    assert found.record["source_model"]["val_accuracy"] is None
    assert "external" in found.record["extras"]
    files = sorted((tmp_path / "data/b").glob("*/*.png"))
    images = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in files]))
    with torch.no_grad():
        logits = net.eval()(images.permute(0, 3, 1, 2).float() / 255 - 0.5)
    right = (logits.argmax(1).numpy() == np.repeat(np.arange(3), 8)).mean()
    assert found.scores["accuracy"] == pytest.approx(right)
    adapted = dabench.run("shot", source_model=net.train(), epochs=1, **given)
    assert adapted.record["ids"]["source"] == found.record["ids"]["source"]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    again = dabench.run("source", source_model=copy.deepcopy(net), **given)
    assert (again.run_id, again.existed) == (found.run_id, True)
    with torch.no_grad():
        net.out.bias[0] += 1
    assert dabench.run("source", source_model=net, **given).run_id != found.run_id
    capsys.readouterr()
    words = ["--data-root", str(given["data_root"]), "--cache-dir", str(given["cache_dir"])]
    assert main(["reproduce", str(found.path), *words]) == 2
    assert "handed to dabench.run(source_model=...)" in capsys.readouterr().err


def test_source_models_that_do_not_fit(given: dict[str, Any], net: Net) -> None:
    asked = {"protocol": "bb-uda", "backbone": "small-cnn", "weights": "none"}
    for wrong, more, message in (
        (Net(4), {}, r"Net \(in memory\): Net has no linear layer with 3 outputs"),
        (3, {}, "source_model 3: expected an nn.Module or a name"),
        (Net, {}, "source_model <class .*Net'>: expected an nn.Module"),
        (net, {"source_checkpoint": "x.pt"}, "there with its weights"),
        (net, {"backbone": "resnet18"}, "--source-model is there already"),
        (net, asked, "cannot be sealed in another one; .*'in-process'"),
    ):
        with pytest.raises(ConfigError, match=message):
            dabench.run("source", source_model=wrong, **given | more)


def test_a_model_in_memory_that_only_answers(given: dict[str, Any], net: Net) -> None:
    given["protocol_options"] = {"held_out": 0.0}
    seen = dabench.run("source", source_model=net, **given)
    given |= {"protocol": "bb-uda", "backbone": "small-cnn", "weights": "none"}
    given["protocol_options"] = {"held_out": 0.0, "oracle": "in-process"}
    asked = dabench.run("source", source_model=net, **given)
    assert asked.scores["accuracy"] == seen.scores["accuracy"]
    assert asked.record["source_model"]["foreign"] == "Net (in memory)"


def test_its_adapted_weights_fit_it(given: dict[str, Any], net: Net) -> None:
    found = dabench.run("shot", source_model=net, epochs=1, save_model=True, **given)
    assert found.model is not None
    before = copy.deepcopy(net.state_dict())
    net.load_state_dict(load_file(found.model / "model.safetensors"))
    assert not torch.equal(net.conv.weight, before["conv.weight"])
    with pytest.raises(ConfigError, match=r"load model.safetensors into one of your own"):
        dabench.load_model(found.model)
