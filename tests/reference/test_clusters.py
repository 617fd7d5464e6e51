"""Clusters and neighbours of features, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from allocation import Largest
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.clusters import (
    cluster_posterior,
    match_clusters,
    spherical_kmeans,
)
from dabench.methods.functional.neighbours import nearest_neighbours, neighbourhood_mean


def blobs(groups: int, each: int, seed: int = 0, spread: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return unit vectors about ``groups`` orthogonal directions, shuffled, and their groups."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(groups).repeat_interleave(each)
    z = torch.eye(groups, 16)[labels]
    z = z + spread * torch.randn(z.shape, generator=generator)
    order = torch.randperm(len(z), generator=generator)
    return F.normalize(z, dim=1)[order], labels[order]


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_separate_groups(seed: int) -> None:
    z, truth = blobs(5, 20, seed)
    centres, labels = spherical_kmeans(z, 5, seed=seed)
    assert len({(int(a), int(b)) for a, b in zip(labels, truth, strict=True)}) == 5
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(5))
    assert torch.equal(labels, (z @ centres.T).argmax(1))
    for c in range(5):
        mean = F.normalize(z[labels == c].mean(0), dim=0)
        torch.testing.assert_close(centres[c], mean)


def test_kmeans_is_the_same_for_the_same_seed_and_survives_equal_rows() -> None:
    z, _ = blobs(4, 10)
    assert torch.equal(spherical_kmeans(z, 6, seed=3)[1], spherical_kmeans(z, 6, seed=3)[1])
    state = torch.get_rng_state()
    same = torch.ones(7, 3) / 3**0.5
    centres, labels = spherical_kmeans(same, 4, seed=0)
    assert bool(centres.isfinite().all())
    assert labels.unique().numel() == 1
    assert spherical_kmeans(z, len(z), seed=0)[1].unique().numel() == len(z)
    assert torch.equal(torch.get_rng_state(), state)


def test_matching_is_the_best_of_all_assignments() -> None:
    p = torch.from_numpy(np.random.default_rng(0).random((6, 4)))
    found = match_clusters(p)
    total = float(p[found, torch.arange(4)].sum())
    every = itertools.permutations(range(6), 4)
    assert total == pytest.approx(max(sum(float(p[c, k]) for k, c in enumerate(e)) for e in every))
    assert found.unique().numel() == 4


def test_of_two_clusters_that_look_like_one_class_only_one_is_it() -> None:
    z, groups = blobs(4, 25, spread=0.1)  # three classes, and a private group like class 0
    p = torch.full((100, 3), 0.05)
    p[torch.arange(100), torch.where(groups == 3, 0, groups)] = torch.where(groups == 3, 0.6, 0.9)
    p = p / p.sum(1, keepdim=True)
    q = cluster_posterior(z, p, [4], seed=0)
    torch.testing.assert_close(q.sum(1), torch.ones(100))
    assert torch.equal(q.argmax(1), groups)
    assert bool((p[groups == 3].argmax(1) == 0).all())
    several = cluster_posterior(z, p, [4, 5, 8], seed=0)
    each = [cluster_posterior(z, p, [count], seed=0) for count in (4, 5, 8)]
    torch.testing.assert_close(several, torch.stack(each).mean(0))


def test_numbers_of_clusters_are_brought_into_range() -> None:
    z, groups = blobs(3, 4)
    p = F.one_hot(groups, 3).float()
    torch.testing.assert_close(
        cluster_posterior(z, p, [1, 900], seed=0), cluster_posterior(z, p, [4, 12], seed=0)
    )


def test_neighbours_against_sorting() -> None:
    z = F.normalize(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    similarity = (z @ z.T).numpy()
    np.fill_diagonal(similarity, -9)
    expected = np.argsort(-similarity, axis=1)[:, :7]
    for chunk in (1, 16, 1024):
        np.testing.assert_array_equal(nearest_neighbours(z, 7, chunk=chunk).numpy(), expected)
    assert nearest_neighbours(z[:3], 7).shape == (3, 2)
    p = torch.rand(50, 4)
    mean = neighbourhood_mean(p, torch.from_numpy(expected))
    byhand = torch.stack([torch.stack([p[i], *p[list(expected[i])]]).mean(0) for i in range(50)])
    torch.testing.assert_close(mean, byhand)


@pytest.mark.slow
def test_large_sets_need_no_square_matrix() -> None:
    z = F.normalize(torch.randn(20_000, 256), dim=1)
    with Largest() as seen:
        nearest_neighbours(z, 15)
    assert seen.most <= 1024 * 20_000  # the square matrix has 400 million
    with Largest() as seen:
        spherical_kmeans(z, 130, seed=0, restarts=1, rounds=3)
    assert seen.most <= 130 * 20_000
