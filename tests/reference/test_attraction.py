"""Banks, neighbours, attraction and dispersion, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from allocation import Largest
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.attraction import attraction, dispersion
from dabench.methods.functional.neighbours import (
    FeatureBank,
    bank_neighbours,
    bank_probabilities,
    reciprocal_weights,
    within_class,
)


def answers(rows: int, classes: int, seed: int) -> Tensor:
    draw = np.random.default_rng(seed).dirichlet(np.ones(classes), rows)
    return torch.from_numpy(draw).requires_grad_()


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, of, retain_graph=True)
    return found


def test_attraction_by_hand_and_by_loops() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    s = torch.tensor([[[1.0, 0, 0], [0, 0, 1.0]], [[0, 0, 1.0], [0.5, 0.5, 0]]])
    torch.testing.assert_close(attraction(p, s), torch.tensor([-0.5, -0.75]))
    p, s = answers(4, 3, 0), answers(8, 3, 1).detach().view(4, 2, 3)
    w = torch.rand(4, 2, dtype=torch.float64)
    found = attraction(p, s, w)
    by_hand = torch.stack(
        [-sum(w[i, k] * (s[i, k] * p[i]).sum() for k in range(2)) for i in range(4)]
    )  # type: ignore[arg-type, misc]
    torch.testing.assert_close(found, by_hand)
    expected = -(w[:, :, None] * s).sum(1)
    torch.testing.assert_close(gradient(found.sum(), p), expected)


def test_attraction_has_the_gradient_of_what_the_codes_call_a_divergence() -> None:
    """``kl_div(p, s)`` of a probability is a dot product in disguise, and no divergence."""
    p, s = answers(4, 3, 0), answers(4, 3, 1).detach()
    ours = gradient(attraction(p, s[:, None]).sum(), p)
    torch.testing.assert_close(ours, gradient(F.kl_div(p, s, reduction="sum"), p))
    proper = gradient(F.kl_div(p.log(), s, reduction="sum"), p)
    assert float((ours - proper).abs().max()) > 0.1


@pytest.mark.parametrize("batch", [2, 5, 64])
def test_dispersion_is_the_published_sum_of_a_batch_of_64(batch: int) -> None:
    p = answers(batch, 3, 2)
    published = ((p @ p.T) * (1 - torch.eye(batch))).sum(1)
    expected = published * 63 / (batch - 1)
    torch.testing.assert_close(dispersion(p), expected)
    ours, theirs = gradient(dispersion(p).mean(), p), gradient(expected.mean(), p)
    torch.testing.assert_close(ours, theirs)
    if batch == 64:
        torch.testing.assert_close(dispersion(p), published)


def test_dispersion_weighs_the_same_in_batches_of_all_sizes() -> None:
    alike = torch.tensor([[0.7, 0.3]])
    small, large = (dispersion(alike.expand(b, 2)) for b in (16, 64))
    torch.testing.assert_close(small.mean(), large.mean())
    assert dispersion(alike).tolist() == [0.0]


def test_neighbours_in_a_bank_against_sorting() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = F.normalize(torch.randn(40, 6, generator=generator), dim=1)
    z = F.normalize(torch.randn(7, 6, generator=generator), dim=1)
    own = torch.tensor([3, 39, 0, 7, 21, 8, 5])
    cosine = (z @ bank.T).numpy()
    cosine[np.arange(7), own.numpy()] = -9
    expected = np.argsort(-cosine, axis=1)[:, :5]
    for chunk in (2, 1024):
        found = bank_neighbours(z, bank, own, 5, chunk=chunk)
        np.testing.assert_array_equal(found.numpy(), expected)
    assert bank_neighbours(z[:, :], bank[:3], own.clamp_max(2), 9).shape == (7, 2)


def test_an_image_is_not_its_own_neighbour_when_its_row_is_old() -> None:
    bank = FeatureBank(torch.eye(4)[[0, 1, 1, 2]], torch.eye(4))
    moved = torch.tensor([[0.0, 1.0, 0.1, 0.0]])  # image 0 now lies with the others
    assert bank.nearest(torch.tensor([0]), 2, moved).tolist() == [[1, 2]]
    moved = torch.tensor([[1.0, 0.0, 0.5, 0.0]])  # nearest to its own old row
    assert bank.nearest(torch.tensor([0]), 1, moved).tolist() == [[3]]


def test_a_bank_changes_in_the_rows_that_were_seen_and_keeps_no_gradient() -> None:
    p = answers(5, 3, 3)
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    bank = FeatureBank(features, p)
    before = bank.z.clone(), bank.p.clone()
    bank.write(torch.tensor([1, 4]), 3 * features[[0, 2]] + 1, p[[0, 2]] / 2)
    for now, old in zip((bank.z, bank.p), before, strict=True):
        assert not now.requires_grad
        assert (now != old).any(1).tolist() == [False, True, False, False, True]
    torch.testing.assert_close(bank.z.norm(dim=1), torch.ones(5, dtype=torch.float64))
    bank.write(torch.tensor([], dtype=torch.int64), features[:0], p[:0])


def test_tight_pairs_are_reciprocal() -> None:
    z = torch.eye(4).repeat_interleave(2, 0) + 0.01 * torch.arange(8)[:, None]
    bank = FeatureBank(z, torch.ones(8, 2))
    own = torch.arange(8)
    near = bank.nearest(own, 1)
    second = bank.nearest(near.flatten(), 1).view(8, 1, 1)
    assert near.squeeze(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert reciprocal_weights(own, second, 0.1).tolist() == [[1.0]] * 8


def test_reciprocity_by_brute_force() -> None:
    bank = FeatureBank(
        torch.randn(30, 5, generator=torch.Generator().manual_seed(1)), torch.ones(30, 2)
    )
    own = torch.tensor([4, 0, 29])
    near = bank.nearest(own, 4)
    second = bank.nearest(near.flatten(), 3).view(3, 4, 3)
    expected = []
    for i, row in zip(own.tolist(), near.tolist(), strict=True):
        cosine = bank.z @ bank.z.T - 9 * torch.eye(30)
        mutual = [i in cosine[k].argsort(descending=True)[:3].tolist() for k in row]
        expected.append([1.0 if m else 0.25 for m in mutual])
    assert reciprocal_weights(own, second, 0.25).tolist() == expected
    assert len({w for row in expected for w in row}) == 2  # both kinds occur


@pytest.mark.parametrize(
    ("count", "images", "classes", "expected"),
    [(5, 350, 31, 5), (5, 60, 10, 5), (5, 40, 10, 3), (5, 9, 10, 1), (1, 2, 2, 1)],
)
def test_no_more_neighbours_than_a_class_has(
    count: int, images: int, classes: int, expected: int
) -> None:
    assert within_class(count, images, classes) == expected


def test_a_batch_looks_into_a_large_bank_without_a_square_matrix() -> None:
    bank = FeatureBank(torch.randn(20_000, 256), torch.ones(20_000, 10))
    index = torch.arange(64)
    with Largest() as seen:
        near = bank.nearest(index, 3)
        second = bank.nearest(near.flatten(), 3)
    assert second.shape == (192, 3)
    # the square matrix has 400 million
    assert seen.most <= 20_000 * 256


def test_a_whole_bank_looks_into_itself_without_a_square_matrix() -> None:
    z, p = F.normalize(torch.randn(20_000, 16), dim=1), torch.rand(20_000, 10)
    with Largest() as seen:
        found = bank_probabilities(z, z, p, 5)
    assert found.shape == (20_000, 10)
    assert seen.most <= 256 * 20_000
    some = torch.randperm(20_000)[:300]
    near = (z[some] @ z.T).topk(5, dim=1).indices
    torch.testing.assert_close(found[some], p[near].mean(1))
