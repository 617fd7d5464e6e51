"""What is recorded, read back from TensorBoard's files."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dabench.contract.access import Recorder
from dabench.contract.protocol import Outcome
from dabench.contract.types import Separation
from dabench.engine.recording import BoardRecorder, class_histogram, confusion_figure
from dabench.protocols.offline.separations import SeparationRecorder
from dabench.protocols.streams.recorder import StreamRecorder


def board(folder: Path) -> Any:
    """Return a reader of everything in a folder."""
    found = EventAccumulator(str(folder), {"scalars": 0, "histograms": 0, "images": 0})
    return found.Reload()


def test_counts_become_a_histogram_with_a_bucket_a_class(tmp_path: Path) -> None:
    with BoardRecorder(tmp_path) as recorder:
        recorder.put("buffer", 3, torch.tensor([2, 0, 1, 0]))
    (event,) = board(tmp_path).Histograms("buffer")
    assert event.step == 3
    found = event.histogram_value
    assert found.bucket == [2, 0, 1, 0]
    assert found.bucket_limit == [0.5, 1.5, 2.5, 3.5]
    assert (found.min, found.max, found.num) == (-0.5, 3.5, 3)
    assert (found.sum, found.sum_squares) == (2, 4)
    assert class_histogram(torch.zeros(2))["num"] == 0


def test_pictures(tmp_path: Path) -> None:
    with BoardRecorder(tmp_path) as recorder:
        recorder.put("stream/fog", 7, torch.zeros(2, 16, 24, 3, dtype=torch.uint8))
    (event,) = board(tmp_path).Images("stream/fog")
    assert (event.step, event.height % 16, event.width % 24) == (7, 0, 0)


@pytest.mark.parametrize("first", [None, 0, 4])
def test_a_later_run_voids_what_an_earlier_one_wrote(tmp_path: Path, first: int | None) -> None:
    with BoardRecorder(tmp_path) as killed:
        for step in range(6):
            killed.put("loss", step, 1.0)
    # an earlier run's file sorts first; two within one second do so only by a number in the name,
    # where .10 stands before .9
    for file in tmp_path.glob("events.out.tfevents.*"):
        file.rename(file.with_name(file.name.replace("tfevents.", "tfevents.0", 1)))
    with BoardRecorder(tmp_path) as again:
        if first is not None:
            again.start(first)
        for step in range(first or 0, 8):
            again.put("loss", step, 2.0)
    found = board(tmp_path).Scalars("loss")
    assert [event.step for event in found] == list(range(8))
    assert [event.value for event in found] == [1.0] * (first or 0) + [2.0] * (8 - (first or 0))


class Notes(Recorder):
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.kept: list[tuple[str, int, Any]] = []

    def start(self, step: int) -> None:
        self.begun.append(step)

    def put(self, name: str, step: int, value: Any) -> None:
        self.kept.append((name, step, value))


def test_a_method_records_at_the_streams_step() -> None:
    notes = Notes()
    recorder = StreamRecorder(notes)
    recorder.put("fisher", 0, 1.0)  # while a run that goes on is set up
    recorder.begin(12)
    recorder.put("loss", 0, 2.0)
    recorder.start(0)  # no method may void what was recorded
    recorder.step = 20
    recorder.put("loss", 35, 3.0)
    assert notes.begun == [12]
    assert notes.kept == [("loss", 12, 2.0), ("loss", 20, 3.0)]


def test_what_cannot_be_drawn_is_said_and_costs_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with BoardRecorder(tmp_path) as recorder:
        nan = np.array([0.1, np.nan])
        recorder.put("split/known", 1, Separation(nan, nan > 0, *[np.ones(2)] * 3, None))
        recorder.put("loss", 1, 0.5)
        recorder.finish(Outcome([], {}), cast(Any, SimpleNamespace(task=None)))
    assert "no picture of split/known" in caplog.text
    assert "no picture of the last answers" in caplog.text
    assert list(tmp_path.glob("events*"))


def test_separations_are_scored_by_hand() -> None:
    def split(known: list[bool], labels: list[int] | None = None) -> Separation:
        values, two = np.array([0.1, 0.6, 0.4, 0.9]), np.ones(2)
        named = None if labels is None else np.array(labels)
        return Separation(values, np.array(known), two / 2, two, two, named)

    kept = SeparationRecorder(Recorder())
    kept.put("split/known", 3, split([True, True, True, False]))
    kept.put("split/right", 3, split([True, False, True, False], [0, 0, 1, 1]))
    kept.put("noted/clusters", 3, 7.0)
    found = kept.scores(np.array([0, 1, 2, 2]), 2)  # 2 = private
    assert {(score.n, score.at) for score in found} == {(4, 3)}
    assert {score.key: score.value for score in found} == {
        "noted/clusters": 7.0,
        **{"split_auroc/known": 0.75, "split_precision/known": pytest.approx(2 / 3)},
        **{"split_recall/known": 1.0, "split_share/known": 0.75},
        **{"split_auroc/right": 1.0, "split_precision/right": 0.5},
        **{"split_recall/right": 1.0, "split_share/right": 0.5},
        "split_agreement": 0.75,
    }


def test_class_names_in_any_script_and_of_any_length_are_drawn_in_silence(tmp_path: Path) -> None:
    names = ("猫", "x" * 500, "$\\frac{$", "a\x1b[31m", "unknown")
    with warnings.catch_warnings(), BoardRecorder(tmp_path) as recorder:
        warnings.simplefilter("error")
        recorder._draw("confusion", confusion_figure(np.eye(5), names), 0)
    assert [path.stat().st_size > 1000 for path in tmp_path.iterdir()] == [True]
