"""``dabench.run(data=...)``: a program's own arrays and datasets under every protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

import dabench
from dabench.cli.main import main
from dabench.contract.data import DataRequest
from dabench.datasets.arrays.own_arrays import Arrays
from dabench.deploy.array_folder import write_domains
from dabench.errors import ConfigError, DataError

NAMES = ["ant", "bee", "cat", "dog"]


def pictures(seed: int = 0, n: int = 48, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return noise whose brightness tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    noise = rng.integers(0, 40, (n, side, side, 3))
    return (noise + 50 * labels[:, None, None, None]).astype(np.uint8), labels


class Own(Dataset[tuple[Any, int]]):
    """A map-style dataset as torchvision's are."""

    classes = NAMES

    def __init__(self, seed: int = 0, form: str = "pil") -> None:
        self.images, self.labels = pictures(seed)
        self.form = form

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        image = self.images[i]
        if self.form == "pil":
            return Image.fromarray(image), int(self.labels[i])
        tensor: Tensor = torch.from_numpy(image).permute(2, 0, 1)
        return (tensor if self.form == "bytes" else tensor.float() / 255), int(self.labels[i])


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    """Options of a run of seconds."""
    return {
        **{"epochs": 1, "source_epochs": 1, "batch_size": 8, "backbone": "small-cnn"},
        **{"weights": "none", "threads": 1, "device": "cpu"},
        **{"results": tmp_path / "results", "cache_dir": tmp_path / "cache"},
    }


@pytest.mark.parametrize(
    ("method", "protocol", "domains"),
    [
        ("source", "sf-uda", 2),
        ("source", "sf-osda", 2),
        ("source", "bb-uda", 2),
        ("bn-adapt", "online-tta", 1),
        ("bn-adapt", "continual-tta", 1),
        ("bn-adapt", "gradual-weather", 1),
    ],
)
def test_every_protocol(small: dict[str, Any], method: str, protocol: str, domains: int) -> None:
    data = dict(zip("ab", (pictures(0, 80), pictures(1, 80)), strict=True))
    given = {name: data[name] for name in "ab"[:domains]}
    short = {"shifts": "fog:1"} if protocol in ("online-tta", "continual-tta") else {}
    if protocol == "bb-uda":
        short = {"oracle": "in-process"}
    result = dabench.run(
        method, protocol=protocol, data=given, classes=NAMES, protocol_options=short, **small
    )
    assert result.record["spec"]["dataset"] == "arrays"
    primary = "HOS" if protocol == "sf-osda" else "accuracy"
    assert result.scores[primary] is not None


def test_content_decides_the_run(small: dict[str, Any]) -> None:
    images, labels = pictures()
    data: dict[str, Any] = {"a": (images, labels), "b": Own(1)}
    first = dabench.run("source", protocol="sf-uda", data=data, **small)
    order = np.random.default_rng(0).permutation(len(images))
    named = [NAMES[k] for k in labels[order]]
    again = dabench.run(
        "source",
        protocol="sf-uda",
        data={"a": (images[order], named), "b": Own(1, "float")},
        **small,
    )
    assert again.existed
    assert again.run_id == first.run_id
    images[0, 0, 0, 0] += 1
    other = dabench.run("source", protocol="sf-uda", data=data, **small)
    assert other.run_id != first.run_id


def test_forms_of_pictures(tmp_path: Path) -> None:
    images, labels = pictures(n=12, side=16)
    expected, side = write_domains({"a": (images, labels)}, NAMES, None, tmp_path)
    assert side == 16
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    lists = [Image.fromarray(image) for image in images]
    for form in (tensors, tensors.float() / 255, lists, images.astype(np.float64) / 255):
        assert write_domains({"a": (form, labels)}, NAMES, None, tmp_path)[0] == expected
    grey = images[..., 0]
    folder, _ = write_domains({"a": (grey, labels)}, NAMES, 20, tmp_path)
    stored = np.load(folder / "a/images.npy")
    assert stored.shape == (12, 20, 20, 3)
    assert (stored == stored[..., :1]).all()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda d: (d / "classes.txt").write_text("ant\nbee\ndog\ncat\n"), "classes.txt"),
        (lambda d: np.save(d / "a/labels.npy", np.zeros(12, np.int64)), "a/labels.npy"),
        (lambda d: (d / "a/images.npy").write_bytes(b"no array"), "a/images.npy"),
        (lambda d: (d / "a/images.npy").unlink(), "a/images.npy"),
    ],
)
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, spoil: Any, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    images, labels = pictures(n=12, side=16)
    folder, _ = write_domains({"a": (images, labels)}, NAMES, None, tmp_path)
    spoil(folder)
    assert write_domains({"a": (images, labels)}, NAMES, None, tmp_path)[0] == folder
    assert f"cannot be used ({named}" in caplog.text
    assert (folder / "classes.txt").read_text().split() == NAMES
    assert np.array_equal(np.load(folder / "a/images.npy"), images)
    assert np.array_equal(np.load(folder / "a/labels.npy"), labels)
    caplog.clear()
    write_domains({"a": (images, labels)}, NAMES, None, tmp_path)
    assert not caplog.text


def test_pil_pictures_of_more_than_8_bits(tmp_path: Path) -> None:
    grey = pictures(n=12, side=16)[0][..., 0]
    labels = np.arange(12) % 4
    expected, _ = write_domains({"a": (grey, labels)}, NAMES, None, tmp_path)
    sixteen = [Image.fromarray(image.astype(np.uint16) * 257) for image in grey]
    floats = [Image.fromarray(image.astype(np.float32) / 255) for image in grey]
    assert {image.mode for image in sixteen + floats} == {"I;16", "F"}
    for form in (sixteen, floats):
        assert write_domains({"a": (form, labels)}, NAMES, None, tmp_path)[0] == expected
    for wrong in (Image.new("I", (8, 8), 70_000), Image.new("F", (8, 8), 3.0)):
        with pytest.raises(DataError, match=r"data\['a'\]\[0\]: "):
            write_domains({"a": ([wrong] * 4, range(4))}, NAMES, None, tmp_path)


