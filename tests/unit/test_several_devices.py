"""``--devices N``: a source model that several devices train together."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dabench import views
from dabench.config import devices as config_devices
from dabench.config.devices import check_devices
from dabench.config.spec import resolve
from dabench.contract.access import Unlabelled, to_float
from dabench.contract.data import Labelled
from dabench.contract.decay import DecayingSGD
from dabench.contract.seeding import seed, seed_everything
from dabench.contract.types import Task
from dabench.errors import ConfigError, TrainingError
from dabench.networks.network import ClassifierNetwork, build_classifier
from dabench.source_models import loading
from dabench.source_models.classifier import Recipe, learn, supervised_accuracy
from dabench.source_models.several_devices import _steps, device_batches, fit_on_devices

GIVEN: dict[str, Any] = {"method": "source", "protocol": "sf-uda", "threads": 1, "device": "cpu"}
TASK = Task("classification", ("dark", "light", "red"), 16, False, False)


def colours(count: int) -> Labelled:
    """Draw pictures whose shade tells their class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    shades = np.array([[50, 50, 50], [200, 200, 200], [200, 50, 50]])[labels]
    pictures = shades[:, None, None] + rng.integers(-45, 45, (count, 16, 16, 3))
    return Labelled(pictures.astype(np.uint8), labels, "colours")


def network(recipe: Recipe) -> ClassifierNetwork:
    torch.manual_seed(5)
    return build_classifier(recipe.backbone, "none", 3, plain=recipe.plain, side=16)


def train(net: ClassifierNetwork, data: Labelled, recipe: Recipe) -> ClassifierNetwork:
    fit_on_devices(net, data, np.arange(len(data.labels)), recipe, TASK, 0, False)
    return net


def test_the_spec_names_several_devices_alone() -> None:
    (plain,), (one,) = resolve(GIVEN), resolve(GIVEN | {"devices": "1"})
    (two,) = resolve(GIVEN | {"devices": "2"})
    assert plain == one
    assert "devices" not in plain.to_dict()
    assert two.to_dict() == plain.to_dict() | {"devices": 2}
    assert resolve(GIVEN | {"source-model": "resnet50", "devices": 1})[0].devices is None


def test_models_of_one_device_keep_their_keys() -> None:
    task = SimpleNamespace(classes=("a", "b"), flip=True)
    plan: Any = SimpleNamespace(task=task, source_val=None, source=SimpleNamespace(digest="d"))
    recipe = Recipe("small-cnn", "none", 1)
    assert loading._key(recipe, plan, 7) == "f2cfdc28fb6ddac479b1030ec28d6a71"
    two, three = (dataclasses.replace(recipe, devices=n) for n in (2, 3))
    assert len({loading._key(r, plan, 7) for r in (recipe, two, three)}) == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"devices": 0}, "--devices 0: expected 1 or more"),
        ({"devices": "two"}, "--devices 'two': expected a whole number"),
        ({"device": "auto"}, "--devices 2: torch sees 1 GPU here; leave it out, or give --device"),
        ({"device": "auto", "devices": 9}, "--devices 9: torch sees 1 GPU here"),
        ({"source-model": "resnet50"}, "--devices: --source-model is there already, and nothing"),
        (
            {"protocol": "bb-uda", "protocol.oracle": "http"},
            "--devices 2: with --protocol.oracle http the source model was trained elsewhere",
        ),
        (
            {"protocol": "online-seg"},
            "--devices 2: the source model of online-seg segments, and such models are trained on "
            "one device",
        ),
    ],
)
def test_devices_that_do_not_fit(
    given: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_devices, "available_gpus", lambda: 1)
    with pytest.raises(ConfigError) as error:
        resolve(GIVEN | {"devices": 2} | given)
    assert told in str(error.value)


@pytest.mark.parametrize("device", ["mps", "cuda:1"])
def test_a_device_that_is_one(device: str) -> None:
    with pytest.raises(ConfigError, match=f"--devices 2: --device {device} names one"):
        check_devices(2, device)
    check_devices(1, device)


def test_too_few_images_for_the_devices() -> None:
    recipe = Recipe("small-cnn", "none", 1, batch_size=8, devices=5)
    with pytest.raises(ConfigError, match=r"--devices 5: a batch has 8 images.*give 4 or fewer"):
        train(network(recipe), colours(40), recipe)
    recipe = dataclasses.replace(recipe, devices=3)
    with pytest.raises(ConfigError, match=r"a batch has 5 images, .*give 2 or fewer"):
        train(network(recipe), colours(5), recipe)


