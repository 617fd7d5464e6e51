"""Prototypes, the null space of a head, joint scores and sure images, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional import feature_spaces as spaces
from dabench.methods.functional import joint_score as joint
from dabench.methods.functional import prototypes
from dabench.methods.functional import semi_supervised as semi


def blobs(groups: int, each: int, spread: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return unit vectors about ``groups`` orthogonal directions, and their groups."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(groups).repeat_interleave(each)
    z = torch.eye(groups, 12)[labels] + spread * torch.randn(len(labels), 12, generator=generator)
    return F.normalize(z, dim=1), labels


def answers(rows: int, classes: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), rows))


def test_the_number_of_clusters_has_the_best_silhouette() -> None:
    z, _ = blobs(5, 12, 0.25)
    counts, scores = (2, 3, 5, 8), {}
    x = PCA(6).fit_transform(z.double().numpy())
    for count in counts:
        labels = KMeans(count, n_init=10, random_state=0).fit_predict(x)
        scores[count] = silhouette_score(x, labels)
    found = prototypes.count_clusters(z, counts, seed=1, dims=6)
    assert found == max(scores, key=scores.__getitem__) == 5
    assert prototypes.count_clusters(z, counts, seed=1, most=30) == 5
    assert prototypes.count_clusters(z, (0, 1, 60, 90), seed=0) is None  # none can be tried
    assert prototypes.count_clusters(torch.ones(20, 4), counts, seed=0) is None  # all equal


def test_likeliest_rows_and_their_means() -> None:
    p, z = answers(20, 3, 0), F.normalize(torch.randn(20, 4).double(), dim=1)
    rows = prototypes.likeliest_rows(p, 5)
    expected = np.argsort(-p.numpy(), axis=0)[:5].T
    np.testing.assert_array_equal(rows.numpy(), expected)
    means = z.numpy()[expected].mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(prototypes.class_prototypes(z, rows).numpy(), means, rtol=1e-9)
    assert prototypes.likeliest_rows(p[:2], 3).shape == (3, 1)
    never = torch.cat((p, torch.zeros(20, 1)), 1)  # a class without images
    assert prototypes.likeliest_rows(never, 5).shape == (4, 5)


def test_one_against_all_by_brute_force() -> None:
    """With as many centres as images, a class is set against every image that is not its own."""
    z, _ = blobs(3, 6, 0.5)
    p = answers(18, 3, 1).float()
    rows = prototypes.likeliest_rows(p, 4)
    found, known, _ = prototypes.one_vs_all_targets(z, p, rows, 99, rho=0.6, seed=0)
    means = prototypes.class_prototypes(z, rows)
    for i in range(18):
        cosines = [float(z[i] @ mean) for mean in means]
        best = int(np.argmax(cosines))
        weight = 0.6 + 0.4 * float(p[rows[best], best].mean())
        others = [float(z[i] @ z[j]) for j in range(18) if j not in rows[best].tolist()]
        accepted = weight * cosines[best] >= max(others) - 1e-6
        assert bool(known[i]) == accepted
        expected = np.eye(3)[best] if accepted else np.full(3, 1 / 3)
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-6)


def test_a_private_group_is_none_of_the_classes() -> None:
    z, groups = blobs(4, 15)
    p = torch.full((60, 3), 0.05)
    p[torch.arange(60), groups.clamp_max(2)] = torch.where(groups == 3, 0.4, 0.9)
    p = p / p.sum(1, keepdim=True)
    rows = prototypes.likeliest_rows(p, 15)
    found, known, _ = prototypes.one_vs_all_targets(z, p, rows, 4, rho=0.75, seed=0)
    assert torch.equal(known, groups < 3)
    assert torch.equal(found[known].argmax(1), groups[known])
    torch.testing.assert_close(found[~known], torch.full((15, 3), 1 / 3))


def test_clusters_go_on_from_those_before() -> None:
    z, _ = blobs(5, 10)
    p, rows = answers(50, 3, 0).float(), torch.arange(6).view(3, 2)
    one = prototypes.one_vs_all_targets(z, p, rows, 4, rho=0.75, seed=0)
    two = prototypes.one_vs_all_targets(z, p, rows, 4, rho=0.75, seed=99, before=one[2])
    for before, after in zip(one[2], two[2], strict=True):
        torch.testing.assert_close(before, after)  # they had settled
    other = prototypes.one_vs_all_targets(z, p, rows, 4, rho=0.75, seed=99)
    assert not all(torch.allclose(a, b) for a, b in zip(one[2], other[2], strict=True))


def test_equal_features_belong_to_no_class() -> None:
    z, p = torch.ones(8, 4) / 2, answers(8, 2, 0).float()
    rows = prototypes.likeliest_rows(p, 3)
    found, known, _ = prototypes.one_vs_all_targets(z, p, rows, 2, rho=0.75, seed=0)
    assert not known.any()
    assert found.tolist() == [[0.5, 0.5]] * 8


def test_hard_negatives_by_loops() -> None:
    raw = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    z, stored = F.normalize(raw, dim=1), F.normalize(torch.randn(9, 2, 5).double(), dim=2)
    for clusters in (3, 20):
        found = prototypes.hard_negative_similarity(z, stored, clusters)
        skipped = int(np.ceil(9 / clusters))
        total: Tensor = torch.zeros((), dtype=torch.float64)
        for i in range(9):
            others = sorted(
                (j for j in range(9) if j != i), key=lambda j: -float((z[i] @ z[j]).detach())
            )
            hard = others[skipped : skipped + 2]
            one = sum(z[i] @ z[j].detach() for j in hard) - sum(z[i] @ s for s in stored[i])
            torch.testing.assert_close(found[i], one)
            total = total + one
        ours, theirs = (
            torch.autograd.grad(x, raw, retain_graph=True)[0] for x in (found.sum(), total)
        )
        torch.testing.assert_close(ours, theirs)
    few = prototypes.hard_negative_similarity(z[:2], stored[:2], 1)  # nothing is left to be hard
    torch.testing.assert_close(few, -torch.einsum("bd,bkd->b", z[:2], stored[:2]))


def test_a_head_leaves_the_rest_of_a_feature() -> None:
    weight = torch.randn(3, 8, dtype=torch.float64)
    raw = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    z, basis = F.normalize(raw, dim=1), spaces.head_basis(weight)
    u, _, _ = np.linalg.svd(weight.numpy().T)
    known, unknown = torch.from_numpy(u[:, :3]), torch.from_numpy(u[:, 3:])
    torch.testing.assert_close(basis @ basis.T, torch.eye(3, dtype=torch.float64))
    found = spaces.space_norms(z, basis)
    expected = torch.stack(((z @ known).norm(dim=1), (z @ unknown).norm(dim=1)), 1)
    torch.testing.assert_close(found, expected)
    one, two = (
        torch.autograd.grad(x[:, 1].sum(), raw, retain_graph=True)[0] for x in (found, expected)
    )
    torch.testing.assert_close(one, two)
    seen = spaces.space_norms(F.normalize(weight, dim=1), basis)  # the head's own directions
    torch.testing.assert_close(seen, torch.tensor([[1.0, 0.0]] * 3).double())


def test_the_upper_mean_is_in_the_scale_of_the_values() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate((rng.normal(0.2, 0.02, 60), rng.normal(0.6, 0.03, 40)))
    found = spaces.upper_mean(torch.from_numpy(values), 0)
    assert found == pytest.approx(values[60:].mean(), abs=0.01)
    assert spaces.upper_mean(torch.full((50,), 0.3), 0) is None
    assert spaces.upper_mean(torch.tensor([0.1, 0.2]), 0) is None


def test_boundaries_of_images() -> None:
    z, protos = (F.normalize(torch.randn(n, 5).double(), dim=1) for n in (7, 3))
    weight = 2 * torch.randn(3, 5).double()
    score = spaces.common_score(z, protos, weight)
    anchors = weight.numpy() / np.linalg.norm(weight.numpy(), axis=1, keepdims=True)
    to_target, to_source = (np.maximum(z.numpy() @ x.T, 0) for x in (protos.numpy(), anchors))
    expected = np.sqrt((1 - np.exp(-to_target)) * np.exp(to_source - 1))
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-9)
    usual = torch.tensor([0.2, 0.5, 0.9]).double()
    label, bounds = spaces.instance_boundary(score, usual, 0.7)
    np.testing.assert_array_equal(label.numpy(), expected.argmax(1))
    own = usual.numpy()[expected.argmax(1)]
    by_hand = own + expected.max(1) * np.maximum(0.7 - own, 0)
    np.testing.assert_allclose(bounds.numpy(), by_hand, rtol=1e-9)
    assert torch.isinf(spaces.instance_boundary(score, usual, None)[1]).all()


def test_an_image_near_its_boundary_weighs_little() -> None:
    norms = torch.tensor([0.5, 0.51, 0.6, 0.9, 0.1]).double()
    bounds = torch.full((5,), 0.5).double()
    found = spaces.boundary_weight(norms, bounds)
    away = (norms - bounds).numpy() ** 2
    np.testing.assert_allclose(found.numpy(), 1 - (1 + away / 1e-4) ** (-(1 + 1e-4) / 2), rtol=1e-9)
    assert float(found[0]) == 0.0
    assert bool((found[2:] > 0.89).all())
    assert bool((found[1:] < 1).all())  # beyond the means, too: the code's two lines do nothing
    assert spaces.boundary_weight(norms, torch.full((5,), torch.inf)).tolist() == [1.0] * 5


def gaussians(z: np.ndarray, mass: np.ndarray, means: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the log-posterior of shrunk Gaussians, by scipy's density."""
    width, n = z.shape[1], w.sum(0)
    spread = [
        sum(w[i, c] * np.outer(z[i] - means[c], z[i] - means[c]) for i in range(len(z))) / n[c]
        for c in range(len(means))
    ]
    pooled = sum(n[c] / n.sum() * spread[c] for c in range(len(means)))
    found = []
    for c in range(len(means)):
        s = width / (width + n[c])
        covariance = (1 - s) * spread[c] + s * pooled + 1e-6 * np.eye(width)
        found.append(np.log(mass[c]) + multivariate_normal(means[c], covariance).logpdf(z))
    log = np.stack(found, 1)
    return (
        log
        - np.log(np.exp(log - log.max(1, keepdims=True)).sum(1, keepdims=True))
        - log.max(1, keepdims=True)
    )


