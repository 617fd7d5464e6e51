"""The Python door: ``dabench.run``, ``dabench.adapt``, ``dabench.online``."""

from __future__ import annotations

import copy
import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pretended_device import pretended_device
from torch import Tensor, nn

import dabench
from dabench import registry
from dabench.api import OnlineMethod, Prediction, TargetBatch
from dabench.cli.main import main
from dabench.contract.floats import to_float
from dabench.contract.protocol import Outcome
from dabench.deploy import own_random
from dabench.errors import AccessError, ConfigError, DataError
from dabench.networks.foreign import wrap_classifier
from dabench.store.reading import load_record
from dabench.store.store import Store
from dabench.testing import Workbench


class Foreign(nn.Module):
    """A user's model: normalised inputs, its own names, a classifier somewhere inside."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Dropout(0.5))
        self.out = nn.Linear(32, classes)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.out(self.head(self.pool(self.norm(self.conv(images)).relu())))
        return found


@pytest.fixture
def model() -> Foreign:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Foreign()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# -- the network


def test_a_foreign_model_has_features_and_a_classifier(model: Foreign, images: Tensor) -> None:
    before = copy.deepcopy(model.state_dict())
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    net = wrap_classifier(model, 10, mean=mean, std=std, example=images[:2])
    expected = model.eval()((images - net.mean) / net.std)
    torch.testing.assert_close(net(images), expected)
    assert net.features(images).shape == (24, 32)
    assert [g["lr"] for g in net.parameter_groups(1.0, None)] == [0.1, 1.0]
    with torch.no_grad():
        net.classifier.weight.zero_()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_foreign_model_that_flattens_its_maps_by_view() -> None:
    class Flat(Foreign):
        def forward(self, images: Tensor) -> Tensor:
            maps = self.pool(self.norm(self.conv(images)).relu())
            found: Tensor = self.out(self.head(maps.view(len(maps), -1)))
            return found

    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    frames, net = to_float(pictures), Flat()
    assert not frames.is_contiguous()
    wrapped = wrap_classifier(net, 10, example=frames)
    torch.testing.assert_close(wrapped(frames), net.eval()(frames.contiguous()))
    assert dabench.online(net, "source", image_size=32)(frames).shape == (4, 10)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", pytest.param("vit_b_16", marks=pytest.mark.slow)],
)
def test_models_of_torchvision(name: str) -> None:
    import torchvision.models

    net = torchvision.models.get_model(name, weights=None)
    image = torch.rand(1, 3, 224, 224)
    wrapped = wrap_classifier(net, 1000, example=image)
    torch.testing.assert_close(wrapped(image), net.eval()(image))


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (nn.Identity(), {"num_classes": 7}, "no linear layer with 7 outputs"),
        (nn.Identity(), {"head": "fc"}, r"no linear layer of that name"),
        (nn.Softmax(1), {}, "does something after its layer 0.out"),
        (nn.Unflatten(1, (2, 5)), {}, r"answered 24 images by \(24, 2, 5\)"),
        (nn.Identity(), {"std": (0.0, 1.0, 1.0)}, "expected three numbers, std > 0"),
        (nn.Identity(), {"mean": (123, 116, 103)}, r"those of \[0, 1\] images; divide by 255"),
        (nn.Identity(), {"std": (58.4, 57.1, 57.4)}, r"those of \[0, 1\] images; divide by 255"),
    ],
)
def test_what_does_not_fit_is_said(
    model: Foreign, images: Tensor, change: nn.Module, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        wrap_classifier(nn.Sequential(model, change), example=images, **given)


def test_a_network_of_dabench_is_as_it_is(model: Foreign, images: Tensor) -> None:
    network = wrap_classifier(model, mean=(0.4, 0.5, 0.6))
    assert torch.equal(wrap_classifier(network, 10)(images), network(images))
    with pytest.raises(ConfigError, match="has 10 outputs, and there are 3 classes"):
        dabench.adapt(network, images, "shot", classes=["a", "b", "c"])
    for given in ({"mean": (0.5, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.5)}, {"head": "out"}):
        with pytest.raises(ConfigError, match="its own head, mean and std; leave them out"):
            dabench.online(network, "tent", **given)(images)  # type: ignore[arg-type]


def test_a_model_without_a_linear_layer_or_of_nan(images: Tensor) -> None:
    with pytest.raises(ConfigError, match="has no linear layer that could be its classifier"):
        wrap_classifier(nn.Conv2d(3, 3, 1))
    broken = Foreign()
    nn.init.constant_(broken.out.bias, torch.nan)
    with pytest.raises(ConfigError, match="logits that are not finite"):
        wrap_classifier(broken, example=images)


# -- online


def test_online_answers_as_the_protocol_does(workbench: Workbench) -> None:
    """Bit for bit, on the batches of a benchmark's stream, with a method that draws."""
    bench = workbench.bench("gradual-weather")
    seen: list[Tensor] = []
    told: list[Tensor] = []
    cls = registry.method("cotta")

    class Telling(cls):  # type: ignore[misc, valid-type]
        """Keeps what it is asked and answers."""

        def step(self, batch: TargetBatch) -> Tensor:
            seen.append(batch.images.clone())
            told.append(super().step(batch))
            return told[-1]

    outcome: Outcome = bench.run(lambda: Telling(views=3))
    assert len(told) == len(np.unique(outcome.arrays["stream.step"]))
    live = dabench.online(bench.network, "cotta", batch_size=bench.batch_size, flip=False, views=3)
    for images, logits in zip(seen, told, strict=True):
        torch.rand(7)  # what the caller draws is his own business
        assert torch.equal(live(images), logits)


