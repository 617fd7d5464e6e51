"""Runs of ``online-seg`` with a segmentation model of the user's own."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import dabench
from dabench.cli.main import main

K, HEIGHT, WIDTH = 11, 16, 24
FILE = Path(__file__).parents[1] / "models" / "tiny_segmenter.py"


class Place:
    """CamVid with two tiny frames in every split, a model file and a checkpoint."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        rng = np.random.default_rng(0)
        for split in ("train", "val", "test"):
            for i in range(2):
                pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                mask = rng.integers(0, 12, (HEIGHT, WIDTH), dtype=np.uint8)
                for folder, found in ((split, pixels), (f"{split}annot", mask)):
                    path = root / "camvid" / folder / f"f{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(found).save(path)
        self.checkpoint = root / "net.pt"
        torch.manual_seed(3)
        self.model = runpy.run_path(str(FILE))["build"]().eval()
        torch.save(self.model.state_dict(), self.checkpoint)

    def words(self, function: str, *more: Any) -> list[str]:
        words: list[Any] = ["run", "--protocol", "online-seg", "--dataset", "camvid"]
        words += ["--data-root", self.root, "--image-size", HEIGHT, "--threads", 1]
        words += ["--device", "cpu", "--json", "--no-progress", "--results", self.root / "results"]
        words += ["--cache-dir", self.root / "cache", "--protocol.conditions", "clear"]
        words += ["--source-model", f"{FILE}:{function}", *more]
        return [str(word) for word in words]

    def run(self, *more: Any) -> dict[str, Any]:
        code = main(self.words("build", "--source-checkpoint", self.checkpoint, *more))
        out, err = self.capsys.readouterr()
        assert code == 0, err
        record: dict[str, Any] = json.loads(Path(json.loads(out)["record"]).read_text())
        return record

    def error(self, function: str, *more: Any) -> str:
        assert main(self.words(function, *more)) == 2
        _, err = self.capsys.readouterr()
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        return line


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_the_source_row_is_the_model_itself(place: Place) -> None:
    record = place.run("--method", "source", "--source-std", "0.5,0.5,0.5")
    spec, source = record["spec"], record["source_model"]
    assert (spec["backbone"], spec["source_std"], spec["source_epochs"]) == (
        *("tiny_segmenter.py:build", "0.5,0.5,0.5"),
        0,
    )
    assert (source["foreign"], source["val_accuracy"]) == ("tiny_segmenter.py:build", None)
    right = pixels = 0
    for i in range(2):
        image = np.array(Image.open(place.root / f"camvid/test/f{i}.png"))
        truth = torch.from_numpy(np.array(Image.open(place.root / f"camvid/testannot/f{i}.png")))
        with torch.no_grad():
            logits = place.model(torch.from_numpy(image).permute(2, 0, 1)[None] / 255 / 0.5)
        found = F.interpolate(logits, (HEIGHT, WIDTH), mode="bilinear").argmax(1)[0]
        right += int((found == truth)[truth < K].sum())
        pixels += int((truth < K).sum())
    (accuracy,) = [
        s["value"]
        for s in record["scores"]
        if (s["metric"], s["segment"]) == ("pixel_accuracy", "all")
    ]
    assert accuracy == pytest.approx(right / pixels)


def test_a_model_that_a_program_holds_gives_the_same(place: Place) -> None:
    named, root = place.run("--method", "source"), place.root
    held = dabench.run(
        "source",
        protocol="online-seg",
        dataset="camvid",
        source_model=place.model,
        protocol_options={"conditions": "clear"},
        **{"data_root": root, "results": root / "results", "cache_dir": root / "cache"},
        **{"image_size": HEIGHT, "threads": 1, "device": "cpu"},
    )
    assert held.record["scores"] == named["scores"]
    assert held.run_id != named["run_id"]


def test_transadapt_trains_its_parts_on_the_sets_own_frames(place: Place) -> None:
    options = ("--method.head_steps", 1, "--method.module_steps", 1)
    record = place.run("--method", "transadapt", *options)
    assert record["source_model"]["foreign"] == "tiny_segmenter.py:build"
    parts = record["source_model"]["parts"]
    assert parts["trained_on"] == "source images of camvid/day"
    assert "source-parts" in record["extras"]


def test_a_method_that_cannot_run_says_so(place: Place) -> None:
    line = place.error("cut", "--method", "transadapt")
    assert line.startswith("error: transadapt: its module reads the feature map")


# -- a real model -------------------------------------------------------------------------------

REAL = Path(os.environ.get("DABENCH_DATA", "/nonexistent"))
ESPNET = REAL / "weights" / "espnet_p_2_q_8_camvid.pth"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not ESPNET.is_file(), reason="DABENCH_DATA has no ESPNet")
def test_the_published_espnet_on_camvid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """.54 mIoU on the clear test frames (docs/own-model.md has it in fog, and adapted)."""
    file = Path(__file__).parents[1] / "models" / "espnet.py"
    words = ["run", "--protocol", "online-seg", "--dataset", "camvid", "--data-root", str(REAL)]
    words += ["--image-size", "360", "--threads", "1", "--device", "cpu", "--no-progress", "--json"]
    words += ["--source-model", f"{file}:build", "--source-checkpoint", str(ESPNET)]
    words += ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]

    words += ["--method", "source", "--protocol.conditions", "clear"]
    assert main(words) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["mIoU"] == pytest.approx(0.54, abs=0.02)
