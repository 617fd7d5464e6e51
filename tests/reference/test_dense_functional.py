"""What methods for dense tasks are made of: losses over pixels, views and the transfer module."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from dabench.errors import ConfigError
from dabench.methods.functional import blended_norm, losses, multi_scale, normalisation, transfer
from dabench.methods.functional import consistency as agree
from dabench.views.photometric import LUMA, Photometric

torch.set_num_threads(1)
K = 4


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- losses over pixels -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, K), (2, K, 3, 4)])
def test_max_squares(shape):
    z = normal(0, *shape).requires_grad_()
    p = torch.moveaxis(z.detach().softmax(1), 1, -1).reshape(-1, K).numpy()
    expected = np.array([-0.5 * sum(v**2 for v in row) / K for row in p])
    found = losses.max_squares(z.softmax(1))
    assert found.shape == (shape[0], *shape[2:])
    np.testing.assert_allclose(found.detach().reshape(-1), expected, rtol=1e-12)
    assert gradcheck(lambda x: losses.max_squares(x.softmax(1)), (z,))
    # d/dp of -1/(2K) sum p^2 is -p / K
    q = z.detach().softmax(1).requires_grad_()
    losses.max_squares(q).sum().backward()
    torch.testing.assert_close(q.grad, -q.detach() / K)


def test_max_squares_range():
    sure, even = torch.eye(K), torch.full((1, K), 1 / K)
    torch.testing.assert_close(losses.max_squares(sure), torch.full((K,), -1 / (2 * K)))
    torch.testing.assert_close(losses.max_squares(even), torch.tensor([-1 / (2 * K**2)]))


@pytest.mark.parametrize("name", ["entropy", "soft_cross_entropy", "kl_divergence", "sharpen"])
def test_pixels_stay_apart(name):
    p, z = normal(1, 2, K, 3, 5).softmax(1), normal(2, 2, K, 3, 5)
    arguments = {"entropy": (p,), "soft_cross_entropy": (z, p), "kl_divergence": (p, z)}
    function, given = getattr(losses, name), arguments.get(name, (p,))
    more = (0.5,) if name == "sharpen" else ()
    dense = function(*given, *more)
    for b, i, j in ((0, 0, 0), (1, 2, 4)):
        alone = function(*(x[b : b + 1, :, i, j] for x in given), *more)
        torch.testing.assert_close(dense[b, ..., i, j], alone[0])


def test_masked_mean():
    values, mask = normal(3, 2, 3, 4), normal(4, 2, 3, 4) > 0
    expected = values.numpy()[mask.numpy()].mean()
    assert float(agree.masked_mean(values, mask)) == pytest.approx(expected)
    assert float(agree.masked_mean(values, None)) == pytest.approx(float(values.numpy().mean()))
    assert float(agree.masked_mean(values, torch.zeros_like(mask))) == 0.0


def test_consistency_teaches_as_the_cross_entropy():
    """KL and CE differ by the target's entropy, which has no gradient."""
    p, z = normal(5, 2, K, 3, 4).softmax(1), normal(6, 2, K, 3, 4).requires_grad_()
    valid = normal(7, 2, 3, 4) > -0.5
    found = agree.consistency(p, z, valid)
    ce = -(p * z.log_softmax(1)).sum(1)[valid].mean()
    entropy = -(p * p.log()).sum(1)[valid].mean()
    torch.testing.assert_close(found, ce - entropy)
    (ours,), (theirs,) = torch.autograd.grad(found, z), torch.autograd.grad(ce, z)
    torch.testing.assert_close(ours, theirs)
    assert gradcheck(lambda x: agree.consistency(p, x, valid), (z,))


def test_the_target_gets_no_gradient():
    p = normal(8, 1, K, 2, 2).softmax(1).requires_grad_()
    z = normal(9, 1, K, 2, 2).requires_grad_()
    agree.consistency(p, z).backward()
    assert p.grad is None
    assert z.grad is not None


