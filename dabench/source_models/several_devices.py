"""Training a classifier on several devices: a process each, by Lightning Fabric's DDP.

Every process takes its part of each batch; gradients are averaged before each step, so that all
hold the same weights. BatchNorm normalises by the images of its own device; the statistics that
it keeps are those of the first one.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch.utils.data import BatchSampler, RandomSampler
from tqdm import tqdm

from dabench import views
from dabench.config.devices import check_devices
from dabench.contract.data import Labelled
from dabench.contract.decay import DecayingSGD
from dabench.contract.floats import to_float
from dabench.contract.network import Network
from dabench.contract.seeding import seed, seed_everything
from dabench.contract.types import IntArray, Task
from dabench.errors import ConfigError
from dabench.networks.network import build_classifier
from dabench.networks.tensor_files import save_tensors
from dabench.source_models.classifier import Recipe, learn
from dabench.source_models.device_processes import launch

_TITLE = "source training"
#: what the processes are told, and the network before and after
_TOLD, _STATE = "part.pickle", "state.pt"
#: BatchNorm has no statistics of one image
LEAST_IMAGES = 2


@dataclass(frozen=True)
class _Part:
    """What each process is told: a network with normalised weights cannot be pickled."""

    recipe: Recipe
    data: Labelled
    rows: IntArray
    task: Task
    base_seed: int
    threads: int
    progress: bool


def fit_on_devices(
    net: Network,
    data: Labelled,
    rows: IntArray,
    recipe: Recipe,
    task: Task,
    base_seed: int,
    progress: bool,
) -> None:
    """Train a network as ``fit_supervised`` does, by ``recipe.devices`` of its kind of device.

    The global batch and its order are those of one device; each draws views of its own.

    Raises:
        ConfigError: more devices than there are, or than a batch is enough for.
        TrainingError: the loss is not finite on one of them, or a process was killed.
    """
    devices, device = recipe.devices, net.mean.device
    check_devices(devices, device.type)
    images = min(recipe.batch_size, len(rows))
    if images < LEAST_IMAGES * devices:
        raise ConfigError(
            f"--devices {devices}: a batch has {images} images, and each device needs "
            f"{LEAST_IMAGES} of them; give {max(1, images // LEAST_IMAGES)} or fewer"
        )
    threads = max(1, torch.get_num_threads() // devices)
    with tempfile.TemporaryDirectory(prefix="dabench-") as folder:
        # by files: a process is started in one go where little goes through its pipe, and may be
        # ended in the middle of its imports
        place = Path(folder)
        part = _Part(recipe, data, rows, task, base_seed, threads, progress)
        (place / _TOLD).write_bytes(pickle.dumps(part))
        _save(net, place)
        launch(partial(_fit, place=place), device.type, devices)
        _load(net, place)
    net.eval()


def device_batches(
    count: int, batch_size: int, devices: int, rank: int, batches_seed: int
) -> Iterator[tuple[int, list[int]]]:
    """Return endless epochs of the batches of one device: images of the whole batch, own positions.

    The parts of a batch differ by one image at most. A last batch that has less than two images a
    device is left out; another epoch draws another one.
    """
    order = RandomSampler(range(count), generator=torch.Generator().manual_seed(batches_seed))
    while True:
        for batch in BatchSampler(order, batch_size, drop_last=False):
            if len(batch) >= LEAST_IMAGES * devices:
                yield len(batch), batch[rank::devices]


def _steps(count: int, batch_size: int, devices: int) -> int:
    return count // batch_size + (count % batch_size >= LEAST_IMAGES * devices)


def _save(net: Network, place: Path) -> None:
    save_tensors({name: value.cpu() for name, value in net.state_dict().items()}, place / _STATE)


def _load(net: Network, place: Path) -> None:
    net.load_state_dict(torch.load(place / _STATE, map_location="cpu", weights_only=True))


def _fit(fabric: Fabric, place: Path) -> None:
    """Run one of the processes."""
    part: _Part = pickle.loads((place / _TOLD).read_bytes())
    torch.set_num_threads(part.threads)
    recipe, task, rank, devices = part.recipe, part.task, fabric.global_rank, fabric.world_size
    net = build_classifier(
        recipe.backbone, "none", task.num_classes, plain=recipe.plain, side=task.image_size
    )
    _load(net, place)
    net.freeze_trunk(recipe.freeze)
    net.train()
    seed_everything(seed(part.base_seed, "source", "device", str(rank)))
    model = fabric.setup_module(net)
    size, count = recipe.batch_size, len(part.rows)
    steps = _steps(count, size, devices)
    groups = net.parameter_groups(recipe.lr, recipe.backbone_factor)
    optimiser = DecayingSGD(groups, total_steps=recipe.epochs * steps)
    labels = torch.from_numpy(part.data.labels[part.rows])
    batches = device_batches(count, size, devices, rank, seed(part.base_seed, _TITLE, "batches"))
    hidden = (not part.progress or rank > 0) or None
    for step in tqdm(range(recipe.epochs * steps), desc=_TITLE, disable=hidden, leave=False):
        whole, own = next(batches)
        images = to_float(part.data.images[part.rows[own]]).to(fabric.device)
        logits = model(views.weak(images, flip=task.flip))
        where = f"{_TITLE}, epoch {step // steps}"
        # the mean over devices is then that over all images of the batch, whatever is left over
        share = len(own) * devices / whole
        truth = labels[own].to(fabric.device)
        learn(logits, truth, optimiser, recipe.label_smoothing, where, share)
    if rank == 0:
        _save(net, place)