def test_classes_may_be_an_array(tmp_path: Path) -> None:
    images, labels = pictures(n=6)
    first, _ = write_domains({"a": (images, labels)}, np.array(NAMES), None, tmp_path)
    assert (first / "classes.txt").read_text().split() == list(NAMES)


def test_the_order_says_nothing(tmp_path: Path) -> None:
    images, labels = pictures(n=40)
    order = np.argsort(labels, kind="stable")
    folder, _ = write_domains({"a": (images[order], labels[order])}, NAMES, None, tmp_path)
    data = Arrays().load(DataRequest("a", "a", 32, folder, tmp_path))
    found = data.target_all
    assert list(found.labels) != sorted(found.labels)
    rows = np.array([5, 0, 17])
    brightness = found.images[rows].reshape(3, -1).mean(1)
    assert np.array_equal(np.round((brightness - 20) / 50), found.labels[rows])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "expected a mapping"),
        ({"a": 3}, "data['a']: expected (images, labels), or a dataset"),
        ({"a": (np.zeros((3, 8, 8, 3), np.uint8), [0, 1])}, "3 images and 2 labels"),
        ({"a": (np.zeros((2, 8, 8, 3), np.int64), [0, 1])}, "(8, 8, 3) of int64"),
        ({"a": (np.full((2, 8, 8, 3), 1.5), [0, 1])}, "floats outside [0, 1]"),
        ({"a": (np.zeros((2, 8, 8, 5), np.uint8), [0, 1])}, "(8, 8, 5) of uint8"),
        ({"a": (np.zeros((0, 8, 8, 3), np.uint8), [])}, "no images"),
        ({"a": (np.zeros((2, 8, 8, 3), np.uint8), [3, "cow"])}, "label 'cow'"),
        ({"a": (np.zeros((2, 8, 8, 3), np.uint8), [0, 0])}, "1 class(es)"),
        ({"a": (np.zeros((2, 8, 8, 3), np.uint8), np.eye(2))}, "of one-hot labels: labels.argmax"),
        ({"a": (np.zeros((2, 8, 8, 3), np.uint8), torch.eye(2))}, "expected one number or name"),
        ({"a": (np.zeros((2, 8, 8, 3), np.uint8), [[0, 1], [1, 0]])}, "expected one number or"),
        ({"a/b": (np.zeros((2, 8, 8, 3), np.uint8), [0, 1])}, "is no name of a domain"),
        ({"a": [1, 2]}, "data['a'][0]: expected (image, label)"),
    ],
)
def test_bad_data(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        write_domains(data, None, None, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.npy"))


def test_what_does_not_go_together(small: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="leave dataset= and data_root= away"):
        dabench.run("source", dataset="digits", data={"a": pictures()}, **small)
    with pytest.raises(ConfigError, match="names those of data="):
        dabench.run("source", classes=NAMES, **small)
    with pytest.raises(ConfigError, match="no such domain"):
        dabench.run("source", protocol="sf-uda", data={"a": pictures()}, target="c", **small)


#: of an array whose description is no dict
_HEADER = b"\x93NUMPY\x01\x00\x10\x00{'descr': '|u1', \n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "classes.txt").unlink(), "classes.txt: cannot be read"),
        (lambda d: (d / "classes.txt").write_text("one\n"), "two or more different names"),
        (lambda d: (d / "a/images.npy").write_bytes(b"no array"), "cannot be read"),
        (lambda d: (d / "a/images.npy").write_bytes(b"PK\x03\x04nothing"), "cannot be read"),
        (lambda d: (d / "a/images.npy").write_bytes(_HEADER), "cannot be read"),
        (lambda d: np.save(d / "a/images.npy", np.uint8(3)), "() of uint8; expected (N, S, S, 3)"),
        (lambda d: np.save(d / "a/images.npy", np.zeros((0, 8, 8, 3), np.uint8)), "holds nothing"),
        (lambda d: np.save(d / "a/labels.npy", np.zeros(3, np.int64)), "expected (12,) integers"),
        (lambda d: np.save(d / "a/labels.npy", np.full(12, 4)), "labels 4 to 4"),
        (lambda d: np.save(d / "a/images.npy", np.zeros((12, 8, 9, 3), np.uint8)), "(12, 8, 9, 3)"),
    ],
)
def test_a_damaged_folder(
    tmp_path: Path, spoil: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = write_domains({"a": pictures(n=12, side=16)}, NAMES, None, tmp_path)
    words = ["data", "check", "arrays", "--data-root", str(folder)]
    assert main(words) == 0
    spoil(folder)
    assert main(words) == 2
    out = capsys.readouterr().out
    assert message in out.splitlines()[-1]


def test_a_model_of_ones_own(tmp_path: Path, small: dict[str, Any]) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))\n"
    )
    own = {k: v for k, v in small.items() if k not in ("source_epochs", "backbone", "weights")}
    result = dabench.run(
        "source",
        protocol="sf-uda",
        data={"a": pictures(0), "b": pictures(1)},
        classes=NAMES,
        source_model=f"{file}:build",
        **own,
    )
    assert result.record["spec"]["source_model"] == "net.py:build"
    assert result.record["source_model"]["val_accuracy"] is None