def test_a_live_model_goes_on_from_its_state(model: Foreign, images: Tensor) -> None:
    live = dabench.online(model, "tent", classes=[f"c{i}" for i in range(10)], lr=0.01)
    first = [live(part) for part in images.split(8)]
    again = dabench.online(model, "tent", lr=0.01)
    assert torch.equal(again(images[:8]), first[0])
    later = dabench.online(model, "tent", image_size=32, lr=0.01)
    later.load_state_dict(again.state_dict())
    assert torch.equal(later(images[8:16]), first[1])
    assert torch.equal(again(images[8:16]), first[1])
    live.reset()
    assert torch.equal(live(images[:8]), first[0])
    before = live.state_dict()["method.net.classifier.weight"].clone()
    live.predict(images)
    assert torch.equal(before, live.state_dict()["method.net.classifier.weight"])
    with pytest.raises(ConfigError, match="has not begun"):
        dabench.online(model, "tent").load_state_dict(later.state_dict())


def test_what_a_live_model_draws_on_a_card_is_its_own(
    model: Foreign, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator of ours stands in for the card's."""
    card = torch.Generator().manual_seed(99)
    there = own_random.CardGenerator(card.get_state, card.set_state, card.manual_seed)
    monkeypatch.setattr(own_random, "card_generator", lambda device: there)
    drawn: list[float] = []

    class Drawing(registry.method("tent")):  # type: ignore[misc]
        """Draws on the card at each step."""

        def step(self, batch: TargetBatch) -> Tensor:
            drawn.append(float(torch.rand((), generator=card)))
            return super().step(batch)  # type: ignore[no-any-return]

    outside = card.get_state()
    live = dabench.online(model, Drawing)
    for part in images.split(8):
        live(part)
        assert torch.equal(card.get_state(), outside)
        card.manual_seed(99)  # what the caller does is his own business
    assert len({*drawn}) == 3
    other = dabench.online(model, Drawing, image_size=32, seed=1)
    other(images[:8])
    assert drawn[3] != drawn[0]
    again = dabench.online(model, Drawing, image_size=32)
    again.load_state_dict(live.state_dict())
    live(images[:8])
    again(images[:8])
    assert drawn[4] == drawn[5]


def test_a_method_that_draws_where_it_is_built_has_the_seed_s_numbers(
    model: Foreign, images: Tensor
) -> None:
    class Built(registry.method("tent")):  # type: ignore[misc]
        """Has a layer of its own from the beginning."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.own = torch.nn.Linear(10, 10)

        def step(self, batch: TargetBatch) -> Tensor:
            answer: Tensor = self.own(super().step(batch)).detach()
            return answer

    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(dabench.online(model, Built)(images))
    assert torch.equal(*found)


def test_floats_of_64_bits_are_taken_and_nothing_is_moved_too_early(
    model: Foreign, images: Tensor
) -> None:
    live = dabench.online(model, "tent")
    with pytest.raises(ConfigError, match="has not begun, so that there is nothing to move"):
        live.to("cpu")
    expected = dabench.online(model, "tent")(images)
    assert torch.equal(live(images.double()), expected)
    assert live.predict(images.double()).shape == expected.shape
    live.to("cpu")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.rand(3, 32, 32), r"expected a \(B, 3, S, S\) tensor"),
        (torch.rand(2, 3, 24, 16), "are 24 x 16 pixels; expected 24 x 24, as the first: square"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"images.float\(\) / 255"),
        (255 * torch.rand(2, 3, 8, 8), "expected \\[0, 1\\]"),
        (torch.rand(2, 3, 8, 8) - 0.5, "give mean and std"),
    ],
)
def test_images_that_do_not_fit(model: Foreign, batch: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dabench.online(model, "tent")(batch)


def test_images_are_of_one_size(model: Foreign, images: Tensor) -> None:
    live = dabench.online(model, "tent")
    live(images)
    with pytest.raises(ConfigError, match="are 16 x 16 pixels; expected 32 x 32, as the first"):
        live.predict(images[..., :16, :16])
    live.reset()
    assert live(images[..., :16, :16]).shape == (24, 10)


def test_dropout_stays_off_whatever_a_training_loop_says(model: Foreign, images: Tensor) -> None:
    live = nn.ModuleList([dabench.online(model, "cotta", image_size=32)]).train()[0]
    assert not any(m.training for m in live.method.modules() if isinstance(m, nn.Dropout))
    assert torch.equal(live.predict(images), live.predict(images))


@pytest.mark.parametrize("method", ["cotta", "adacontrast-online", "memo", "rmt", "shot-online"])
def test_a_frozen_model_is_refused_by_what_changes_weights(
    model: Foreign, images: Tensor, method: str
) -> None:
    with pytest.raises(ConfigError, match="every weight that this method could change is frozen"):
        dabench.online(model.requires_grad_(False), method)(images)
    assert dabench.online(model, "bn-adapt")(images).shape == (24, 10)


def test_what_online_refuses(model: Foreign, images: Tensor) -> None:
    with pytest.raises(ConfigError, match="tta-aug segments frames"):
        dabench.online(model, "tta-aug")
    with pytest.raises(ConfigError, match="target-supervised learns the target's labels"):
        dabench.online(model, "target-supervised")
    with pytest.raises(ConfigError, match="shot is no method for streams; dabench"):
        dabench.online(model, "shot")
    with pytest.raises(ConfigError, match="no such option; did you mean 'lr'"):
        dabench.online(model, "tent", lrr=1.0)
    with pytest.raises(AccessError, match="eata needs fisher-images"):
        dabench.online(model, "eata")(images)
    with pytest.raises(ConfigError, match="linear-probe is trained on labelled source images"):
        dabench.online(model, "linear-probe")
    with pytest.raises(ConfigError, match="extras fisher: tent takes none"):
        dabench.online(model, "tent", extras={"fisher": images})(images)
    live = dabench.online(model, "eata", extras={"fisher-images": images})
    assert live(images).shape == (24, 10)


# -- adapt


def test_adapt_gives_what_the_protocol_scores(workbench: Workbench) -> None:
    """The same adapt set, seed and budget: the same answers to the last bit."""
    protocol = registry.protocol("sf-uda")(held_out=0.0)
    bench = workbench.make(protocol)
    part = bench.plan.parts["adapt"]
    images = part.__getitems__(list(range(len(part)))).images
    outcome = bench.run(registry.method("shot"))
    adapted = dabench.adapt(
        bench.network, images, "shot", epochs=2, batch_size=32, flip=bench.plan.task.flip
    )
    assert np.array_equal(adapted.after.known, outcome.arrays["adapt.prediction"])
    confidence = adapted.after.confidence.astype(np.float32)
    assert np.array_equal(confidence, outcome.arrays["adapt.confidence"])
    assert adapted.cost["images_forward"] == outcome.cost["images_forward"]
    assert (adapted.before.known != adapted.after.known).any()
    assert torch.equal(
        adapted.model(images[:4]).argmax(1), torch.from_numpy(adapted.after.known[:4])
    )
    assert adapted.labels[0] == str(adapted.after.known[0])


def test_adapt_along_a_stream_and_in_an_open_set(model: Foreign, images: Tensor) -> None:
    pictures = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    names = [f"class {i}" for i in range(10)]
    streamed = dabench.adapt(model, pictures, "tent", classes=names, batch_size=8)
    live = dabench.online(model, "tent", batch_size=8)
    expected = torch.cat([live(to_float(part)) for part in np.array_split(pictures, 3)])
    assert np.array_equal(streamed.after.known, expected.argmax(1).numpy())
    assert set(streamed.labels) <= set(names)
    opened = dabench.adapt(
        model, images, "usd", classes=names, open_set=True, epochs=1, batch_size=8
    )
    assert opened.after.unknown_score is not None
    assert set(opened.labels) <= {*names, "unknown"}


def test_arguments_are_checked_as_options_are(model: Foreign, images: Tensor) -> None:
    names = np.array([f"class {i}" for i in range(10)])
    given = {"epochs": np.int64(1), "batch_size": np.int64(8), "device": torch.device("cpu")}
    found = dabench.adapt(model, images, "shot", classes=names, **given)
    assert found.classes == tuple(names)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"batch_size": 0}, "--batch-size 0: expected 1 or more"),
        ({"epochs": -1}, "--epochs -1: expected 0 or more"),
        ({"epochs": 1.5}, "--epochs '1.5': expected a whole number"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"device": "gpu"}, "--device 'gpu': expected auto, cpu"),
        ({"classes": ["a"] * 10}, "expected two or more different names"),
    ]
    for arguments, message in wrong:
        for method in ("shot", "tent"):
            with pytest.raises(ConfigError, match=message):
                dabench.adapt(model, images, method, **arguments)
    with pytest.raises(ConfigError, match="batch_size 1: shot trains by batches"):
        dabench.adapt(model, images, "shot", batch_size=1)
    for arguments in ({"batch_size": 0}, {"seed": -1}, {"classes": "ab"}, {"classes": 3}):
        with pytest.raises(ConfigError, match="expected"):
            dabench.online(model, "tent", **arguments)  # type: ignore[arg-type]


def test_a_stream_is_where_it_is_asked_to_be(model: Foreign, images: Tensor) -> None:
    here = dabench.adapt(model, images, "tent", batch_size=8)
    with pretended_device():
        there = dabench.adapt(model.to("cuda"), images, "tent", batch_size=8, device="cuda")
        assert {p.device.type for p in there.model.parameters()} == {"cuda"}
        back = dabench.adapt(model, images, "tent", batch_size=8)
        assert {p.device.type for p in back.model.parameters()} == {"cpu"}
    for found in (there, back):
        assert np.array_equal(found.after.confidence, here.after.confidence)
        assert np.array_equal(found.before.confidence, here.before.confidence)


def test_what_adapt_refuses(model: Foreign, images: Tensor) -> None:
    with pytest.raises(ConfigError, match="cabb trains a network of its own"):
        dabench.adapt(model, images, "cabb")
    with pytest.raises(ConfigError, match="tent answers streams, and knows no unknown"):
        dabench.adapt(model, images, "tent", open_set=True)
    with pytest.raises(ConfigError, match="weights: tent adapts the model itself"):
        dabench.adapt(model, images, "tent", weights="none")
    with pytest.raises(ConfigError, match="epochs=3: tent answers a stream, once; leave it out"):
        dabench.adapt(model, images, "tent", epochs=3)
    with pytest.raises(ConfigError, match="init 'foo': expected source or bn-target"):
        dabench.adapt(model, images, "shot", init="foo")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"\(1, 3, 32, 32\)|images are"):
        dabench.adapt(model, images[:1], "shot")
    with pytest.raises(DataError, match="expected two or more"):
        dabench.adapt(model, np.zeros((4, 8, 8, 3)), "shot")


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (torch.randn(4, 3, 32, 32), r"expected \[0, 1\], not normalised: .* dabench.adapt"),
        (255 * torch.rand(4, 3, 32, 32), r"expected \[0, 1\]"),
        (torch.full((4, 3, 32, 32), torch.nan), r"between nan and nan; expected \[0, 1\]"),
        (np.zeros((4, 32, 48, 3), np.uint8), "images are 32 x 48 px, and methods expect squares"),
        ([np.zeros((32, 32, 3), np.uint8)] * 4, "images are a list; expected two or more"),
        (torch.zeros(0, 3, 32, 32), "expected two or more"),
    ],
)
def test_pictures_that_adapt_refuses(model: Foreign, pictures: Any, message: str) -> None:
    for method in ("shot", "tent"):
        with pytest.raises((ConfigError, DataError), match=message):
            dabench.adapt(model, pictures, method)


# -- run


class Fixed(OnlineMethod):
    """Always answers class 0."""

    def step(self, batch: TargetBatch) -> Tensor:
        return self.predict(batch.images).logits

    def predict(self, images: Tensor) -> Prediction:
        logits = torch.zeros(len(images), self.access.task.num_classes)
        logits[:, 0] = 1.0
        return Prediction(logits)


def test_run_takes_names_and_classes_that_can_be_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dabench.registry.plugins import reference_of

    assert reference_of("usd") == "usd"
    assert reference_of(registry.method("usd")) == "usd"
    with pytest.raises(ConfigError, match="cannot be imported again"):
        reference_of(type("Local", (Fixed,), {"__qualname__": "f.<locals>.Local"}))
    # a notebook's module has no file
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    cell = type("Mine", (Fixed,), {"__module__": "__main__"})
    with pytest.raises(ConfigError, match=r"'%%writefile mine.py'.* name 'mine.py:Mine'"):
        dabench.run(cell)
    with pytest.raises(ConfigError, match="unknown option 'epoch'; did you mean 'epochs'"):
        dabench.run("usd", epoch=3)


@pytest.mark.slow
def test_run_is_the_command_line(tmp_path: Any, drawn: Any) -> None:
    given: dict[str, Any] = {"results": tmp_path / "r", "cache_dir": drawn, "threads": 1}
    given |= {"source_epochs": 1, "epochs": 1, "device": "cpu"}
    first = dabench.run("source", protocol="sf-osda", **given)
    words = "run --method source --protocol sf-osda --threads 1 --source-epochs 1 --epochs 1"
    places = ["--results", str(tmp_path / "cli"), "--cache-dir", str(drawn)]
    assert main([*words.split(), "--device", "cpu", "--no-progress", *places]) == 0
    ((path, typed),) = Store(tmp_path / "cli").read()
    assert (path.name, typed["scores"]) == (first.path.name, load_record(first.path)["scores"])
    assert first.scores["HOS"] in {score["value"] for score in typed["scores"]}
    again = dabench.run("source", protocol="sf-osda", **given)
    assert again.existed
    assert again.run_id == first.run_id
    frame = dabench.load_results(tmp_path / "r")
    assert set(frame["run_id"]) == {first.run_id}
    assert dataclasses.is_dataclass(first)
