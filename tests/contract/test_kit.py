"""The kit can fail: for every promise a method that breaks it, and is told so."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from dabench import registry
from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.testing import PROMISES, BrokenPromise, Case, Workbench, check_method

PROTOCOL = "gradual-weather"


class Honest(OnlineMethod):
    """Moves the bias of the classifier by the mean of its logits, and keeps all promises.

    Args:
        rate: of the moves.
    """

    rate: float = 0.1

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.net = access.source_model.eval()

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        logits: Tensor = self.net(batch.images)
        self.net.classifier.bias -= self.rate * logits.mean(0)
        return logits

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images))


class Undocumented(Honest):
    """Has an option of which it says nothing."""

    depth: int = 3


class Infinite(Honest):
    """Gives logits that are no numbers when it is asked, but not while it learns."""

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images) / 0.0)


class Crowded(Honest):
    """Normalises by the deviation over the batch, which one image has not."""

    def predict(self, images: Tensor) -> Prediction:
        logits = self.net(images)
        return Prediction(logits / logits.std(0, keepdim=True))


class Restless(Honest):
    """Remembers that it was asked, outside its weights."""

    asked: int = 0

    def predict(self, images: Tensor) -> Prediction:
        self.asked += 1
        return Prediction(self.net(images) * (1 + 0.1 * self.asked))


class Moody(Honest):
    """Counts its instances, and answers by the count."""

    count: ClassVar[int] = 0

    def begin(self, access: Online) -> None:
        super().begin(access)
        Moody.count += 1

    def step(self, batch: TargetBatch) -> Tensor:
        return super().step(batch) * (1 + 0.1 * (Moody.count % 7))


def of_the_protocol() -> Any:
    """Return the runner in whose frame this is called: no method may do so."""
    import sys

    frame = sys._getframe()
    while "self" not in frame.f_locals or not hasattr(frame.f_locals["self"], "batches"):
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_locals["self"]


class Peeking(Honest):
    """Reads labels from the protocol's frame."""

    def step(self, batch: TargetBatch) -> Tensor:
        logits = super().step(batch)
        logits[:, 0] += float(of_the_protocol().plan.truth[:5].sum())
        return logits


class Foreseeing(Honest):
    """Reads ahead."""

    def step(self, batch: TargetBatch) -> Tensor:
        logits = super().step(batch)
        _, rows = of_the_protocol().batches[-1]
        logits[:, 0] += float(rows[0])
        return logits


class Forgetful(Honest):
    """Keeps a number that no checkpoint has."""

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.speed = 0.0

    def step(self, batch: TargetBatch) -> Tensor:
        self.speed += 1.0
        return super().step(batch) * (1 + self.speed)


class Narrow(Honest):
    """Takes it for granted that there is a BatchNorm layer."""

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.norm = next(m for m in self.net.modules() if isinstance(m, torch.nn.BatchNorm2d))


