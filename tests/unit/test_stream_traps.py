"""Where published code of test-time adaptation goes wrong, and what bad input meets."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.config.signature import validate_options
from dabench.contract.access import Online, Recorder
from dabench.contract.statistics import SourceStatistics
from dabench.contract.types import Task
from dabench.engine.stream import Progress, run_stream
from dabench.errors import ConfigError, TrainingError
from dabench.networks.network import ClassifierNetwork

SIDE = 8
#: the methods of this wave, with options under which every image is learned from
FIRST_WAVE: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("lame", "t3a", "cofa", "pl", "rpl", "roid", "cmf", "bn-ema")},
    **{name: {"limit": 1.0, "margin": 1.0} for name in ("eta", "rdumb")},
    "deyo": {"limit": 1.0, "drop": 0.0},
    "dua": {"views": 2},
    **{"rotta": {"every": 4}, "petta": {}, "santa": {}, "foa-shift": {}, "memo": {"views": 2}},
}


def network(k: int, gain: float = 4.0) -> ClassifierNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8)),
        )
        net = ClassifierNetwork(backbone, 8, k, bottleneck=0, weight_norm=False).eval()
    net.classifier.weight.data *= gain
    return net


def begun(name: str, k: int, options: dict[str, Any] | None = None, gain: float = 4.0) -> Any:
    torch.manual_seed(0)
    method = registry.method(name)(**(FIRST_WAVE.get(name, {}) if options is None else options))
    task = Task("classification", tuple(map(str, range(k))), SIDE)
    spread, means = torch.ones(k, 8), torch.rand(k, 8)
    known = SourceStatistics(means.mean(0), spread[0], means, spread, torch.full((k,), 2.0))
    extras = {"source-statistics": known}
    method.begin(Online(task, network(k, gain), 6, 0, Recorder(), extras))
    return method


def images(count: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def answers(method: Any, *groups: Tensor) -> list[Tensor]:
    """Push batches as a protocol does."""
    progress, k = Progress(), method.access.task.num_classes
    return [logits for _, logits in run_stream(method, iter(groups), progress, 0, num_classes=k)]


@pytest.mark.parametrize("k", [2, 1000])
@pytest.mark.parametrize("name", FIRST_WAVE)
def test_few_and_many_classes(name: str, k: int) -> None:
    """Of 1,000 classes a batch of six shows few; nothing is made for 10, or for 1,000."""
    method = begun(name, k)
    first, one, last = answers(method, images(), images(1, 1), images(6, 2))
    assert [a.shape for a in (first, one, last)] == [(6, k), (1, k), (6, k)]
    assert not torch.equal(first, last)


@pytest.mark.parametrize("name", FIRST_WAVE)
def test_a_batch_of_one_picture_six_times(name: str) -> None:
    """All features are equal: no distance, no spread, no neighbour that is nearer."""
    method = begun(name, 5)
    same = images(1).expand(6, -1, -1, -1)
    for logits in answers(method, same, same, images(6, 3)):
        assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p).all() for p in method.net.parameters())


@pytest.mark.parametrize("name", FIRST_WAVE)
def test_logits_that_are_no_numbers_are_refused_at_the_step(name: str) -> None:
    method = begun(name, 5)
    with torch.no_grad():
        for net in {method.net, getattr(method, "teacher", method.net)}:
            net.classifier.weight.fill_(math.nan)
        if name == "t3a":  # its classifier is that of the start
            method.supports.rows.fill_(math.nan)
    with pytest.raises(TrainingError, match=r"logits are not finite at step 0") as caught:
        answers(method, images())
    assert ("--method.lr" in str(caught.value)) == hasattr(method, "lr")


def test_weight_and_bias_of_santas_projector_are_one_layer() -> None:
    layers = begun("santa", 3, {"projection": 4}).update.layers
    assert layers[-4] == layers[-3] != layers[-2] == layers[-1]


def test_lame_keeps_the_class_of_a_single_image_and_is_stateless() -> None:
    method = begun("lame", 5)
    source = network(5)
    with torch.no_grad():
        expected = source(images(1)).argmax(1)
    one, _, again = answers(method, images(1), images(), images(1))
    assert one.argmax(1).tolist() == expected.tolist()
    assert torch.equal(one, again)


def test_t3a_refuses_a_head_that_is_no_linear_layer() -> None:
    net = network(5)
    net.classifier = nn.Sequential(nn.Linear(8, 5))
    task = Task("classification", tuple("abcde"), SIDE)
    with pytest.raises(ConfigError, match=r"t3a: .* ends in Sequential.*nn\.Linear"):
        registry.method("t3a")().begin(Online(task, net, 6, 0, Recorder()))


def test_cofa_averages_across_batches_one_by_one() -> None:
    whole = torch.cat(answers(begun("cofa", 5), images()))
    alone = torch.cat(answers(begun("cofa", 5), *images().split(1)))
    torch.testing.assert_close(whole, alone)


def test_limits_of_deyo_are_shares_of_ln_k() -> None:
    """With the published ln 1000 every image of two classes would be sure."""
    unsure = begun("deyo", 2, {"drop": 0.0}, gain=1e-3)  # entropies of about ln 2
    start = unsure.trained_values()
    answers(unsure, images())
    assert unsure.update.steps == 0
    assert torch.equal(start, unsure.trained_values())
    sure = begun("deyo", 2, {"limit": 1.0, "drop": 0.0}, gain=1e-3)
    answers(sure, images())
    assert sure.update.steps == 1


def test_deyo_refuses_more_patches_than_pixels() -> None:
    with pytest.raises(ConfigError, match=r"--method.grid 9: images of 8 pixels"):
        begun("deyo", 5, {"grid": 9})
    begun("deyo", 5, {"grid": 9, "destroy": "occlusion"})


@pytest.mark.parametrize("destroy", ["occlusion", "pixels"])
def test_deyo_destroys_in_other_ways(destroy: str) -> None:
    method = begun("deyo", 5, {"destroy": destroy, "limit": 1.0, "drop": 0.0})
    answers(method, images())
    assert method.update.steps == 1


def test_roids_prior_multiplies_logits_or_probabilities() -> None:
    plain, logits, probabilities = (
        answers(begun("roid", 5, {"prior": prior}), images())[0]
        for prior in ("none", "logits", "probabilities")
    )
    m = plain.softmax(1).mean(0)
    s = max(1 / 6, 1 / 5) / m.max()
    prior = (m + s) / (1 + 5 * s)
    torch.testing.assert_close(logits, plain * prior)
    expected = plain.softmax(1) * prior
    torch.testing.assert_close(
        probabilities.softmax(1), expected / expected.sum(1, keepdim=True), rtol=1e-5, atol=1e-6
    )


def test_roid_divides_by_the_nominal_batch_size() -> None:
    """A batch of one is a sixth of a step, by plain gradient descent."""
    moves = []
    for size in (1, 6):
        options = {"optimiser": "sgd", "momentum": 0.0, "source_decay": 1.0}
        torch.manual_seed(0)
        method = registry.method("roid")(**options)
        task = Task("classification", tuple("abcde"), SIDE)
        method.begin(Online(task, network(5), size, 0, Recorder()))
        torch.manual_seed(1)
        answers(method, images(1))
        moves.append(method.trained_values() - method.start)
    torch.testing.assert_close(moves[0], 6 * moves[1], rtol=1e-2, atol=1e-6)


def test_the_variance_of_cmf_is_part_of_its_state() -> None:
    """A reset of the published code forgets it."""
    method = begun("cmf", 5, {"noise": 50.0})
    assert float(method.state_dict()["variance"]) == 0
    answers(method, images())
    kept = method.state_dict()
    assert float(kept["variance"]) > 0
    assert not torch.equal(kept["hidden"], kept["start"])
    other = begun("cmf", 5, {"noise": 50.0})
    other.load_state_dict(kept)
    assert torch.equal(other.variance, method.variance)


def test_rdumb_forgets_weights_optimiser_and_average() -> None:
    method = begun("rdumb", 5, {"limit": 1.0, "margin": 1.0, "reset_every": 2})
    groups = (images(6, 1), images(6, 2), images(6, 1), images(6, 2))
    first = answers(method, *groups)
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], first[3])
    assert not torch.equal(first[0], first[1])


def test_duas_momentum_falls_and_it_answers_by_the_last_statistics() -> None:
    """The published code reports the best of 80 moments, which labels choose."""
    method = begun("dua", 5, {"views": 2})
    layer = next(m for m in method.net.modules() if type(m).__name__ == "MovingNorm")
    used: list[float] = []
    layer.register_forward_pre_hook(
        lambda m, x: used.append(m.momentum) if m.momentum is not None else None
    )
    (logits,) = answers(method, images())
    assert used == pytest.approx([0.1 * 0.94 ** (i + 1) + 0.005 for i in range(6)])
    with torch.no_grad():
        assert torch.equal(method.predict(images()).logits, logits)


def test_dua_stops_after_its_first_images() -> None:
    method = begun("dua", 5, {"views": 2, "first": 4})
    answers(method, images())
    kept = {k: v.clone() for k, v in method.state_dict().items() if isinstance(v, Tensor)}
    assert int(kept["seen"]) == 4
    answers(method, images(6, 1))
    assert all(torch.equal(v, method.state_dict()[k]) for k, v in kept.items())


@pytest.mark.parametrize("name", ["tent", "eata", "sar"])
def test_an_option_that_came_later_is_in_no_spec_at_its_default(name: str) -> None:
    """Runs on record keep their ids; the other loss is another run."""
    cls = registry.method(name)
    usual = validate_options(cls, {}, "method")
    assert "lr" in usual
    assert "loss" not in usual
    assert validate_options(cls, {"loss": "entropy"}, "method") == usual
    assert validate_options(cls, {"loss": "come"}, "method") == {**usual, "loss": "come"}
    with pytest.raises(ConfigError, match=r"--method.loss"):
        validate_options(cls, {"loss": "comet"}, "method")


def test_max_squares_has_one_loss() -> None:
    with pytest.raises(ConfigError, match="no such option"):
        validate_options(registry.method("max-squares"), {"loss": "come"}, "method")


@pytest.mark.parametrize("name", ["eta", "rdumb"])
def test_eta_needs_nothing_beyond_the_source_model(name: str) -> None:
    cls = registry.method(name)
    assert cls.extras == frozenset()
    assert "fisher_weight" not in validate_options(cls, {}, "method")
    assert begun(name, 5).fisher_weight == 0
