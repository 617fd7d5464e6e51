"""A run's report: what the protocol recorded is drawn, what is absent is left out."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.cli.main import main
from dabench.contract.types import Score
from dabench.store.records import score_to_row
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
HOSTILE = "<script>alert(1)</script>"


def scores(*found: Score) -> list[dict[str, Any]]:
    return [score_to_row(score) for score in found]


def open_set(make: Make) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 80).astype(np.int16)
    record = make("usd", 0, 0.7) | {
        "scores": scores(
            Score("HOS", 0.7, 80),
            Score("UNK", None, 20),
            *(Score("class_accuracy", 0.5, 20, name) for name in ("0", "1", HOSTILE, "unknown")),
        ),
        "curves": scores(
            *(Score("HOS", 0.5 + at / 50, 80, at=at) for at in (2, 4, 6)),
            Score("im", 1.0, 80, at=2),
        ),
    }
    arrays = {
        "adapt.truth": truth,
        "adapt.prediction": rng.integers(0, 4, 80).astype(np.int16),
        "adapt.confidence": rng.random(80, dtype=np.float32),
        "adapt.unknown_score": rng.random(80, dtype=np.float32),
    }
    return record, arrays


def report(root: Path, run: str) -> str:
    assert main(["report", run, "--results", str(root)]) == 0
    return (root / "runs" / run / "report" / "index.html").read_text("utf-8")


def test_open_set(made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, arrays = open_set(made_run)
    store = Store(tmp_path)
    store.write(record, arrays)
    store.write(made_run("source", 0, 0.5))
    text = report(tmp_path, record["run_id"])
    for words in (
        *("Confusion, adapt images", "Unknown score, adapt images", "known (", "private ("),
        *(
            "class_accuracy",
            "Curves, by epoch",
            "against source +0.200",
            "<span>--method</span> <span>usd</span>",
        ),
    ):
        assert words in text, words
    assert "Along the stream" not in text
    assert "Pictures" not in text
    assert "<script" not in text
    assert str(int((arrays["adapt.truth"] == 3).sum())) in text  # private images, by their name
    assert "report: " in capsys.readouterr().out


def test_reliability_of_a_closed_set_is_that_of_the_record(tmp_path: Path) -> None:
    """On a committed run: the diagram's error is the ECE that the protocol scored."""
    records = Path(__file__).parents[2] / "results" / "records"
    path = min((records / "bb-uda" / "digits").glob("*.npz")).with_suffix(".json")
    copied = tmp_path / "records" / "bb-uda" / "digits"
    copied.mkdir(parents=True)
    for name in (path, path.with_suffix(".npz")):
        shutil.copy(name, copied)
    shutil.copytree(records / "shared", tmp_path / "records" / "shared")  # the truth of all runs
    text = report(tmp_path, path.stem)
    scored = {
        row["segment"]: row["value"]
        for row in json.loads(path.read_text("utf-8"))["scores"]
        if row["metric"] == "ECE"
    }
    for segment, said in (("all", "adapt images"), ("held-out", "held-out images")):
        assert f'aria-label="reliability diagram, {said}"' in text
        error = f"Share of right answers by confidence, {said}; expected calibration error"
        assert f"{error} {scored[segment]:.3f}" in text


def test_the_calibration_error_is_that_of_the_record(made_run: Make, tmp_path: Path) -> None:
    """Confidences are kept rounded: an error that is made of them is another one."""
    record = made_run("usd", 0, target_tuned=True)
    record["scores"] = scores(Score("accuracy", 0.5, 4), Score("ECE", 0.123, 4))
    arrays = {"adapt.truth": np.array([0, 1, 0, 1]), "adapt.prediction": np.array([0, 0, 1, 1])}
    arrays["adapt.confidence"] = np.array([0.5, 0.6, 0.7, 0.8], np.float32)
    Store(tmp_path).write(record, arrays)
    text = report(tmp_path, record["run_id"])
    assert "by confidence, adapt images; expected calibration error 0.123" in text
    assert "target-tuned" in text


def test_a_stream_with_its_levels_and_pictures(made_run: Make, tmp_path: Path) -> None:
    record = made_run("tent", 1, protocol="gradual-weather", epochs=1)
    record["scores"] = scores(
        Score("accuracy", 0.6, 640, at=10),
        Score("accuracy", 0.7, 320, "clear", 10),
        Score("accuracy", 0.5, 320, "fog-1", 10),
        Score("accuracy", 0.5, 320, "final", 10),
    )
    record["curves"] = scores(
        *(Score("running_accuracy", 0.7 - at / 40, 320, "all", at) for at in range(10)),
        *(Score("running_accuracy", 0.5 - at / 40, 320, "source", at) for at in range(10)),
    )
    Store(tmp_path).write(record)
    folder = tmp_path / "runs" / record["run_id"] / "report"
    folder.mkdir(parents=True)
    (folder / "fog-000001.png").write_bytes(png())
    text = report(tmp_path, record["run_id"])
    assert 'class="level"' in text
    assert ">fog-1</text>" in text or "fog-1<title>" in text
    assert "data:image/png;base64," in text
    assert "Predictions" not in text


def test_a_kept_model_is_linked(made_run: Make, tmp_path: Path) -> None:
    record = made_run("usd", 0)
    record["scores"] = scores(Score("HOS", 0.6, 30))
    Store(tmp_path).write(record)
    assert "The adapted model" not in report(tmp_path, record["run_id"])
    folder = tmp_path / "runs" / record["run_id"] / "model"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("outputs: 3")
    assert main(["report", record["run_id"], "--results", str(tmp_path)]) == 0
    page = folder.parent / "report" / "index.html"
    assert '<a href="../model/">' in page.read_text("utf-8")
    deep = tmp_path / "a page"
    assert main(["leaderboard", "--results", str(tmp_path), "--html", str(deep)]) == 0
    assert f'"model":"../runs/{record["run_id"]}/model"' in (deep / "index.html").read_text("utf-8")


def test_segmentation(made_run: Make, tmp_path: Path) -> None:
    record = made_run("tent", 1, protocol="online-seg", epochs=1)
    names = ("sky", "road")
    record["scores"] = scores(
        Score("mIoU", 0.6, 4000), *(Score("class_iou", 0.5, 2000, name) for name in names)
    )
    counts = np.array([[[30, 10], [5, 55]]])
    Store(tmp_path).write(record, {f"segment.{t}": counts for t in ("source", "before", "after")})
    text = report(tmp_path, record["run_id"])
    assert "Confusion of pixels, after the update" in text
    assert "sky called road: 10 (25.0%)" in text


def test_a_failed_run_shows_its_traceback(made_run: Make, tmp_path: Path) -> None:
    record = made_run("usd", 2)
    del record["scores"]
    path = Store(tmp_path).write_failed(record, f"Traceback: {HOSTILE}")
    out = tmp_path / "failed.html"
    assert main(["report", str(path), "--results", str(tmp_path), "--html", str(out)]) == 0
    text = out.read_text("utf-8")
    assert "This run failed" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text


def test_damaged_files_cost_charts_and_not_the_report(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, arrays = open_set(made_run)
    path = Store(tmp_path).write(record, arrays)
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 no archive")
    text = report(tmp_path, record["run_id"])
    assert "are missing or damaged" in text
    assert "Confusion" not in text
    path.write_text(path.read_text().replace('"init"', '"other"'))
    assert main(["report", str(path), "--results", str(tmp_path)]) == 2
    assert "it has no spec.init; delete it and run again" in capsys.readouterr().err


def png() -> bytes:
    """Return a picture of one grey pixel."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    )