class Careless(Honest):
    """Begins before anybody looks at what it asks for."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.grant = Online  # whatever a subclass wishes


class Narrowed(Honest):
    """Answers for fewer classes than there are."""

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images)[:, :-1])


class Suspicious(Honest):
    """Knows unknown images where no class is unknown."""

    def predict(self, images: Tensor) -> Prediction:
        logits = self.net(images)
        return Prediction(logits, logits[:, 0])


class Noisy(Honest):
    """Answers by chance."""

    def predict(self, images: Tensor) -> Prediction:
        logits = self.net(images)
        return Prediction(logits + torch.randn_like(logits))


class Drawing(Honest):
    """Draws a random number that it has no use for."""

    def predict(self, images: Tensor) -> Prediction:
        torch.rand(1)
        return Prediction(self.net(images))


class Switching(Honest):
    """Leaves the mode that it was in."""

    def predict(self, images: Tensor) -> Prediction:
        self.net.classifier.train()
        return Prediction(self.net(images))


class Fragile(Honest):
    """Loses itself on a network without BatchNorm."""

    def step(self, batch: TargetBatch) -> Tensor:
        logits = super().step(batch)
        normalised = any(isinstance(m, torch.nn.BatchNorm2d) for m in self.net.modules())
        return logits if normalised else logits * torch.nan


class Resting(registry.method("source")):  # type: ignore[misc]
    """The source model, offline."""


class Credulous(Resting):
    """Calls no image unknown in an open set."""

    def predict(self, images: Tensor) -> Prediction:
        logits = super().predict(images).logits
        return Prediction(logits, logits[:, 0])


class Gambling(Resting):
    """Answers a little by chance."""

    def predict(self, images: Tensor) -> Prediction:
        found = super().predict(images)
        return Prediction(found.logits + 1e-5 * torch.randn_like(found.logits))


class Shuffling(Resting):
    """Draws a random number that it has no use for."""

    def predict(self, images: Tensor) -> Prediction:
        torch.rand(1)
        return super().predict(images)


class Embellishing(Resting):
    """Adds to the answers of the network that it leaves behind."""

    def predict(self, images: Tensor) -> Prediction:
        logits = super().predict(images).logits
        return Prediction(logits + torch.arange(logits.shape[1]))


#: promise -> who breaks it, under which protocol, and what is said
BREAKERS: dict[str, list[tuple[Any, str, str]]] = {
    "hyper-parameters are documented": [(Undocumented, PROTOCOL, "lacks depth")],
    "a wrong grant is refused": [(Careless, PROTOCOL, "asks for source images")],
    "outputs are finite and have their form": [
        # under a protocol that does not ask predict: others refuse them before
        (Infinite, "online-tta", "logits that are not finite"),
        (Narrowed, "online-tta", "predict gave logits of"),
        (Suspicious, PROTOCOL, "unknown_score where no class is unknown"),
        (Credulous, "sf-osda", "in an open set predict has to give"),
    ],
    "a batch of one image works": [(Crowded, PROTOCOL, "single image")],
    "predict changes nothing": [
        (Restless, PROTOCOL, "answers otherwise when it is asked again"),
        (Noisy, PROTOCOL, "answers otherwise when it is asked again"),
        (Drawing, PROTOCOL, "moved random numbers"),
        (Switching, PROTOCOL, "switched modules"),
        (Gambling, "sf-uda", "answers otherwise when it is asked again"),
        (Shuffling, "sf-uda", "moved random numbers"),
    ],
    "the kept network gives its answers": [(Embellishing, "sf-uda", "answers otherwise than")],
    "same seed, same bytes": [(Moody, PROTOCOL, "same seed answers otherwise")],
    "labels do not matter": [(Peeking, PROTOCOL, "follow the target's labels")],
    "the future does not matter": [(Foreseeing, PROTOCOL, "batches that come later")],
    "a killed run goes on bit for bit": [(Forgetful, PROTOCOL, "resumed stream answers otherwise")],
    "LayerNorm works or is refused": [
        (Narrow, PROTOCOL, "ends in StopIteration"),
        (Fragile, PROTOCOL, "ends in DivergenceError"),
    ],
}


@pytest.mark.slow
def test_an_honest_method_keeps_them_all(workbench: Workbench) -> None:
    verdicts = list(check_method(Honest, (PROTOCOL,), workbench))
    assert [verdict.promise for verdict in verdicts] == list(PROMISES)
    assert [(v.promise, v.why) for v in verdicts if not v.kept] == []


def test_every_promise_has_somebody_who_breaks_it() -> None:
    assert set(BREAKERS) == set(PROMISES)


@pytest.mark.parametrize(
    ("promise", "breaker", "protocol", "said"),
    [
        pytest.param(promise, *one, id=f"{promise}-{one[0].__name__}")
        for promise, several in BREAKERS.items()
        for one in several
    ],
)
def test_who_breaks_a_promise_is_told(
    workbench: Workbench, promise: str, breaker: Any, protocol: str, said: str
) -> None:
    with pytest.raises(BrokenPromise, match=said):
        PROMISES[promise][0](Case(workbench.bench(protocol), breaker))


@pytest.mark.slow
def test_the_kit_knows_segmentation(workbench: Workbench) -> None:
    verdicts = list(check_method(registry.method("tent"), ("online-seg",), workbench))
    assert {verdict.promise for verdict in verdicts} == set(PROMISES) - {
        "LayerNorm works or is refused"
    }
    assert [(v.promise, v.why) for v in verdicts if not v.kept] == []
