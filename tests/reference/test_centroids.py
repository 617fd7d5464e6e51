"""SHOT's centroid labels against an independent NumPy version."""

from __future__ import annotations

import numpy as np
import torch

from dabench.methods.functional.centroids import centroid_labels, running_labels


def reference(features: np.ndarray, p: np.ndarray, use: np.ndarray) -> np.ndarray:
    z = np.hstack([features, np.ones((len(features), 1))])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels, weight = p.argmax(1), p.copy()
    for _ in range(2):
        present = sorted(set(labels[use]))
        centroids = {}
        for k in present:
            c = sum(weight[i, k] * z[i] for i in np.flatnonzero(use))
            centroids[k] = c / (np.linalg.norm(c) + 1e-12)
        labels = np.array([max(present, key=lambda k: row @ centroids[k]) for row in z])
        weight = np.eye(p.shape[1])[labels]
    return labels


def test_centroid_labels_match_reference() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6)) * 2
    truth = rng.integers(0, 4, 80)
    features = centres[truth] + rng.normal(size=(80, 6))
    scores = -((features[:, None] - centres[None]) ** 2).sum(-1) / 8 + rng.normal(size=(80, 4))
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    for use in (np.ones(80, dtype=bool), rng.random(80) < 0.6):
        ours = centroid_labels(torch.tensor(features), torch.tensor(p), torch.tensor(use))
        np.testing.assert_array_equal(ours.numpy(), reference(features, p, use))


def test_absent_class_is_no_candidate_and_empty_rows_fall_back_to_argmax() -> None:
    p = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.3, 0.1]])
    features = torch.eye(3)
    assert int(centroid_labels(features, p).max()) < 2
    nobody = torch.zeros(3, dtype=torch.bool)
    assert centroid_labels(features, p, nobody).tolist() == p.argmax(1).tolist()


def test_a_class_that_lost_its_images_attracts_nobody() -> None:
    features = torch.tensor([[-1.0], [8.0], [-1.0], [-4.0], [-4.0]])
    logits = [[-0.8, -3.7, 0.2], [0.5, 0.6, -0.3], [-0.6, -0.2, 2.5], [0.9, -2.3, -0.8]]
    p = torch.tensor([*logits, [-0.5, 1.9, -1.0]]).softmax(1)
    assert centroid_labels(features, p).tolist() == [2, 2, 2, 1, 1]
    nothing = torch.zeros(3, 2), torch.zeros(3)
    labels, _, mass = running_labels(features, p, *nothing, memory=0.5)
    assert labels.tolist() == [2, 2, 2, 1, 1]
    assert mass.tolist() == [0, 2, 3]
