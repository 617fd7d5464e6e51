"""Protocols on a few embedded images, with a source model: what promises are tried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dabench import registry
from dabench.contract.access import Budget, Recorder
from dabench.contract.data import DataRequest, DenseData, DomainData, Frames, Labelled
from dabench.contract.protocol import DensePlan, Outcome, Plan, Remote, Resume, Run, StreamPlan
from dabench.networks.dense import build_segmenter
from dabench.networks.network import build_classifier
from dabench.oracle.answer_forms import AnswerForm
from dabench.oracle.client import OracleClient
from dabench.oracle.in_process import InProcess
from dabench.source_models import classifier, loading
from dabench.source_models.statistics import compute_statistics

PER_CLASS = 20
EPOCHS = 2
#: images a batch: offline, on a stream
OFFLINE_BATCH, STREAM_BATCH = 32, 20
SIDE = 32
#: options that keep a protocol's stream short
STREAM_OPTIONS: dict[str, dict[str, Any]] = {
    "gradual-weather": {"weather": "fog"},
    "online-tta": {"shifts": "fog:5,rain:3"},
    "continual-tta": {"shifts": "fog:5,low-light:3"},
    "online-seg": {"schedule": "cycle"},
}
AnyPlan = Plan | StreamPlan | DensePlan


@dataclasses.dataclass(frozen=True)
class Bench:
    """A protocol with its plan of a few images, and what a method starts from.

    Attributes:
        protocol: what runs.
        plan: frozen.
        network: the source model.
        start: what a method starts from; in black-box protocols what answers for the network.
        unnormalised: the same of a network with LayerNorm in place of BatchNorm.
        batch_size: images a batch.
    """

    protocol: Any
    plan: Any
    network: Any
    start: Any
    unnormalised: Any
    batch_size: int

    @property
    def online(self) -> bool:
        """Whether batches are pushed one by one."""
        return bool(getattr(self.protocol, "online", False))

    def run(
        self,
        build: Callable[[], Any],
        plan: AnyPlan | None = None,
        *,
        start: Any = None,
        resume: Resume | None = None,
        recorder: Recorder | None = None,
        device: str = "cpu",
    ) -> Outcome:
        """Run a method under the protocol.

        Args:
            build: makes the method; a stream may ask for several.
            plan: another one in place of the bench's.
            start: another network, or oracle.
            resume: where a checkpoint of a stream lies.
            recorder: takes the method's inner figures.
            device: where the method computes.
        """
        used: Any = plan or self.plan
        run = Run(
            *("source", Budget(1 if self.online else EPOCHS, self.batch_size), 0, device),
            recorder=recorder or Recorder(),
            progress=False,
            resume=resume,
            source_parts=lambda method: _drawn(method, self.start, self.plan.task),
            source_statistics=lambda: compute_statistics(
                start or self.start, used.source, used.task.num_classes, device
            ),
        )
        outcome: Outcome = self.protocol.run(build, used, start or self.start, run)
        return outcome


def _drawn(method: Any, network: Any, task: Any) -> nn.Module:
    """Return a method's source parts as they are drawn: they are not trained here."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made: nn.Module = method.source_parts(network, task)
    return made.eval()


