"""Labels that features correct, against NumPy and on toy sets whose right labels are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dabench.methods.functional.divergence import jsd, onehot
from dabench.methods.functional.label_refinement import (
    centred_unit,
    centroid_posterior,
    neighbours_answer,
)
from dabench.methods.functional.losses import entropy, marginal_surprise

PER_CLASS, K = 30, 3


def toy(wrong: float = 0.4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three tight groups far from the origin; an oracle that errs, and never names class 2."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(K), PER_CLASS)
    features = 10 + np.eye(5)[truth] + rng.normal(0, 0.1, (len(truth), 5))
    answers = np.full((len(truth), K), 0.2)
    named = np.where(rng.random(len(truth)) < wrong, 1 - truth % 2, truth % 2)
    answers[np.arange(len(truth)), named] += 0.4
    answers[:, 2] *= 0.5
    answers[truth == 2] = [0.4, 0.35, 0.25]  # twice the mass of what others get
    answers /= answers.sum(1, keepdims=True)
    z = centred_unit(torch.from_numpy(features))
    return z, torch.from_numpy(answers), torch.from_numpy(truth), torch.from_numpy(features)


def test_features_are_centred_before_they_get_unit_length() -> None:
    *_, features = toy()
    x = features.numpy() - features.numpy().mean(0)
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(centred_unit(features).numpy(), expected)


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_centroid_posterior_against_numpy(prior: float) -> None:
    z, a, _, _ = toy()
    p = np.random.default_rng(1).dirichlet(np.ones(K), len(z))
    found = centroid_posterior(z, torch.from_numpy(p), a, rounds=2, temperature=0.5, prior=prior)
    for _ in range(2):
        c = np.stack([(p[:, [k]] * z.numpy()).sum(0) for k in range(K)])
        c /= np.linalg.norm(c, axis=1, keepdims=True)
        p = np.exp(z.numpy() @ c.T / 0.5) * a.numpy() ** prior
        p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), p, rtol=1e-9)


def test_centroids_find_what_the_oracle_never_names() -> None:
    z, a, truth, _ = toy()
    right = [(p.argmax(1) == truth).double().mean().item() for p in (a, refined(z, a))]
    assert right[0] < 0.5
    assert right[1] == 1.0
    assert (a.argmax(1) != 2).all()


def refined(z: Tensor, a: Tensor) -> Tensor:
    """Return labels as before the first step."""
    return centroid_posterior(z, a, a, rounds=3, temperature=0.07, prior=0.5)


def test_no_rounds_change_nothing() -> None:
    z, a, _, _ = toy()
    torch.testing.assert_close(centroid_posterior(z, a, a, rounds=0, temperature=1, prior=1), a)


def test_a_class_without_any_mass_stays_without() -> None:
    z, a, _, _ = toy()
    a = torch.cat((a, torch.zeros(len(a), 1, dtype=a.dtype)), 1)
    found = centroid_posterior(z, a, a, rounds=2, temperature=0.07, prior=0.0)
    assert (found[:, 3] == 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(len(a), dtype=a.dtype))


def test_neighbours_answer_leaves_the_row_itself_out() -> None:
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), dim=1)
    p = torch.tensor([[1.0, 0], [0.6, 0.4], [0.1, 0.9], [0, 1]])
    torch.testing.assert_close(neighbours_answer(z, p, 1), p[[1, 0, 3, 2]])


def test_neighbours_tell_wrong_labels_where_confidence_cannot() -> None:
    z, _, truth, _ = toy()
    wrong = torch.zeros(len(truth), dtype=torch.bool)
    wrong[::7] = True
    labels = torch.where(wrong, (truth + 1) % K, truth)
    answers = 0.7 * onehot(labels, K).double() + 0.1  # as sure where it is wrong
    statistic = jsd(onehot(labels, K).double(), neighbours_answer(z, answers, 10))
    assert statistic[wrong].min() > statistic[~wrong].max()


def test_marginal_surprise_has_the_gradient_of_the_entropy_at_the_average() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    p = logits.softmax(1)
    average = p.detach().mean(0)
    (one,) = torch.autograd.grad(marginal_surprise(p, average), logits, retain_graph=True)
    (two,) = torch.autograd.grad(entropy(p.mean(0)[None]).sum(), logits)
    torch.testing.assert_close(one, two)
    # what is rare in the average is worth more than what is common in it
    rare = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    sure = torch.eye(4, dtype=torch.float64)
    assert marginal_surprise(sure[[1]], rare) > marginal_surprise(sure[[0]], rare)