def test_hard_targets():
    p = torch.tensor([[0.95, 0.05, 0.0], [0.6, 0.4, 0.0], [0.02, 0.03, 0.95]]).T[None, :, None]
    z = normal(10, 1, 3, 1, 3, dtype=torch.float32)
    log_q = z.log_softmax(1)[0, :, 0]
    expected = -(log_q[0, 0] + log_q[2, 2]) / 2  # the middle pixel is not sure
    torch.testing.assert_close(agree.consistency(p, z, threshold=0.9), expected)
    valid = torch.tensor([[[False, True, True]]])
    torch.testing.assert_close(agree.consistency(p, z, valid, 0.9), -log_q[2, 2])
    assert float(agree.consistency(p, z, threshold=0.99)) == 0.0


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_pixels_out_of_frame_carry_no_loss(threshold):
    p, z = normal(11, 1, K, 4, 6).mul(3).softmax(1), normal(12, 1, K, 4, 6)
    valid = torch.ones(1, 4, 6, dtype=torch.bool)
    valid[:, :, 4:] = False
    other_p, other_z = p.clone(), z.clone()
    other_p[..., 4:] = torch.eye(K, dtype=p.dtype)[0].view(K, 1, 1)
    other_z[..., 4:] = 100.0
    gradients = []
    for target, logits in ((p, z), (other_p, other_z)):
        logits.requires_grad_()
        loss = agree.consistency(target, logits, valid, threshold)
        gradients.append((loss.detach(), *torch.autograd.grad(loss, logits)))
    assert float(gradients[0][0]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert not gradients[0][1][..., 4:].any()


# -- normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (4, 3)])
@pytest.mark.parametrize("rho", [0.2, 1.0])
@pytest.mark.parametrize("affine", [True, False])
def test_blended_batch_norm_against_the_composed_form(shape, rho, affine):
    x = (normal(30, *shape) * 2 + 1).requires_grad_()
    source = (normal(31, 3), normal(32, 3).square() + 0.5)
    own = [normal(33, 3).requires_grad_(), normal(34, 3).requires_grad_()] if affine else []
    weight, bias = own if affine else (None, None)

    def composed(x, weight=None, bias=None):
        mean, var, _ = normalisation.blended_statistics(x, *source, rho)
        view = (1, 3, *[1] * (x.ndim - 2))
        out = (x - mean.view(view)) / (var + 1e-5).sqrt().view(view)
        return out if weight is None else out * weight.view(view) + bias.view(view)

    def ours(x, weight=None, bias=None):
        return blended_norm.blended_batch_norm(x, weight, bias, source, rho, 1e-5)

    found, expected = ours(x, weight, bias), composed(x, weight, bias)
    torch.testing.assert_close(found, expected)
    direction = normal(35, *shape)
    pairs = zip(
        torch.autograd.grad(found, [x, *own], direction),
        torch.autograd.grad(expected, [x, *own], direction),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other)
    assert gradcheck(ours, (x, *own))


def test_one_image_and_a_batch_are_normalised_alike():
    """The layer takes the closed form for one image, and another path without gradients."""
    layer = nn.BatchNorm2d(3).eval()
    layer.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    blended = normalisation.BlendedNorm(layer, 0.3)
    x = normal(36, 1, 3, 6, 7, dtype=torch.float32).requires_grad_()
    with torch.no_grad():
        expected = blended(x)
    torch.testing.assert_close(blended(x), expected)
    twice = torch.cat((x, x)).detach().requires_grad_()
    torch.testing.assert_close(blended(twice)[:1], expected)
    one = torch.autograd.grad(blended(x).square().sum(), x)[0]
    both = torch.autograd.grad(blended(twice).square().sum(), twice)[0]
    torch.testing.assert_close(both[:1], one, rtol=1e-3, atol=1e-4)


# -- views --------------------------------------------------------------------------------------


def plain(**change):
    """Return parameters that leave an image alone."""
    own = {"brightness": 1.0, "contrast": 1.0, "sigma": 1e-3}
    values = {k: torch.tensor([change.get(k, v)]) for k, v in own.items()}
    return Photometric(colours=change.get("colours", torch.eye(3)[None]), **values)


def test_photometric_by_hand():
    x = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    torch.testing.assert_close(plain().apply(x), x)
    torch.testing.assert_close(plain(brightness=1.2).apply(x), x * 1.2)
    mean = (x * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1).mean()
    torch.testing.assert_close(plain(contrast=0.7).apply(x), mean + 0.7 * (x - mean))


def test_photometric_blur_against_a_dense_gaussian():
    x = torch.zeros(1, 3, 25, 25)
    x[..., 12, 12] = 1.0
    found = plain(sigma=1.5).apply(x)[0, 0]
    places = torch.arange(25.0) - 12
    line = (-(places**2) / (2 * 1.5**2)).exp()
    expected = torch.outer(line, line) / line.sum() ** 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(plain(sigma=2.0).apply(flat), flat)


def test_drawn_photometric_views():
    draw = torch.Generator().manual_seed(3)
    views = Photometric.draw(400, generator=draw)
    for factor in (views.brightness, views.contrast):
        assert 0.6 <= float(factor.min()) < 0.65
        assert 1.35 < float(factor.max()) <= 1.4
    assert 0.1 <= float(views.sigma.min()) < 0.2
    assert 1.9 < float(views.sigma.max()) <= 2.0
    # greys stay greys whatever the matrix, and about a fifth have no colour at all
    torch.testing.assert_close(views.colours.sum(2), torch.ones(400, 3), atol=1e-5, rtol=0)
    without = torch.linalg.matrix_rank(views.colours, atol=1e-4) == 1
    assert 0.12 < float(without.float().mean()) < 0.28
    x = torch.rand(400, 3, 6, 7)
    out = views.apply(x)
    assert out.shape == x.shape
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    again = Photometric.draw(400, generator=torch.Generator().manual_seed(3)).apply(x)
    assert torch.equal(out, again)


def test_hue_turns_by_the_angle():
    """A third of the circle exchanges red, green and blue."""
    draw = torch.Generator().manual_seed(0)
    views = Photometric.draw(1, jitter=0.0, hue=1.0, grey=0.0, generator=draw)
    turn = views.colours[0]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), atol=1e-5, rtol=0)
    u = torch.rand(6, 1, generator=torch.Generator().manual_seed(0))
    angle = 2 * math.pi * float(2 * u[4] - 1)
    assert float(turn.trace()) == pytest.approx(1 + 2 * math.cos(angle), abs=1e-5)