class Workbench:
    """Makes benches by the name of a protocol, each once.

    Args:
        cache_dir: takes the drawn digits and the source models.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self._benches: dict[str, Bench] = {}
        self._digits: DomainData | None = None

    @property
    def digits(self) -> DomainData:
        """Real digits, a few images a class."""
        if self._digits is None:
            request = DataRequest("print", "handwritten", SIDE, None, self.cache_dir)
            data: DomainData = registry.dataset("digits")().load(request)
            self._digits = dataclasses.replace(
                data,
                source_train=thinned(data.source_train, 2 * PER_CLASS),
                source_val=None,
                target_all=thinned(data.target_all, PER_CLASS),
            )
        return self._digits

    @property
    def two_sources(self) -> DomainData:
        """The same with a second source: other printed digits than the first's."""
        first, second = (thinned(self.digits.source_train, PER_CLASS, n) for n in (0, PER_CLASS))
        other = dataclasses.replace(self.digits, source="other", source_train=second)
        return dataclasses.replace(
            self.digits, source="print,other", source_train=first, more=(other,)
        )

    @property
    def one_domain(self) -> DomainData:
        """The same with one domain for everything, whose shift is weather."""
        digits = self.digits
        return dataclasses.replace(digits, source=digits.target, source_train=digits.target_all)

    def bench(self, name: str) -> Bench:
        """Return the bench of a registered protocol."""
        if name not in self._benches:
            self._benches[name] = self.make(registry.protocol(name)(**STREAM_OPTIONS.get(name, {})))
        return self._benches[name]

    def make(
        self,
        protocol: Any,
        answerer: type[InProcess] = InProcess,
        form: AnswerForm = AnswerForm("soft"),  # noqa: B008
    ) -> Bench:
        """Make the bench of any protocol.

        Args:
            protocol: an instance.
            answerer: what answers for a source model that is a black box.
            form: what its interface gives away.
        """
        if getattr(protocol, "kind", "classification") == "segmentation":
            return _dense_bench(protocol)
        online = bool(getattr(protocol, "online", False))
        size = STREAM_BATCH if online else OFFLINE_BATCH
        recipe = classifier.Recipe("small-cnn", "none", 4 if online else EPOCHS)

        def trained(plan: AnyPlan) -> loading.SourceModel:
            return loading.load_or_train(recipe, plan, 0, self.cache_dir, "cpu", False)

        if getattr(protocol, "several_sources", False):
            plan = protocol.plan(self.two_sources, size, 0)
            k = plan.task.num_classes
            plans = dict(zip(("print", "other"), (plan, *plan.more), strict=True))
            networks = {name: trained(own).network for name, own in plans.items()}
            vits = {name: _network("small-vit", k, i) for i, name in enumerate(plans)}
            return Bench(protocol, plan, networks["print"], networks, vits, size)
        plan = protocol.plan(self.one_domain if online else self.digits, size, 0)
        model, k = trained(plan), plan.task.num_classes
        if not getattr(protocol, "black_box", False):
            vit = _network("small-vit", k, 0)
            return Bench(protocol, plan, model.network, model.network, vit, size)
        parts = (model, plan, answerer, form)
        starts = (remote(*parts), remote(*parts, backbone="small-vit"))
        return Bench(protocol, plan, model.network, *starts, size)


def remote(
    model: loading.SourceModel,
    plan: Plan,
    answerer: type[InProcess],
    form: AnswerForm,
    backbone: str = "small-cnn",
) -> Remote:
    """Put a source model behind an oracle in this process, with fresh target networks."""
    task = plan.task
    made = answerer(model, task.classes, task.image_size, form, "cpu")
    return Remote(
        lambda cost: OracleClient(made, task, cost, None, None),
        lambda seed: _network(backbone, task.num_classes, seed),
    )


def _network(backbone: str, classes: int, seed: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_classifier(backbone, "none", classes)


def thinned(data: Labelled, per_class: int, first: int = 0) -> Labelled:
    """Keep so many images of every class from ``first`` on, in their order."""
    rows = [np.flatnonzero(data.labels == c)[first:][:per_class] for c in np.unique(data.labels)]
    kept = np.sort(np.concatenate(rows))
    return Labelled(data.images[kept], data.labels[kept], f"{data.digest}-{first}-{per_class}")


def _dense_bench(protocol: Any) -> Bench:
    """Return a bench of made-up frames: blocks of colour, one for each class."""
    names: dict[str, Any] = {"dataset": "made-up", "source": "a", "target": "b"}
    data = DenseData(
        **names,
        classes=("road", "tree", "sky"),
        image_size=24,
        width=32,
        source_train=_frames(0),
        source_val=_frames(1),
        target_all=_frames(2),
        subsets={},
    )
    plan = protocol.plan(data, 1, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_segmenter("small-seg", "none", 3).eval()
    return Bench(protocol, plan, network, network, None, 1)


def _frames(seed: int, count: int = 9) -> Frames:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 3, (count, 3, 4)).repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    images = rng.integers(0, 130, (*masks.shape, 3)) + 90 * np.eye(3, dtype=np.int64)[masks]
    return Frames(images.astype(np.uint8), masks, f"made-up-{seed}")