def test_the_datas_posterior_is_one_round_of_gaussians() -> None:
    z, _ = blobs(3, 10, 0.4)
    p = answers(30, 3, 2)
    points, q = z.double().numpy(), p.numpy()
    means = q.T @ points / q.sum(0)[:, None]
    first = gaussians(points, q.sum(0), means, np.full((30, 3), 1 / 3))
    given = joint.gaussian_log_posterior(
        z, p.sum(0), torch.from_numpy(means), torch.full((30, 3), 1 / 3)
    )
    np.testing.assert_allclose(given.numpy(), first, rtol=1e-5, atol=1e-7)
    gamma = np.exp(first)
    means = gamma.T @ points / gamma.sum(0)[:, None]
    second = gaussians(points, gamma.sum(0), means, gamma)
    found = joint.data_log_posterior(z, p)
    np.testing.assert_allclose(found.numpy(), second, rtol=1e-5, atol=1e-6)

    top = np.sort(second, axis=1)
    gap = top[:, -1] - top[:, -2]
    label, score = joint.joint_score(found, p)
    np.testing.assert_array_equal(label.numpy(), second.argmax(1))
    expected = gap / gap.max() * q[np.arange(30), second.argmax(1)]
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-5)


def test_small_classes_in_wide_features_keep_a_gap_to_tell() -> None:
    """11 images a class and 256 numbers: every covariance alone is singular."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat_interleave(11)
    z = torch.eye(10, 256)[labels] + 0.05 * torch.randn(110, 256, generator=generator)
    p = (4 * F.one_hot(labels, 10) + torch.randn(110, 10, generator=generator)).softmax(1)
    log_gamma = joint.data_log_posterior(F.normalize(z, dim=1), p)
    label, score = joint.joint_score(log_gamma, p)
    assert bool(log_gamma.isfinite().all())
    assert float((label == labels).double().mean()) > 0.95
    assert len(score.unique()) > 100


def test_the_joint_score_of_nothing_to_tell() -> None:
    same, even = torch.ones(6, 4) / 2, torch.full((6, 3), 1 / 3)
    label, score = joint.joint_score(joint.data_log_posterior(same, even), even)
    assert bool(score.isfinite().all())
    assert label.shape == (6,)
    label, score = joint.joint_score(torch.zeros(6, 1), torch.ones(6, 1))  # one class
    assert score.tolist() == [0.0] * 6
    gone = torch.eye(3)[[0, 1] * 5]  # nobody is the third class
    assert bool(joint.data_log_posterior(blobs(2, 5)[0], gone).isfinite().all())


def test_the_surest_of_each_class() -> None:
    p = answers(40, 3, 5)
    q = p.numpy()
    doubt, label = -(q * np.log(q)).sum(1), q.argmax(1)
    share = (doubt < doubt.mean()).mean()
    expected = np.zeros(40, dtype=bool)
    for c in range(3):
        members = np.flatnonzero(label == c)
        expected[members[np.argsort(doubt[members])][: int(share * len(members))]] = True
    np.testing.assert_array_equal(semi.surest_of_each_class(p).numpy(), expected)
    assert 0 < expected.sum() < 40
    assert not semi.surest_of_each_class(torch.eye(3)[[0, 1, 2, 0]]).any()  # all equally sure


def test_squared_differences_and_quarter_turns() -> None:
    p, t = answers(5, 3, 6), answers(5, 3, 7)
    by_hand = ((p.numpy() - t.numpy()) ** 2).mean(1)
    np.testing.assert_allclose(semi.squared_difference(p, t).numpy(), by_hand, rtol=1e-9)
    images, turns = torch.rand(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    found = semi.quarter_turns(images, turns)
    for image, turn, turned in zip(images.numpy(), turns.tolist(), found.numpy(), strict=True):
        np.testing.assert_array_equal(turned, np.rot90(image, turn, (1, 2)))