def test_scales():
    assert multi_scale.scaled_views(2, flip=True) == [(1.0, False), (1.0, True)]
    assert len(multi_scale.scaled_views(99, flip=True)) == 14
    found = multi_scale.scaled_views(99, flip=False)
    assert sorted(scale for scale, _ in found) == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert not any(mirrored for _, mirrored in found)


def test_per_channel_broadcasts_over_images_and_pixels():
    values = torch.tensor([1.0, 2.0, 3.0])
    for shape in ((4, 3), (4, 3, 5, 6)):
        x = torch.ones(shape)
        expected = np.moveaxis(np.moveaxis(x.numpy(), 1, -1) * values.numpy(), -1, 1)
        np.testing.assert_array_equal(x * blended_norm.per_channel(values, x), expected)


def test_answer_at_scale_comes_back_to_the_frame():
    smooth = torch.linspace(0, 1, 48).expand(1, 3, 32, 48).contiguous()
    sizes = []

    def pointwise(x):
        sizes.append(tuple(x.shape[-2:]))
        return torch.cat((x, 1 - x[:, :1]), 1)

    expected = pointwise(smooth)
    for mirrored in (False, True):
        assert torch.equal(multi_scale.answer_at_scale(pointwise, smooth, 1.0, mirrored), expected)
        for scale in multi_scale.SCALES:
            found = multi_scale.answer_at_scale(pointwise, smooth, scale, mirrored)
            torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    assert {(32, 48), (16, 24), (64, 96), (24, 40)} >= {sizes[0], sizes[-1]}
    assert all(side % 8 == 0 for size in sizes for side in size)


# -- the transfer module ------------------------------------------------------------------------


def module(**how):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transfer.TransferModule(6, K, width=16, heads=2, **how)


def test_tokenise():
    features = normal(20, 2, 6, 40, 70)
    tokens = transfer.tokenise(features)
    assert tokens.shape == (2, 32 * 64, 6)
    pooled = F.adaptive_avg_pool2d(features, (32, 64))
    torch.testing.assert_close(tokens[1, 64 + 3], pooled[1, :, 1, 3])
    small = normal(21, 1, 6, 3, 5)
    assert torch.equal(transfer.tokenise(small)[0, 7], small[0, :, 1, 2])


def test_an_untrained_module_changes_nothing():
    features, logits = normal(22, 3, 6, 8, 9).float(), normal(23, 3, K, 8, 9).float()
    matrix = module()(features)
    assert torch.equal(matrix, torch.eye(K).expand(3, K, K))
    assert torch.equal(transfer.transfer_logits(matrix, logits), logits)


def test_transfer_logits_by_hand():
    matrix, logits = normal(24, 2, K, K), normal(25, 2, K, 3, 4)
    found = transfer.transfer_logits(matrix, logits)
    for b, i, j in ((0, 0, 0), (1, 2, 3)):
        torch.testing.assert_close(found[b, :, i, j], matrix[b] @ logits[b, :, i, j])


