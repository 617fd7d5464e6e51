"""Bootstrap over samples against scipy's, and against what a block must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dabench.board.statistics.bootstrap import _in_blocks, block_length, bootstrap, mismatch
from dabench.board.statistics.bootstrap_table import with_bootstrap
from dabench.board.tables.leaderboard import table
from dabench.errors import StoreError
from dabench.registry.method_info import MethodInfo
from dabench.store.arrays import read_arrays
from dabench.store.identity import run_digest
from dabench.store.reading import load_record
from dabench.store.rows import version_order
from dabench.store.samples import SamplingUnits, sampling_units
from dabench.store.schema import first_fault
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
ROSTER = MethodInfo(primary=lambda protocol, dataset: "HOS")


def kept(
    store: Path, record: dict[str, Any], right: np.ndarray, truth: np.ndarray, **more: Any
) -> tuple[Path, dict[str, Any]]:
    """Write a run whose answers are wrong where ``right`` is not."""
    arrays = {
        "adapt.row": np.arange(len(truth)),
        "adapt.truth": truth.astype(np.int16),
        "adapt.prediction": np.where(right, truth, (truth + 1) % 3).astype(np.int16),
    }
    path = Store(store).write(record, arrays | more)
    return path, load_record(path)


def closed(made: Make, method: str, seed: int = 0) -> dict[str, Any]:
    return made(method, seed, scores={"accuracy": 0.5})


def test_accuracy_agrees_with_scipys_bootstrap(made_run: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 400)
    ours, theirs = rng.random(400) < 0.8, rng.random(400) < 0.6
    a = sampling_units(*kept(tmp_path, closed(made_run, "usd"), ours, truth), "accuracy")
    b = sampling_units(*kept(tmp_path, closed(made_run, "source"), theirs, truth), "accuracy")
    assert a is not None
    assert b is not None
    found = bootstrap([(a, b)], draws=4000)
    expected = stats.bootstrap(
        (ours.astype(float) - theirs,), np.mean, n_resamples=4000, method="percentile", rng=2
    ).confidence_interval
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert found.low == pytest.approx(expected.low, abs=0.008)
    assert found.high == pytest.approx(expected.high, abs=0.008)
    assert found.label == "fixed models, bootstrap over samples"
    assert bootstrap([(a, b)], draws=4000) == found


def test_a_run_against_itself_has_no_width(made_run: Make, tmp_path: Path) -> None:
    truth = np.arange(60) % 3
    a = sampling_units(*kept(tmp_path, closed(made_run, "usd"), truth > 0, truth), "accuracy")
    assert a is not None
    found = bootstrap([(a, a), (a, a)])
    assert (found.mean, found.low, found.high, found.seeds) == (0, 0, 0, 2)


def test_hos_of_the_counts_is_that_of_the_definition(made_run: Make, tmp_path: Path) -> None:
    truth = np.repeat([0, 1, 2], [10, 30, 20])  # 2 = unknown
    right = np.concatenate([np.arange(10) < 5, np.arange(30) < 30, np.arange(20) < 4])
    record = closed(made_run, "usd")
    classes = [{"metric": "class_accuracy", "value": 0.5, "n": 1, "at": 2}] * 3
    record["scores"] += [
        row | {"segment": name} for row, name in zip(classes, ("0", "1", "unknown"), strict=True)
    ]
    path, record = kept(tmp_path, record, right, truth)
    for metric, expected in {"OS*": 0.75, "UNK": 0.2, "HOS": 2 * 0.75 * 0.2 / 0.95}.items():
        found = sampling_units(path, record, metric)
        assert found is not None
        assert found.measure(found.counts.sum(0)[None])[0] == pytest.approx(expected)
    assert sampling_units(path, record, "AUROC") is None
    assert sampling_units(path, record, "HOS/held-out") is None


def stream(steps: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    truth = np.zeros(len(right), np.int16)
    return {
        "stream.row": np.arange(len(right)),
        "stream.step": steps,
        "stream.truth": truth,
        "stream.prediction": np.where(right, 0, 1).astype(np.int16),
    }


def test_streams_are_drawn_in_blocks(made_run: Make, tmp_path: Path) -> None:
    steps = np.repeat(np.arange(64), 4)
    good = np.repeat(np.arange(64) % 16 < 8, 4)  # errors come in long runs
    record = made_run("tent", 0, scores={"accuracy": 0.5, "accuracy/x": 0.5})
    record["scores"].append(
        {"metric": "accuracy", "value": 0.5, "n": 64, "segment": "final", "at": 64}
    )
    path = Store(tmp_path).write(record, stream(steps, good))
    base = made_run("source", 0)
    other = Store(tmp_path).write(base, stream(steps, np.ones(256, bool)))
    pair = [sampling_units(p, load_record(p), "accuracy") for p in (path, other)]
    assert pair[0] is not None
    assert pair[1] is not None
    assert pair[0].steps is not None
    assert len(pair[0].steps) == 64
    found = bootstrap([(pair[0], pair[1])], draws=2000)
    assert (found.mean, found.drawn) == (-0.5, "blocks of 4 steps")
    assert found.drawn in found.label
    loose = [replace(u, steps=None) for u in pair if u]
    narrow = bootstrap([(loose[0], loose[1])], draws=2000)
    assert found.high - found.low > 1.4 * (narrow.high - narrow.low)
    final = sampling_units(path, load_record(path), "accuracy/final")
    assert final is not None
    assert final.steps is not None
    assert (final.steps.sum(), len(final.steps)) == (2 * 64 - (~good[-64:]).sum(), 16)
    assert final.place.tolist() == list(range(192, 256))


def units(right: np.ndarray, place: np.ndarray, visits: int = 0) -> SamplingUnits:
    """Return images of one class, shown in an order; several visits make a stream, one a step."""
    seen = np.stack([right, np.ones(len(right))], axis=1)[:, :, None]
    counts, steps = seen[np.argsort(place)] * max(1, visits), None
    if visits:
        place, steps = np.tile(place, visits), np.tile(seen, (visits, 1, 1))
    truth = np.zeros(len(place), np.int64)
    return SamplingUnits(np.unique(place), counts, steps, place, truth, share_right)


def share_right(counts: np.ndarray) -> np.ndarray:
    return counts[:, 0, 0] / counts[:, 1, 0]


def width(*pairs: tuple[SamplingUnits, SamplingUnits]) -> float:
    found = bootstrap(pairs, draws=2000)
    return found.high - found.low


def test_other_seeds_and_visits_of_the_same_images_are_no_more_images() -> None:
    """A difference that hangs on the image is as uncertain after 5 orders and 15 visits as once."""
    rng = np.random.default_rng(1)
    good, bad = rng.random(400) < 0.8, rng.random(400) < 0.5
    orders = [rng.permutation(400) for _ in range(5)]

    def pair(order: np.ndarray, visits: int) -> tuple[SamplingUnits, SamplingUnits]:
        ours, theirs = (units(right[order], order, visits) for right in (good, bad))
        assert mismatch(ours, theirs) == ""
        return ours, theirs

    once = width(pair(np.arange(400), 0))
    assert once == pytest.approx(2 * 1.96 * np.std(good * 1.0 - bad) / 20, rel=0.08)
    several = bootstrap([pair(order, 1) for order in orders], draws=2000)
    assert several.drawn == "samples"
    assert several.high - several.low == pytest.approx(once, rel=0.08)
    assert width(pair(orders[0], 15)) == pytest.approx(once, rel=0.08)
    assert width(*(pair(order, 15) for order in orders)) == pytest.approx(once, rel=0.08)


def test_seeds_of_other_images_tell_more() -> None:
    rng = np.random.default_rng(2)
    rows = [rng.random((2, 400)) < 0.6 for _ in range(2)]
    pairs = [
        (units(ours, place), units(theirs, place))
        for place, (ours, theirs) in zip((np.arange(400), np.arange(400, 800)), rows, strict=True)
    ]
    assert width(*pairs) == pytest.approx(width(pairs[0]) / np.sqrt(2), rel=0.1)


def test_frames_that_come_again_are_drawn_with_their_neighbours(
    made_run: Make, tmp_path: Path
) -> None:
    right = np.arange(64) % 16 < 8  # errors come in long runs
    found = []
    for method, good in (("tent", right), ("source", np.ones(64, bool))):
        counts = np.zeros((128, 2, 2), np.uint32)
        counts[:, 0, 0], counts[:, 0, 1] = np.tile(good, 2), np.tile(~good, 2)
        arrays = {"stream.row": np.tile(np.arange(64), 2), "stream.before": counts}
        path = Store(tmp_path).write(made_run(method, 0), arrays)
        units = sampling_units(path, load_record(path), "mIoU")
        assert units is not None
        assert len(units.images) == 64
        found.append(units)
    assert bootstrap([(found[0], found[1])]).drawn == "blocks of 4 frames"


def test_a_block_at_the_end_goes_on_at_the_start() -> None:
    found = np.array([1.0, 10.0, 100.0, 1000.0])[:, None]
    assert _in_blocks(found, 3)[:, 0].tolist() == [111, 1110, 1101, 1011]


def test_block_lengths() -> None:
    assert [block_length(n) for n in (1, 8, 27, 28, 1000)] == [1, 2, 3, 4, 10]


def test_frames_pool_their_pixels(made_run: Make, tmp_path: Path) -> None:
    counts = np.array([[[3, 1], [0, 4]], [[1, 1], [2, 0]]], np.uint32)
    record = made_run("tent", 0)
    record["spec"]["protocol_options"]["timing"] = "after"
    record["run_id"] = run_digest(record["spec"], record["versions"], record["ids"])
    arrays = {"stream.row": np.arange(2), "stream.after": counts, "stream.before": 0 * counts}
    path = Store(tmp_path).write(record, arrays)
    found = sampling_units(path, load_record(path), "mIoU")
    assert found is not None
    assert found.measure(found.counts.sum(0)[None])[0] == pytest.approx((4 / 8 + 4 / 8) / 2)


def test_runs_of_other_samples_are_not_paired(made_run: Make, tmp_path: Path) -> None:
    truth = np.arange(30) % 3
    a = sampling_units(*kept(tmp_path, closed(made_run, "a"), truth > 0, truth), "accuracy")
    b = sampling_units(
        *kept(tmp_path, closed(made_run, "b"), truth[:29] > 0, truth[:29]), "accuracy"
    )
    c = sampling_units(*kept(tmp_path, closed(made_run, "c"), truth > 0, truth[::-1]), "accuracy")
    assert a is not None
    assert b is not None
    assert c is not None
    assert "same samples" in mismatch(a, b)
    assert "true classes" in mismatch(a, c)
    assert mismatch(a, a) == ""


def test_the_table_gets_intervals_where_predictions_are(made_run: Make, tmp_path: Path) -> None:
    truth, rng = np.arange(90) % 3, np.random.default_rng(3)
    info = MethodInfo(primary=lambda protocol, dataset: "accuracy")
    runs = [
        kept(tmp_path, closed(made_run, method, seed), rng.random(90) < share, truth)
        for method, share in (("source", 0.5), ("usd", 0.9))
        for seed in range(2)
    ]
    older = {"versions": {"method": "0", "protocol": "1"}, "scores": {"accuracy": 0.1}}
    for record in (closed(made_run, "bare"), made_run("source", 0, **older)):
        path = Store(tmp_path).write(record)
        runs.append((path, load_record(path)))
    by_id = {record["run_id"]: (path, record) for path, record in runs}
    frame = with_bootstrap(table([r for _, r in runs], info=info), by_id, info)
    lines = frame[frame["metric"] == "accuracy"].drop_duplicates("method", keep="last")
    lines = lines.set_index("method")
    assert 0.2 < lines.loc["usd", "boot_low"] < lines.loc["usd", "boot_high"] < 0.6
    assert lines.loc["usd", "boot_label"] == "fixed models, bootstrap over samples"
    assert lines.loc["source", "boot_label"] == ""
    assert lines.loc["bare", "boot_label"].startswith("no predictions")
    assert set(frame[frame["metric"] == "HOS"]["boot_label"]) == {""}


def test_predictions_that_are_missing_are_named_in_the_table(
    made_run: Make, tmp_path: Path
) -> None:
    truth = np.arange(30) % 3
    info = MethodInfo(primary=lambda protocol, dataset: "accuracy")
    runs = [kept(tmp_path, closed(made_run, m), truth > 0, truth) for m in ("source", "a", "usd")]
    runs[1][0].with_suffix(".npz").unlink()
    by_id = {record["run_id"]: (path, record) for path, record in runs}
    frame = with_bootstrap(table([r for _, r in runs], info=info), by_id, info)
    said = frame[frame["metric"] == "accuracy"].set_index("method")["boot_label"]
    assert ".npz" in said["a"]
    assert said["usd"].startswith("fixed models")


def test_a_refused_reference_gives_no_interval(made_run: Make, tmp_path: Path) -> None:
    truth = np.arange(30) % 3
    info = MethodInfo(primary=lambda protocol, dataset: "accuracy")
    runs = [
        kept(tmp_path, made_run(m, 0, scores={"accuracy": 0.5}, threads=n), truth > 0, truth)
        for m, n in (("source", 1), ("source", 2), ("usd", 1))  # a seed of the source stands twice
    ]
    by_id = {record["run_id"]: (path, record) for path, record in runs}
    frame = with_bootstrap(table([r for _, r in runs], info=info), by_id, info)
    assert set(frame["boot_label"]) == {""}


def test_damaged_predictions_are_named(made_run: Make, tmp_path: Path) -> None:
    truth = np.arange(30) % 3
    path, record = kept(tmp_path, closed(made_run, "usd"), truth > 0, truth)
    file = path.with_suffix(".npz")
    whole = file.read_bytes()
    damages = [b"", b"PK half a file", whole[: len(whole) // 2]]
    for place in range(0, len(whole), 7):  # a flipped bit, where it may matter
        flipped = bytearray(whole)
        flipped[place] ^= 4
        damages.append(bytes(flipped))
    said = []
    for content in damages:
        file.write_bytes(content)
        try:
            read_arrays(file)
        except StoreError as error:
            said.append(str(error))
    assert len(said) > len(damages) // 2
    assert all(text.startswith(f"{file}: predictions cannot be read (") for text in said)
    file.write_bytes(damages[2])
    with pytest.raises(StoreError, match=rf"{path.stem}\.npz: its checksum is not"):
        sampling_units(path, record, "accuracy")


N = 30
SPOILT: dict[str, dict[str, np.ndarray]] = {
    "short": {"adapt.prediction": np.zeros(N - 1, np.int16)},
    "empty": {"adapt.truth": np.zeros(0, np.int16)},
    "float": {"adapt.truth": np.zeros(N)},
    "nan": {"adapt.truth": np.full(N, np.nan)},
    "below 0": {"adapt.truth": np.full(N, -1)},
    "large": {"adapt.truth": np.full(N, 2**40)},
    "scalar": {"adapt.truth": np.array(1)},
}


@pytest.mark.parametrize("fault", SPOILT)
def test_arrays_that_no_run_writes_are_refused_by_their_file(
    fault: str, made_run: Make, tmp_path: Path
) -> None:
    truth = np.arange(N) % 3
    path, record = kept(tmp_path, closed(made_run, "usd"), truth == 0, truth, **SPOILT[fault])
    with pytest.raises(StoreError, match=rf"{record['run_id']}.*npz.*run again"):
        sampling_units(path, record, "accuracy")


def test_an_array_that_is_missing_and_a_file_that_was_changed_are_refused(
    made_run: Make, tmp_path: Path
) -> None:
    truth = np.arange(N) % 3
    path, record = kept(tmp_path, closed(made_run, "usd"), truth == 0, truth)
    file = path.with_name(record["predictions"])
    arrays = {k: a for k, a in read_arrays(file).items() if k != "adapt.row"}
    np.savez(file, **arrays)
    with pytest.raises(StoreError, match="checksum is not that in its record"):
        sampling_units(path, record, "accuracy")
    del record["predictions_checksum"]
    with pytest.raises(StoreError, match=r"npz.*adapt\.row"):
        sampling_units(path, record, "accuracy")


def test_versions_that_are_no_numbers_are_the_oldest() -> None:
    assert version_order("\u00b2/2/" + "9" * 5000) == (-1, 2, -1)


def test_plugins_without_a_name_are_a_fault(made_run: Make) -> None:
    record = closed(made_run, "usd")
    assert not first_fault(record)
    assert "plugins" in first_fault(record | {"plugins": [{"a": "b"}]})


def test_a_score_stands_in_a_record_once(made_run: Make) -> None:
    record = closed(made_run, "usd")
    twice = record | {"scores": [*record["scores"], record["scores"][0]]}
    assert "two scores of HOS/all" in first_fault(twice)
