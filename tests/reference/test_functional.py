"""Every function of ``methods/functional`` against NumPy, gradients, and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import norm
from torch.autograd import gradcheck

from dabench.contract.decay import DecayingSGD, inverse_decay
from dabench.methods.functional import divergence, losses, mixture

torch.set_num_threads(1)
N, K = 40, 5


def simplex(seed, rows=N, classes=K):
    """Return random rows that sum to one, away from the border."""
    rng = np.random.default_rng(seed)
    return torch.as_tensor(rng.dirichlet(np.ones(classes), rows) * 0.99 + 0.01 / classes)


def logits(seed, rows=N):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(rows, K)) * 2)


def ints(seed, rows=N):
    return torch.as_tensor(np.random.default_rng(seed).integers(0, K, rows))


def weights(seed, rows=N):
    return torch.as_tensor(np.random.default_rng(seed).random(rows))


def close(got, expected, atol=1e-8):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=atol)


def has_gradient(function, *inputs):
    """Compare the analytic with the numeric gradient, in double precision."""
    leaves = [x[:6].clone().requires_grad_() if x.is_floating_point() else x[:6] for x in inputs]
    return gradcheck(function, leaves)


def numpy_log_softmax(z):
    z = np.asarray(z)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


# --- divergence -------------------------------------------------------------------------------


def test_onehot():
    got = divergence.onehot(ints(0), K)
    assert got.dtype == torch.get_default_dtype()
    close(got, np.eye(K)[ints(0).numpy()])


def test_jsd_and_distance_against_scipy():
    a, b = simplex(0), simplex(1)
    expected = jensenshannon(a.numpy(), b.numpy(), base=2, axis=1)
    close(divergence.js_distance(a, b), expected)
    close(divergence.jsd(a, b), expected**2)


def test_jsd_is_symmetric_and_bounded_and_zero_iff_equal():
    a, b = simplex(0), simplex(1)
    assert torch.equal(divergence.jsd(a, b), divergence.jsd(b, a))
    assert torch.equal(divergence.jsd(a, a), torch.zeros(N, dtype=a.dtype))
    assert (divergence.jsd(a, b) > 1e-6).all()
    assert (divergence.jsd(a, b) <= 1).all()
    ends = divergence.onehot(torch.tensor([0, 1]), K)
    close(divergence.jsd(ends, ends.flip(0)), [1, 1], atol=1e-6)
    assert (divergence.jsd(ends, ends.flip(0)) <= 1).all()


def test_jsd_to_onehot_has_its_closed_form():
    p, y = simplex(2), ints(3)
    q = p.gather(1, y[:, None])[:, 0].numpy()
    expected = 1 - (1 + q) * np.log2(1 + q) / 2 + q * np.log2(q) / 2
    close(divergence.jsd(divergence.onehot(y, K).double(), p), expected)


def test_jsd_ranks_as_cross_entropy_with_hard_labels():
    p, y = simplex(4, rows=300), ints(5, rows=300)
    by_jsd = divergence.jsd(divergence.onehot(y, K).double(), p)
    by_ce = divergence.cross_entropy_to_label(p, y)
    assert torch.equal(by_jsd.argsort(), by_ce.argsort())


def test_jsd_does_not_rank_as_cross_entropy_with_soft_labels():
    p, t = simplex(4, rows=300), simplex(6, rows=300)
    by_jsd = divergence.jsd(t, p)
    by_ce = losses.soft_cross_entropy(p.log(), t)
    assert not torch.equal(by_jsd.argsort(), by_ce.argsort())


def test_jsd_to_own_argmax_ranks_as_confidence():
    p = simplex(7, rows=300)
    by_jsd = divergence.jsd(divergence.onehot(p.argmax(1), K).double(), p)
    assert torch.equal(by_jsd.argsort(), (1 - p.amax(1)).argsort())


def test_distance_of_equal_rows_is_zero_in_float32():
    p = simplex(0).float()
    assert torch.equal(divergence.js_distance(p, p), torch.zeros(N))


def test_jsd_gradient():
    assert has_gradient(divergence.jsd, simplex(0), simplex(1))
    assert has_gradient(divergence.js_distance, simplex(0), simplex(1))


def test_jsd_gradient_is_finite_at_zero_probability():
    p = divergence.onehot(torch.tensor([0]), K).requires_grad_()
    divergence.jsd(p, torch.full((1, K), 1 / K)).sum().backward()
    assert p.grad.isfinite().all()


def test_normalised_entropy():
    p = simplex(0)
    close(divergence.normalised_entropy(p), scipy_entropy(p.numpy(), base=K, axis=1))
    assert has_gradient(divergence.normalised_entropy, p)
    close(divergence.normalised_entropy(torch.full((2, K), 1 / K)), [1, 1], atol=1e-6)
    close(divergence.normalised_entropy(divergence.onehot(torch.tensor([1]), K)), [0])
    close(divergence.normalised_entropy(torch.ones(2, 1)), [0, 0])


def test_cross_entropy_to_label():
    p, y = simplex(0), ints(1)
    close(divergence.cross_entropy_to_label(p, y), -np.log(p.numpy()[np.arange(N), y.numpy()]))
    assert has_gradient(divergence.cross_entropy_to_label, p, y)
    never = divergence.cross_entropy_to_label(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert never.isfinite().all()


# --- losses -----------------------------------------------------------------------------------


def test_soft_cross_entropy():
    z, t = logits(0), simplex(1)
    close(losses.soft_cross_entropy(z, t), -(t.numpy() * numpy_log_softmax(z)).sum(axis=1))
    assert has_gradient(losses.soft_cross_entropy, z, t)
    y = ints(2)
    hard = torch.nn.functional.cross_entropy(z, y, reduction="none")
    close(losses.soft_cross_entropy(z, divergence.onehot(y, K)), hard)


def test_soft_cross_entropy_gradient_is_softmax_minus_target():
    z, t = logits(0).requires_grad_(), simplex(1)
    losses.soft_cross_entropy(z, t).sum().backward()
    close(z.grad, np.exp(numpy_log_softmax(z.detach())) - t.numpy())


def test_smooth_labels():
    y = ints(0)
    got = losses.smooth_labels(divergence.onehot(y, K), 0.1)
    expected = np.full((N, K), 0.1 / K)
    expected[np.arange(N), y.numpy()] = 0.9 + 0.1 / K
    close(got, expected, atol=1e-7)
    z = logits(1)
    torch_own = torch.nn.functional.cross_entropy(z, y, reduction="none", label_smoothing=0.1)
    close(losses.soft_cross_entropy(z, got), torch_own, atol=1e-6)
    assert has_gradient(lambda x: losses.smooth_labels(x, 0.1), simplex(0))


def test_entropy():
    p = simplex(0)
    close(losses.entropy(p), scipy_entropy(p.numpy(), axis=1))
    assert has_gradient(losses.entropy, p)
    sure = divergence.onehot(torch.tensor([0]), K).requires_grad_()
    value = losses.entropy(sure)
    value.sum().backward()
    assert value.item() == 0
    assert sure.grad.isfinite().all()


def test_kl_divergence():
    t, z = simplex(0), logits(1)
    expected = scipy_entropy(t.numpy(), np.exp(numpy_log_softmax(z)), axis=1)
    close(losses.kl_divergence(t, z), expected)
    close(losses.kl_divergence(z.softmax(1), z), np.zeros(N))
    assert (losses.kl_divergence(t, z) > 0).all()
    assert has_gradient(losses.kl_divergence, t, z)


@pytest.mark.parametrize("weighted", ["none", "both", "each"])
def test_information_maximisation(weighted):
    p = simplex(0)
    w = None if weighted == "none" else weights(1)
    v = weights(2) if weighted == "each" else None
    mean_entropy, entropy_of_mean = losses.information_maximisation(p, w, v)
    w_np = np.ones(N) if w is None else w.numpy()
    v_np = w_np if v is None else v.numpy()
    rows = scipy_entropy(p.numpy(), axis=1)
    close(mean_entropy, np.average(rows, weights=v_np))
    close(entropy_of_mean, scipy_entropy(np.average(p.numpy(), axis=0, weights=w_np)))
    given = [x for x in (p, w, v) if x is not None]
    assert has_gradient(losses.information_maximisation, *given)


def test_information_maximisation_entropy_weight_alone():
    p, v = simplex(0), weights(1)
    mean_entropy, entropy_of_mean = losses.information_maximisation(p, entropy_weight=v)
    close(mean_entropy, np.average(scipy_entropy(p.numpy(), axis=1), weights=v.numpy()))
    close(entropy_of_mean, scipy_entropy(p.numpy().mean(axis=0)))


def test_information_maximisation_closed_forms():
    each = divergence.onehot(torch.arange(K), K)
    close(torch.stack(losses.information_maximisation(each)), [0, math.log(K)], atol=1e-6)
    same = divergence.onehot(torch.zeros(K, dtype=torch.int64), K)
    close(torch.stack(losses.information_maximisation(same)), [0, 0], atol=1e-6)
    flat = torch.full((3, K), 1 / K)
    close(torch.stack(losses.information_maximisation(flat)), [math.log(K)] * 2, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64])
def test_information_maximisation_with_no_weight_at_all_is_zero(dtype):
    p = simplex(0).requires_grad_()
    terms = losses.information_maximisation(p, torch.zeros(N, dtype=dtype))
    (terms[0] - terms[1]).backward()
    assert [term.item() for term in terms] == [0, 0]
    assert p.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
def test_sharpen(temperature):
    p = simplex(0)
    power = p.numpy() ** (1 / temperature)
    close(losses.sharpen(p, temperature), power / power.sum(axis=1, keepdims=True))
    assert has_gradient(lambda x: losses.sharpen(x, temperature), p)


def test_sharpen_extremes():
    p = torch.tensor([[0.6, 0.4, 0.0]])
    close(losses.sharpen(p, 1.0), p, atol=1e-7)
    close(losses.sharpen(p, 1e-3), [[1, 0, 0]], atol=1e-7)
    with pytest.raises(ValueError, match="above 0"):
        losses.sharpen(p, 0)


# --- mixture ----------------------------------------------------------------------------------


def falls(split, statistic):
    """Whether the posterior never rises along the statistic."""
    return bool((np.diff(split.posterior[np.argsort(statistic, kind="stable")]) <= 0).all())


def two_modes(seed=0, sizes=(600, 400), means=(1.0, 5.0), stds=(0.5, 0.7)):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(m, s, n) for m, s, n in zip(means, stds, sizes, strict=True)]
    return np.concatenate(parts), np.repeat([True, False], sizes)


@pytest.mark.parametrize("flip", [False, True])
def test_mixture_recovers_two_modes(flip):
    statistic, low = two_modes()
    if flip:
        statistic, low = -statistic, ~low
    split = mixture.fit_two_component(statistic, seed=0)
    assert not split.degenerate
    assert np.mean((split.posterior > 0.5) == low) > 0.99
    assert split.weights == pytest.approx([0.4, 0.6] if flip else [0.6, 0.4], abs=0.02)
    assert split.means[0] < split.means[1]
    start, span = (np.quantile(statistic, q) for q in (0.01, 0.99))
    means = start + split.means * (span - start)
    assert means == pytest.approx([-5, -1] if flip else [1, 5], abs=0.1)
    assert (split.values.min(), split.values.max()) == (0, 1)


def test_mixture_posterior_is_bayes_rule_between_the_means():
    statistic, _ = two_modes(means=(0.0, 2.0))
    split = mixture.fit_two_component(statistic, seed=0)
    inside = (split.values >= split.means[0]) & (split.values <= split.means[1])
    x = split.values[inside, None]
    joint = split.weights * norm.pdf(x, split.means, np.sqrt(split.variances))
    close(split.posterior[inside], joint[:, 0] / joint.sum(axis=1))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stds", [(0.05, 3.0), (3.0, 0.05), (1.0, 1.0), (0.3, 2.0)])
def test_mixture_posterior_never_rises(seed, stds):
    statistic, _ = two_modes(seed, sizes=(300, 300), means=(0.0, 2.0), stds=stds)
    split = mixture.fit_two_component(statistic, seed=0)
    assert falls(split, statistic)
    assert split.posterior.min() >= 0
    assert split.posterior.max() <= 1


@pytest.mark.parametrize(
    ("means", "variances"),
    [((0.4, 0.6), (0.2, 1e-3)), ((0.4, 0.6), (1e-3, 0.2)), ((0.3, 0.7), (0.01, 0.01))],
)
def test_monotone_posterior_against_bayes_rule_with_running_extremes(means, variances):
    x = np.linspace(0, 1, 2001)
    w = np.array([0.3, 0.7])
    got = mixture.monotone_posterior(x, w, np.array(means), np.array(variances))
    joint = w * norm.pdf(x[:, None], means, np.sqrt(variances))
    plain = joint[:, 0] / joint.sum(axis=1)
    expected = plain.copy()
    left, right = x <= means[0], x >= means[1]
    expected[left] = np.maximum.accumulate(plain[left][::-1])[::-1]
    expected[right] = np.minimum.accumulate(plain[right])
    if variances[0] != variances[1]:
        assert (np.diff(plain) > 1e-6).any()  # the plain rule does hand a tail to the wrong side
    assert (np.diff(got) <= 0).all()
    close(got, expected, atol=1e-4)


def test_mixture_is_reproducible_and_keeps_order():
    statistic, _ = two_modes(means=(0.0, 1.5))
    one = mixture.fit_two_component(statistic, seed=3)
    two = mixture.fit_two_component(statistic, seed=3)
    assert np.array_equal(one.posterior, two.posterior)
    shuffle = np.random.default_rng(0).permutation(len(statistic))
    other = mixture.fit_two_component(statistic[shuffle], seed=3)
    close(other.posterior, one.posterior[shuffle], atol=0.02)


def test_mixture_ignores_scale_and_a_few_outliers():
    statistic, low = two_modes()
    plain = mixture.fit_two_component(statistic, seed=0)
    scaled = mixture.fit_two_component(statistic * 1e-6 + 7, seed=0)
    close(scaled.posterior, plain.posterior, atol=1e-3)
    statistic[:3] = 1e6
    split = mixture.fit_two_component(statistic, seed=0)
    assert not split.degenerate
    assert np.mean((split.posterior > 0.5) == low) > 0.98


def test_mixture_takes_float32():
    statistic, _ = two_modes()
    split = mixture.fit_two_component(statistic.astype(np.float32), seed=0)
    assert split.posterior.dtype == np.float64


@pytest.mark.parametrize(
    "statistic",
    [
        np.zeros(50),
        np.full(50, 0.3),
        np.array([]),
        np.array([0.1, 0.9, 0.5]),
        np.append(np.random.default_rng(0).random(50), np.nan),
        np.append(np.random.default_rng(0).random(50), np.inf),
        np.append(np.zeros(999), 1.0),
    ],
)
def test_mixture_without_a_fit_is_degenerate(statistic):
    split = mixture.fit_two_component(statistic, seed=0)
    assert split.degenerate
    assert split.posterior.shape == statistic.shape
    assert (split.posterior == 0.5).all()
    for array in (split.values, split.weights, split.means, split.variances):
        assert np.isfinite(array).all()


def test_mixture_guards():
    statistic, _ = two_modes()
    assert mixture.fit_two_component(statistic, seed=0, min_weight=0.45).degenerate
    split = mixture.fit_two_component(statistic, seed=0, min_gap=0.9)
    assert split.degenerate
    assert (split.posterior == 0.5).all()
    with pytest.raises(ValueError, match="one-dimensional"):
        mixture.fit_two_component(statistic[:, None], seed=0)


def test_mixture_with_two_distinct_values():
    split = mixture.fit_two_component(np.repeat([0.0, 1.0], 20), seed=0)
    assert not split.degenerate
    assert split.posterior[0] > 0.99
    assert split.posterior[-1] < 0.01


def test_two_means_cut_is_the_best_cut():
    values, low = two_modes()
    cut = mixture.two_means_cut(values, seed=0)
    assert np.mean((values <= cut) == low) > 0.99
    ordered = np.sort(values)
    spread = [
        part[0].var() * len(part[0]) + part[1].var() * len(part[1])
        for part in (np.split(ordered, [i]) for i in range(1, len(ordered)))
    ]
    best = int(np.argmin(spread)) + 1
    expected = (ordered[:best].mean() + ordered[best:].mean()) / 2
    assert cut == pytest.approx(expected, abs=0.02)


def test_two_means_cut_of_two_values_and_degenerate():
    assert mixture.two_means_cut(np.array([0.0, 1.0]), seed=0) == pytest.approx(0.5)
    for values in (np.zeros(9), np.array([0.2]), np.array([])):
        assert mixture.two_means_cut(values, seed=0) == math.inf
    with pytest.raises(ValueError, match="finite"):
        mixture.two_means_cut(np.array([0.0, np.nan]), seed=0)


def test_the_decaying_rate_goes_on_where_its_state_says() -> None:
    def optimiser() -> DecayingSGD:
        return DecayingSGD(
            [{"params": [torch.ones(2, requires_grad=True)], "lr": 1.0}], total_steps=4
        )

    whole, later = optimiser(), optimiser()
    for _ in range(3):
        whole.step()
    later.load_state_dict(whole.state_dict())
    for one in (whole, later):
        one.step()
    assert later.param_groups[0]["lr"] == whole.param_groups[0]["lr"] == inverse_decay(3 / 4)