def test_the_module_against_its_equations():
    """One layer, one head, written out."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = transfer.TransferModule(6, K, width=8, heads=1).double()
        nn.init.normal_(net.predict.weight)
    features = normal(26, 1, 6, 3, 5)
    layer, attention = net.layers[0], net.layers[0].attention
    tokens = net.tokens_norm(features[0].reshape(6, -1).T)
    bq, bk, bv = attention.in_proj_bias.chunk(3)
    q = layer.before_attention(net.queries) @ attention.q_proj_weight.T + bq
    k, v = tokens @ attention.k_proj_weight.T + bk, tokens @ attention.v_proj_weight.T + bv
    affinity = (q @ k.T / math.sqrt(8)).softmax(1) @ v
    a = net.queries + attention.out_proj(affinity)
    a = a + layer.network(layer.before_network(a))
    expected = net.norm(a) @ net.predict.weight.T + torch.eye(K, dtype=torch.float64)
    torch.testing.assert_close(net(features)[0], expected)


def shuffled(seed, batch=4):
    """Return features whose first K channels are the classes' evidence, and the labels."""
    labels = torch.randint(0, K, (batch, 8, 12), generator=torch.Generator().manual_seed(seed))
    onehot = F.one_hot(labels, K).movedim(-1, 1).float()
    noise = normal(seed, batch, 6, 8, 12).float() * 0.3
    noise[:, :K] += onehot
    labels[:, :2] = 255
    return noise, labels


def test_fit_transfer_undoes_an_exchange_of_classes():
    head = nn.Conv2d(6, K, 1, bias=False)
    with torch.no_grad():  # answers class 0 with 1's evidence, and the other way round
        head.weight.copy_(5 * torch.eye(6)[[1, 0, 2, 3]][:, :, None, None])
    kept = head.weight.detach().clone()
    net = module()
    batches = (shuffled(i) for i in range(1000))
    transfer.fit_transfer(net, head, batches, steps=150, lr=1e-2, ignore=255)
    features, labels = shuffled(5000)
    before = head(features).argmax(1)
    after = transfer.transfer_logits(net(features), head(features)).argmax(1)
    counted = labels != 255
    assert float((before == labels)[counted].float().mean()) < 0.6
    assert float((after == labels)[counted].float().mean()) > 0.9
    assert torch.equal(head.weight, kept)
    assert head.weight.grad is None


def test_fit_transfer_leaves_out_what_is_all_ignored():
    net, head = module(), nn.Conv2d(6, K, 1)
    nothing = torch.full((4, 8, 12), 255)
    batches = ((shuffled(i)[0], nothing) for i in range(9))
    assert math.isnan(transfer.fit_transfer(net, head, batches, steps=3, lr=1.0, ignore=255))
    assert not net.predict.weight.any()


def test_fit_head_follows_the_loss_without_labels():
    head = nn.Conv2d(6, K, 1)
    start = head.weight.detach().clone()

    def features():
        return (shuffled(i)[0] for i in range(1000))

    with torch.no_grad():
        sharp = float(losses.entropy(head(next(features())).softmax(1)).mean())
    last = transfer.fit_head(head, features(), losses.entropy, steps=50, lr=0.1)
    assert last < 0.8 * sharp
    assert not torch.equal(head.weight, start)


def test_source_parts_may_have_no_head():
    assert transfer.SourceParts(module()).head is None
    both = transfer.SourceParts(module(), nn.Conv2d(6, K, 1))
    assert {key.split(".")[0] for key in both.state_dict()} == {"module", "head", "usual"}


def test_feature_batches_are_the_networks_features_without_gradient():
    from types import SimpleNamespace

    conv = nn.Conv2d(3, 2, 1)
    batches = [(torch.rand(2, 3, 4, 4), torch.full((2, 4, 4), i)) for i in range(3)]
    found = list(transfer.feature_batches(SimpleNamespace(features=conv), iter(batches)))
    assert len(found) == 3
    for (images, labels), (features, same) in zip(batches, found, strict=True):
        torch.testing.assert_close(features, conv(images))
        assert same is labels
        assert not features.requires_grad


def test_classifier_width_is_that_of_the_feature_map():
    from types import SimpleNamespace

    conv = nn.Conv2d(6, K, 3, padding=1)
    assert transfer.classifier_width(SimpleNamespace(classifier=conv)) == conv.weight.shape[1] == 6
    for other in (nn.Identity(), nn.ConvTranspose2d(6, K, 2)):
        with pytest.raises(ConfigError, match="does not end in one"):
            transfer.classifier_width(SimpleNamespace(classifier=other))
