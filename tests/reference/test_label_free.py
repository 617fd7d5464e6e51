"""Scores without labels against versions written out in NumPy, sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from dabench.contract.types import Prediction
from dabench.metrics import label_free

N, K = 37, 4


def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, K) logits and (N,) weights in [0, 1], a few of them 0."""
    rng = np.random.default_rng(seed)
    weight = rng.random(N)
    weight[::9] = 0.0
    return 3 * rng.normal(size=(N, K)), weight


def snd_slowly(p: np.ndarray, weight: np.ndarray, temperature: float = 0.05) -> float:
    total = 0.0
    for i in range(len(p)):
        others = [j for j in range(len(p)) if j != i and weight[j] > 0]
        cosine = [p[i] @ p[j] / math.sqrt((p[i] @ p[i]) * (p[j] @ p[j])) for j in others]
        mass = np.array([weight[j] * math.exp(c / temperature) for j, c in zip(others, cosine)])  # noqa: B905
        total += weight[i] * entropy(mass / mass.sum())
    return total / weight.sum()


@pytest.mark.parametrize("seed", range(3))
def test_against_numpy(seed: int) -> None:
    logits, weight = example(seed)
    p = softmax(logits, axis=1)
    tensors = torch.from_numpy(p), torch.from_numpy(weight)
    sure = np.average([entropy(row) for row in p], weights=weight)
    spread = entropy(np.average(p, axis=0, weights=weight))
    assert label_free.mean_entropy(*tensors) == pytest.approx(sure, abs=1e-12)
    assert label_free.information_maximisation(*tensors) == pytest.approx(spread - sure, abs=1e-12)
    got = label_free.soft_neighbourhood_density(*tensors)
    assert got == pytest.approx(snd_slowly(p, weight), abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_entropy_by_predicted_class_against_numpy(seed: int) -> None:
    logits, weight = example(seed)
    p = softmax(logits, axis=1)
    label = p.argmax(1)
    weight[label == 2] = 0  # a class that nobody counts as is left out
    found = label_free.class_entropy(torch.from_numpy(p), torch.from_numpy(weight))
    each = [
        np.average([entropy(row) for row in p[label == c]], weights=weight[label == c])
        for c in (0, 1, 3)
    ]
    assert found == pytest.approx(np.mean(each), abs=1e-12)
    assert label_free.class_entropy(torch.from_numpy(p), torch.zeros(N).double()) is None


def test_blocks_of_rows_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, weight = example(5)
    tensors = torch.from_numpy(softmax(logits, axis=1)), torch.from_numpy(weight)
    whole = label_free.soft_neighbourhood_density(*tensors)
    monkeypatch.setattr(label_free, "_ROWS", 7)
    assert label_free.soft_neighbourhood_density(*tensors) == pytest.approx(whole, abs=1e-12)


def test_closed_forms() -> None:
    onehot, ones = torch.eye(K, dtype=torch.float64).repeat(5, 1), torch.ones(5 * K).double()
    assert label_free.mean_entropy(onehot, ones) == 0.0
    assert label_free.information_maximisation(onehot, ones) == pytest.approx(math.log(K))
    # four neighbours at similarity 1, fifteen at 0: practically an even choice among four
    density = label_free.soft_neighbourhood_density(onehot, ones)
    assert density == pytest.approx(math.log(4), abs=1e-5)
    collapsed = onehot[:1].repeat(20, 1)
    assert label_free.mean_entropy(collapsed, ones) == 0.0  # entropy alone chooses collapse
    assert label_free.information_maximisation(collapsed, ones) == 0.0


def test_weights_of_zero_leave_samples_out() -> None:
    logits, weight = example(1)
    p, kept = torch.from_numpy(softmax(logits, axis=1)), torch.from_numpy(weight > 0)
    for score in (
        label_free.mean_entropy,
        label_free.information_maximisation,
        label_free.soft_neighbourhood_density,
    ):
        alone = score(p[kept], torch.ones(int(kept.sum())).double())
        assert score(p, kept.double()) == pytest.approx(alone, abs=1e-12)


def answers(logits: np.ndarray, unknown: np.ndarray | None) -> list[Prediction]:
    """Cut answers into two batches."""
    parts = np.array_split(np.arange(len(logits)), 2)
    return [
        Prediction(
            torch.from_numpy(logits[rows]),
            None if unknown is None else torch.from_numpy(unknown[rows]),
        )
        for rows in parts
    ]


def test_scores_of_answers() -> None:
    logits, weight = example(2)
    p = torch.from_numpy(softmax(logits, axis=1))
    found = {s.metric: s for s in label_free.scores(answers(logits, 1 - weight))}
    expected = label_free.information_maximisation(p, torch.from_numpy(weight))
    assert found["im"].value == pytest.approx(expected, abs=1e-12)
    assert set(found) == {"im", "entropy", "entropy-classes", "snd"}
    assert {s.n for s in found.values()} == {N}
    closed = {s.metric: s.value for s in label_free.scores(answers(logits, None))}
    assert closed["entropy"] == pytest.approx(np.mean([entropy(row) for row in p.numpy()]))
    # a score that is no probability is cut to [0, 1]
    wild = label_free.scores(answers(logits, np.where(weight > 0.5, -3.0, 7.0)))
    hard = label_free.scores(answers(logits, np.where(weight > 0.5, 0.0, 1.0)))
    assert wild == hard


def test_a_large_part_is_thinned_out_for_the_density() -> None:
    count = label_free.SND_SAMPLES + 100
    logits = np.random.default_rng(0).normal(size=(count, 3))
    before = torch.random.get_rng_state()
    first, again = (label_free.scores(answers(logits, None)) for _ in range(2))
    assert [s.n for s in first] == [count, count, count, label_free.SND_SAMPLES]
    assert first == again
    assert bool((torch.random.get_rng_state() == before).all())


@pytest.mark.parametrize(
    ("logits", "unknown"),
    [(np.full((6, 3), np.nan), None), (np.zeros((6, 3)), np.ones(6))],
    ids=["a diverged network", "everything unknown"],
)
def test_holes(logits: np.ndarray, unknown: np.ndarray | None) -> None:
    assert [s.value for s in label_free.scores(answers(logits, unknown))] == [None] * 4


def test_one_sample_has_no_neighbours() -> None:
    found = label_free.scores([Prediction(torch.zeros(1, 3))])
    assert [s.value for s in found[:3]] == pytest.approx([0.0, *[math.log(3)] * 2], abs=1e-12)
    assert found[3].value is None
