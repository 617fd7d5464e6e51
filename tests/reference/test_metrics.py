"""Every metric against an independently written version on random data, and closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from dabench.errors import ConfigError
from dabench.metrics.classification import ClosedSetAccuracy, ExpectedCalibrationError
from dabench.metrics.discovery import h3_score, private_nmi
from dabench.metrics.open_set import OpenSetAccuracy, UnknownScoreMetrics
from dabench.metrics.predictions import Predictions
from dabench.metrics.scoring import Scorer

torch.set_num_threads(1)
SEEDS = range(6)


def as_int(values):
    return torch.as_tensor(values, dtype=torch.int64)


def run(metric, *columns, batches=1):
    """Update with consecutive pieces and compute."""
    for pieces in zip(*(column.tensor_split(batches) for column in columns), strict=True):
        metric.update(*pieces)
    return metric.compute()


def ece(p, truth, bins=15, batches=1):
    top = p.max(1)
    metric = ExpectedCalibrationError(bins)
    return run(metric, top.values, top.indices == truth, batches=batches)


def open_set(predicted, truth, known):
    return run(OpenSetAccuracy(known), as_int(predicted), as_int(truth))


def reference_open_set(predicted, truth, known):
    per_class = [
        float(np.mean(predicted[truth == c] == c)) if np.any(truth == c) else None
        for c in range(known + 1)
    ]
    shown = [a for a in per_class[:-1] if a is not None]
    star = sum(shown) / len(shown)
    unk = per_class[-1]
    hos = 0.0 if star + unk == 0 else 2 / (1 / star + 1 / unk) if star * unk else 0.0
    return {
        "OS*": star,
        "UNK": unk,
        "HOS": hos,
        "OS": (len(shown) * star + unk) / (len(shown) + 1),
    }, per_class


@pytest.mark.parametrize("seed", SEEDS)
def test_open_set_against_numpy(seed):
    rng = np.random.default_rng(seed)
    known = int(rng.integers(1, 9))
    truth = rng.integers(0, known + 1, 400)
    predicted = np.where(rng.random(400) < 0.6, truth, rng.integers(0, known + 1, 400))
    expected, per_class = reference_open_set(predicted, truth, known)
    got = open_set(predicted, truth, known)
    assert got["class_accuracy"] == pytest.approx(per_class, abs=1e-12)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12)


def test_open_set_perfect():
    got = open_set([0, 1, 2, 2], [0, 1, 2, 2], known=2)
    assert [got[name] for name in ("OS*", "UNK", "HOS", "OS")] == [1.0] * 4


def test_open_set_everything_called_unknown():
    got = open_set([2] * 4, [0, 1, 2, 2], known=2)
    assert (got["OS*"], got["UNK"], got["HOS"], got["OS"]) == (0.0, 1.0, 0.0, pytest.approx(1 / 3))


def test_open_set_everything_wrong_is_zero_not_a_hole():
    got = open_set([1, 0, 0], [0, 1, 2], known=2)
    assert (got["OS*"], got["UNK"], got["HOS"], got["OS"]) == (0.0, 0.0, 0.0, 0.0)


def test_open_set_worked_example():
    # class 0: 1 of 2, class 1: 1 of 1, private: 1 of 4
    got = open_set([0, 2, 1, 2, 0, 0, 1], [0, 0, 1, 2, 2, 2, 2], known=2)
    assert got["OS*"] == 0.75
    assert got["UNK"] == 0.25
    assert got["HOS"] == pytest.approx(0.375)
    assert got["OS"] == pytest.approx(1.75 / 3)
    assert got["class_accuracy"] == [0.5, 1.0, 0.25]


def test_open_set_no_private_samples_are_holes():
    got = open_set([0, 2, 1], [0, 0, 1], known=2)
    assert got["OS*"] == 0.75
    assert (got["UNK"], got["HOS"], got["OS"]) == (None, None, None)
    assert got["class_accuracy"] == [0.5, 1.0, None]


def test_open_set_no_known_samples_are_holes():
    got = open_set([2, 0], [2, 2], known=2)
    assert got["UNK"] == 0.5
    assert (got["OS*"], got["HOS"], got["OS"]) == (None, None, None)


def test_open_set_absent_known_class_is_left_out_of_the_mean():
    got = open_set([0, 3, 1], [0, 0, 3], known=3)  # classes 1 and 2 have no samples
    assert (got["OS*"], got["OS"]) == (0.5, 0.25)  # OS: of class 0 and the private one
    assert got["class_accuracy"] == [0.5, None, None, 0.0]


def test_os_star_is_a_mean_over_classes_not_over_samples():
    predicted, truth = [0] * 99 + [2] + [2], [0] * 99 + [1] + [2]
    assert open_set(predicted, truth, known=2)["OS*"] == 0.5


def test_mean_of_hos_is_not_hos_of_means():
    one = open_set([0, 0, 0, 1], [0, 0, 1, 1], known=1)  # OS* 1, UNK 1/2
    two = open_set([0, 1, 1, 1], [0, 0, 1, 1], known=1)  # OS* 1/2, UNK 1
    mean = (one["HOS"] + two["HOS"]) / 2
    star, unk = (one["OS*"] + two["OS*"]) / 2, (one["UNK"] + two["UNK"]) / 2
    assert mean == pytest.approx(2 / 3)
    assert 2 * star * unk / (star + unk) == pytest.approx(3 / 4)


@pytest.mark.parametrize("seed", SEEDS)
def test_closed_set_against_torchmetrics(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 5, (300,), generator=generator)
    guess = torch.randint(0, 5, (300,), generator=generator)
    predicted = torch.where(torch.rand(300, generator=generator) < 0.5, truth, guess)
    got = run(ClosedSetAccuracy(5), predicted, truth, batches=7)
    for name, average in (("accuracy", "micro"), ("mean_class_accuracy", "macro")):
        expected = MulticlassAccuracy(5, average=average)(predicted, truth)
        assert got[name] == pytest.approx(float(expected), abs=1e-6)
    expected = MulticlassAccuracy(5, average="none")(predicted, truth).tolist()
    assert got["class_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_closed_set_holes():
    got = run(ClosedSetAccuracy(3), as_int([0, 1]), as_int([0, 0]))
    assert got == {
        "accuracy": 0.5,
        "mean_class_accuracy": 0.5,
        "class_accuracy": [0.5, None, None],
    }
    empty = run(ClosedSetAccuracy(2), as_int([]), as_int([]))
    assert empty == {"accuracy": None, "mean_class_accuracy": None, "class_accuracy": [None] * 2}


def test_confusion_holds_counts():
    metric = ClosedSetAccuracy(2)
    metric.update(as_int([0, 1, 1]), as_int([0, 0, 1]))
    assert metric.confusion.tolist() == [[1, 1], [0, 1]]


def scores(seed, *, ties, size=300):
    rng = np.random.default_rng(seed)
    private = rng.random(size) < 0.4
    score = rng.normal(size=size) + private
    if ties:
        score = np.round(score * 2) / 2
    right = (rng.random(size) < 0.7) & ~private
    return score, private, right


def unknown(score, private, right, batches=1):
    columns = (torch.as_tensor(np.asarray(c)) for c in (score, private, right))
    return run(UnknownScoreMetrics(), *columns, batches=batches)


def reference_fpr95(score, private):
    known = score[~private]
    accepted = [t for t in np.unique(score) if np.sum(known <= t) * 20 >= len(known) * 19]
    return float(np.mean(score[private] <= min(accepted)))


def reference_oscr(score, private, right):
    points = [(0.0, 0.0)]
    for t in [*np.unique(score)[1:], math.inf]:  # "score below t" from nobody to everybody
        ccr = np.sum(right & (score < t)) / np.sum(~private)
        points.append((np.mean(score[private] < t), ccr))
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_unknown_scores_against_references(seed, ties):
    score, private, right = scores(seed, ties=ties)
    got = unknown(score, private, right)
    pairs = np.sign(score[private][:, None] - score[~private][None])
    assert got["AUROC"] == pytest.approx(np.mean((pairs + 1) / 2), abs=1e-12)
    assert got["AUROC"] == pytest.approx(roc_auc_score(private, score), abs=1e-12)
    assert got["FPR95"] == pytest.approx(reference_fpr95(score, private), abs=1e-12)
    assert got["OSCR"] == pytest.approx(reference_oscr(score, private, right), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_unknown_scores_do_not_depend_on_order(ties):
    score, private, right = scores(0, ties=ties)
    order = np.random.default_rng(1).permutation(len(score))
    assert unknown(score, private, right) == unknown(score[order], private[order], right[order])


def test_unknown_scores_perfect_reversed_constant():
    private = np.array([False] * 20 + [True] * 10)
    ramp = np.arange(30.0)
    assert unknown(ramp, private, ~private) == {"AUROC": 1.0, "FPR95": 0.0, "OSCR": 1.0}
    assert unknown(-ramp, private, ~private) == {"AUROC": 0.0, "FPR95": 1.0, "OSCR": 0.0}
    assert unknown(ramp * 0, private, ~private) == {"AUROC": 0.5, "FPR95": 1.0, "OSCR": 0.5}


def test_fpr95_accepts_exactly_95_percent():
    # 20 known scores 0..19: 95 % are accepted at 18, so a private 18.5 is refused, 18 accepted
    known = np.arange(20.0)
    private = np.array([False] * 20 + [True] * 2)
    right = ~private
    assert unknown(np.append(known, [18.5, 18.0]), private, right)["FPR95"] == 0.5


def test_oscr_is_auroc_when_all_known_are_right_and_at_most_their_accuracy():
    score, private, right = scores(3, ties=True)
    got = unknown(score, private, ~private)
    assert got["OSCR"] == got["AUROC"]
    assert unknown(score, private, right)["OSCR"] <= np.mean(right[~private])


@pytest.mark.parametrize("value", [True, False])
def test_unknown_scores_one_sided_are_holes(value):
    private = np.full(5, value)
    got = unknown(np.arange(5.0), private, np.zeros(5, dtype=bool))
    assert got == {"AUROC": None, "FPR95": None, "OSCR": None}


def test_infinite_unknown_scores_are_ordered():
    private = np.array([False, False, True, True])
    got = unknown(np.array([-np.inf, 0, 1, np.inf]), private, ~private)
    assert got["AUROC"] == 1.0


def test_the_confidence_is_a_second_unknown_score_of_every_row():
    truth, known = np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1])
    confidence, own = np.array([0.9, 0.6, 0.7, 0.4]), np.array([0.1, 0.2, 0.3, 0.9])
    scorer = Scorer(truth, ("a", "b"), open_set=True, segment="held-out")
    for score, expected in ((own, (1.0, 0.5)), (None, (0.75, 0.5))):
        found = {s.metric: s for s in scorer(Predictions(known, confidence, score, None), 3)}
        assert (found["AUROC"].value, found["OSCR"].value) == expected
        assert found["AUROC-maxprob"].value == 0.75
        assert {(s.n, s.segment, s.at) for s in found.values()} == {(4, "held-out", 3)}


def probabilities(seed, size=500, classes=4, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = torch.as_tensor(rng.normal(size=(size, classes)) * scale)
    truth = as_int(
        np.where(rng.random(size) < 0.5, logits.argmax(1), rng.integers(0, classes, size))
    )
    return logits.softmax(1), truth


def reference_ece(p, truth, bins):
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == truth
    total = 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            gap = abs(np.mean(correct[inside]) - np.mean(confidence[inside]))
            total += inside.sum() / len(truth) * gap
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("seed", SEEDS)
def test_ece_against_numpy_and_torchmetrics(seed, bins):
    p, truth = probabilities(seed)
    got = ece(p, truth, bins, batches=4)["ECE"]
    assert got == pytest.approx(reference_ece(p.numpy(), truth.numpy(), bins), abs=1e-9)
    assert got == pytest.approx(float(MulticlassCalibrationError(4, bins)(p, truth)), abs=1e-6)


def test_ece_closed_forms():
    sure = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    assert ece(sure, as_int([0] * 4)) == {"ECE": 0.0}
    assert ece(sure, as_int([1] * 4)) == {"ECE": 1.0}
    assert ece(sure, as_int([0, 0, 0, 1]))["ECE"] == 0.25
    assert ece(sure[:0], as_int([])) == {"ECE": None}


def test_ece_bins_are_closed_on_the_right():
    # .5 ends the bin (1/4, 1/2]; with the left edge shut it would share a bin with .6
    p = torch.tensor([[0.5, 0.5], [0.6, 0.4]], dtype=torch.float64)
    got = ece(p, as_int([0, 1]), 4)["ECE"]
    assert got == pytest.approx((0.5 + 0.6) / 2)


@pytest.mark.parametrize("batches", [2, 5, 50])
def test_batched_update_equals_one(batches):
    rng = np.random.default_rng(0)
    truth, predicted = as_int(rng.integers(0, 4, 200)), as_int(rng.integers(0, 4, 200))
    for make in (lambda: ClosedSetAccuracy(4), lambda: OpenSetAccuracy(3)):
        assert run(make(), predicted, truth) == run(make(), predicted, truth, batches=batches)
    columns = scores(5, ties=True)
    assert unknown(*columns) == unknown(*columns, batches=batches)
    p, labels = probabilities(2)
    one = ece(p, labels)["ECE"]
    many = ece(p, labels, batches=batches)["ECE"]
    assert many == pytest.approx(one, abs=1e-12)


def test_reset_forgets():
    metric = OpenSetAccuracy(1)
    metric.update(as_int([1, 1]), as_int([0, 1]))
    metric.reset()
    metric.update(as_int([0, 1]), as_int([0, 1]))
    assert metric.compute()["HOS"] == 1.0
    listed = UnknownScoreMetrics()
    mask = torch.tensor([True, False])
    listed.update(torch.tensor([0.0, 1.0]), mask, ~mask)
    listed.reset()
    listed.update(torch.tensor([1.0, 0.0]), mask, ~mask)
    assert listed.compute()["AUROC"] == 1.0


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        (as_int([0, 1]), as_int([0])),
        (as_int([3]), as_int([0])),
        (as_int([-1]), as_int([0])),
        (as_int([0]), as_int([3])),
        (torch.tensor([0.0]), as_int([0])),
        (as_int([[0]]), as_int([[0]])),
    ],
)
def test_wrong_classes_are_refused(predicted, truth):
    for metric in (ClosedSetAccuracy(3), OpenSetAccuracy(2)):
        with pytest.raises(ConfigError):
            metric.update(predicted, truth)


@pytest.mark.parametrize(
    ("score", "private", "right"),
    [
        (torch.zeros(2), torch.tensor([True]), torch.tensor([False])),
        (torch.tensor([math.nan]), torch.tensor([True]), torch.tensor([False])),
        (torch.zeros(1), torch.tensor([True]), torch.tensor([True])),
        (torch.zeros(1), torch.tensor([1]), torch.tensor([False])),
    ],
)
def test_wrong_unknown_scores_are_refused(score, private, right):
    with pytest.raises(ConfigError):
        UnknownScoreMetrics().update(score, private, right)


@pytest.mark.parametrize(
    ("confidence", "correct"),
    [
        (torch.tensor([2.0]), torch.tensor([True])),
        (torch.tensor([-1.0]), torch.tensor([True])),
        (torch.tensor([math.nan]), torch.tensor([True])),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([True])),
        (torch.tensor([0.5]), torch.tensor([True, False])),
    ],
)
def test_wrong_confidences_are_refused(confidence, correct):
    with pytest.raises(ConfigError):
        ExpectedCalibrationError().update(confidence, correct)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OpenSetAccuracy(0),
        lambda: ClosedSetAccuracy(0),
        lambda: ExpectedCalibrationError(0),
    ],
)
def test_wrong_sizes_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def by_hand_nmi(one, two):
    """Mutual information over the mean entropy, from the joint counts."""
    joint = np.zeros((max(one) + 1, max(two) + 1))
    for a, b in zip(one, two, strict=True):
        joint[a, b] += 1 / len(one)
    rows, columns = joint.sum(1), joint.sum(0)

    def entropy(p):
        return -sum(x * math.log(x) for x in p if x > 0)

    shared = sum(
        joint[a, b] * math.log(joint[a, b] / (rows[a] * columns[b]))
        for a, b in zip(*np.nonzero(joint), strict=True)
    )
    return shared / ((entropy(rows) + entropy(columns)) / 2)


def test_nmi_of_private_classes():
    # two tight directions; lengths do not count, and one image lies with the other class
    features = np.array([[1, 0.01], [9, 0.2], [2, 0], [0, 1], [0.1, 7], [0, 3]])
    classes = np.array([4, 4, 4, 8, 8, 4])
    found = private_nmi(features, classes, 0)
    assert found == pytest.approx(by_hand_nmi([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]))
    assert private_nmi(features, np.array([4, 4, 4, 8, 8, 8]), 0) == pytest.approx(1)
    assert private_nmi(features, np.full(6, 4), 0) is None


def test_h3_is_a_harmonic_mean():
    assert h3_score(0.5, 0.25, 1.0) == pytest.approx(3 / 7)
    assert h3_score(0.5, 0.0, 1.0) == 0
    assert h3_score(0.5, None, 1.0) is None