def test_a_notebook_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.fabric.connector._IS_INTERACTIVE", True)
    recipe = Recipe("small-cnn", "none", 1, batch_size=16, devices=2)
    with pytest.raises(ConfigError, match=r"^--devices 2: .*; use 'dabench run' in a shell$"):
        train(network(recipe), colours(40), recipe)


@pytest.mark.parametrize(("count", "left_out"), [(24, 0), (29, 0), (27, 3), (25, 1)])
def test_devices_share_out_the_batches_of_one(count: int, left_out: int) -> None:
    steps = _steps(count, 8, 2)
    made = [device_batches(count, 8, 2, rank, 3) for rank in range(2)]
    parts = [[next(batches) for _ in range(2 * steps)] for batches in made]
    data = colours(count)
    loader = Unlabelled(data.images, np.arange(count)).loader(8, shuffle=True, seed=3)
    whole = [batch.index.tolist() for _ in range(2) for batch in loader if len(batch.index) >= 4]
    assert len(whole) == len(parts[0])
    for batch, (size, first), (_, second) in zip(whole, *parts, strict=True):
        assert size == len(batch)
        assert (batch[::2], batch[1::2]) == (first, second)
    assert sum(map(len, whole)) == 2 * (count - left_out)


def one_step(recipe: Recipe, data: Labelled) -> ClassifierNetwork:
    """Make the same first step on one device: the views of both, in one batch."""
    net = network(recipe).train()
    images, rows = [], []
    for rank in range(2):
        order = seed(0, "source training", "batches")
        _, own = next(device_batches(len(data.labels), recipe.batch_size, 2, rank, order))
        seed_everything(seed(0, "source", "device", str(rank)))
        images.append(views.weak(to_float(data.images[np.array(own)]), flip=False))
        rows += own
    optimiser = DecayingSGD(net.parameter_groups(recipe.lr, 1.0), total_steps=1)
    labels = torch.from_numpy(data.labels[rows])
    learn(net(torch.cat(images)), labels, optimiser, recipe.label_smoothing, "here")
    return net


@pytest.mark.slow
@pytest.mark.parametrize("count", [16, 15])
def test_gradients_of_the_first_step_are_those_of_one_device(count: int) -> None:
    """The network has no BatchNorm; of 15 images one device has 8, and counts for as much."""
    recipe = Recipe("small-vit", "none", 1, plain=True, lr=1.0, batch_size=count, devices=2)
    data = colours(count)
    before = network(recipe).state_dict()
    found = train(network(recipe), data, recipe).state_dict()
    expected = one_step(recipe, data).state_dict()
    for name, value in expected.items():
        # Nesterov's first step is 1.9 times the gradient
        difference = (found[name] - value).abs().max() / 1.9
        assert difference < 1e-5, name
    assert any(not torch.equal(found[name], before[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_two_devices_learn(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SHOT's head, whose normalised weights cannot be pickled, and BatchNorm."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    monkeypatch.setenv("LOCAL_RANK", "3")  # of another launcher
    recipe = Recipe("small-cnn", "none", 6, batch_size=16, devices=2)
    data = colours(90)
    net = train(network(recipe).to(device), data, recipe)
    assert not net.training
    assert supervised_accuracy(net, data, np.arange(90)) > 0.9
    assert multiprocessing.active_children() == []
    assert os.environ["LOCAL_RANK"] == "3"
    assert "MASTER_PORT" not in os.environ


@pytest.mark.slow
def test_two_devices_give_the_same_bytes_twice() -> None:
    recipe = Recipe("small-cnn", "none", 2, batch_size=16, devices=2)
    states = []
    for number in range(2):
        torch.manual_seed(number)
        net = train(network(recipe), colours(90), recipe)
        states.append({name: v.numpy().tobytes() for name, v in net.state_dict().items()})
    assert states[0] == states[1]


@pytest.mark.slow
def test_an_error_of_a_device_arrives() -> None:
    recipe = Recipe("small-cnn", "none", 3, lr=1e30, batch_size=16, devices=2)
    with pytest.raises(TrainingError, match=r"^source training, epoch 0: the loss is (nan|inf)$"):
        train(network(recipe), colours(90), recipe)
    assert multiprocessing.active_children() == []
