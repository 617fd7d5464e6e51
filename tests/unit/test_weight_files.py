"""Weight files of other people's making: what is seen through, and what is refused and how."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file
from torch import Tensor, nn

from dabench.config.spec import resolve
from dabench.errors import CacheError, ConfigError
from dabench.networks.dense import build_segmenter
from dabench.networks.network import build_classifier
from dabench.networks.weight_files import load_backbone, read_state, weight_file
from dabench.source_models.checking import check_networks
from dabench.source_models.classifier import Recipe
from dabench.store.identity import run_digest

State = dict[str, Tensor]


def small(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build_classifier("small-cnn", "none", 3).backbone


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


FORMS: dict[str, Callable[[State], Any]] = {
    **{
        name: lambda s, name=name: {name: s, "epoch": 3}  # type: ignore[misc]
        for name in ("state_dict", "model", "model_state_dict", "net", "ema")
    },
    **{
        prefix: lambda s, prefix=prefix: prefixed(s, prefix)  # type: ignore[misc]
        for prefix in ("model.", "module.", "backbone.", "_orig_mod.", "module._orig_mod.model.")
    },
    "nested": lambda s: {"ema": {"module": prefixed(s, "model.backbone.")}, "optimizer": {"a": 1}},
    "a head beside it": lambda s: {
        "state_dict": prefixed(s, "model.") | {"model.fc.weight": torch.zeros(7, 256)}
    },
    "no counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("form", list(FORMS))
def test_wrappers_and_prefixes_are_seen_through(form: str, tmp_path: Path) -> None:
    theirs, path = small(), tmp_path / "w.pt"
    torch.save(FORMS[form](theirs.state_dict()), path)
    ours = small(2)
    load_backbone(ours, "small-cnn", path)
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in theirs.state_dict().items())


def test_safetensors(tmp_path: Path) -> None:
    theirs, path = small(), tmp_path / "w.safetensors"
    save_file(theirs.state_dict(), path)
    assert all(torch.equal(v, read_state(path)[k]) for k, v in theirs.state_dict().items())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CacheError, match="cannot be read"):
        read_state(path)


class Deeper(nn.Module):
    """A network whose tensors are a part of those of a deeper one."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(2, 2) for _ in range(depth)))


def test_tensors_left_over_missing_and_of_another_shape_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(Deeper(3).state_dict(), path)
    found = r"does not fit net: tensors 2 that the network does not have, first 'layers\.2\.weight'"
    with pytest.raises(CacheError, match=found + r" 2 x 2.*file has 6.*network has 4"):
        load_backbone(Deeper(2), "net", path)
    with pytest.raises(CacheError, match=r"tensors 2 missing, first 'layers\.3\.weight' 2 x 2\."):
        load_backbone(Deeper(4), "net", path)
    net = Deeper(3)
    net.layers[1] = nn.Linear(2, 5)
    wanted = r"2 of another shape, first 'layers\.1\.weight' 2 x 2 in the file, 5 x 2 in the"
    with pytest.raises(CacheError, match=wanted):
        load_backbone(net, "net", path)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("resnet34", "resnet18"),
        pytest.param("resnet101", "resnet50", marks=pytest.mark.slow),
    ],
)
def test_a_deeper_networks_file_is_refused(given: str, wanted: str, tmp_path: Path) -> None:
    path, build = tmp_path / "w.pth", torchvision.models.get_model
    with torch.device("meta"):
        state, net = build(given).state_dict(), build(wanted)
    torch.save({k: torch.empty(()).expand(v.shape) for k, v in state.items()}, path)
    with pytest.raises(CacheError, match=rf"not fit {wanted}: tensors \d+ that.*'layer\d\.\d+\.c"):
        load_backbone(net, wanted, path)


@pytest.mark.slow
def test_deeplab_101_is_no_deeplab_50(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with torch.device("meta"):
        deep = torchvision.models.get_model("deeplabv3_resnet101", weights_backbone=None)
    state = {k: torch.empty(()).expand(v.shape) for k, v in deep.state_dict().items()}
    torch.save(state, path)
    with pytest.raises(
        CacheError, match=r"not fit deeplabv3_resnet50: tensors \d+ that.*layer3\.6"
    ):
        build_segmenter("deeplabv3_resnet50", str(path), 3)


USELESS: dict[str, tuple[Callable[[Path], object], str]] = {
    "more than tensors": (
        lambda p: torch.save({"model": {"a": torch.ones(1)}, "args": argparse.Namespace(x=1)}, p),
        r"argparse\.Namespace.*torch\.save\(model\.state_dict\(\), PATH\)",
    ),
    "list": (lambda p: torch.save([torch.ones(1)], p), "holds a list.*state dict is expected"),
    "no tensors": (
        lambda p: torch.save({"epoch": 1, "lr": 0.1}, p),
        "holds a mapping of epoch, lr",
    ),
    "text": (lambda p: p.write_text("email me for the weights"), "no weight file of PyTorch"),
    "empty": (lambda p: p.write_bytes(b""), "the file is empty"),
    "cut": (lambda p: p.write_bytes(b"\x80\x02}q"), "damaged|cannot be read"),
}


@pytest.mark.parametrize("kind", list(USELESS))
def test_a_useless_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    make, words = USELESS[kind]
    make(path)
    with pytest.raises(CacheError, match=words) as caught:
        read_state(path)
    text = str(caught.value)
    assert str(path) in text
    assert text.isprintable()  # neither line breaks nor control codes
    assert len(text) < 400


@pytest.mark.parametrize("text", ["w" * 5000, "a\0b", "/nowhere/w.pt", "."])
def test_no_such_file(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--weights .*\(use none, pretrained or a path\)"
    ) as caught:
        weight_file(text)
    assert re.fullmatch(r"[\x20-\x7e]{1,400}", str(caught.value))


def test_the_content_of_a_weight_file_decides_a_runs_id_and_not_its_path(tmp_path: Path) -> None:
    def identity(path: Path) -> tuple[str, str]:
        given = {"method": "source", "backbone": "small-cnn", "weights": str(path), "threads": 1}
        (spec,) = resolve(given | {"device": "cpu"})
        recipe = Recipe("small-cnn", str(path), 1)
        ids = {"data": "d", "stream": "s", "source": "m"} | check_networks(spec, recipe)
        return run_digest(spec.to_dict(), {"method": "1", "protocol": "1"}, ids), ids["weights"]

    one, two, other = (tmp_path / name for name in ("one.pt", "two.pt", "other.pt"))
    state = small().state_dict()
    torch.save(state, one)
    two.write_bytes(one.read_bytes())
    torch.save({k: v + 1 for k, v in state.items()}, other)
    assert identity(one) == identity(two)
    assert identity(one) != identity(other)
