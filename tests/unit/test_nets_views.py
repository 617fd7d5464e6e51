"""Networks, views, target batches and the cost counter."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dabench
from dabench import views
from dabench.contract.access import Unlabelled, survey_size
from dabench.contract.floats import to_float
from dabench.contract.network import Network
from dabench.engine.setup import environment
from dabench.errors import CacheError, ConfigError, DataError
from dabench.networks.batchnorm import reestimate_batchnorm
from dabench.networks.network import ClassifierNetwork, build_classifier, trunk_stages
from dabench.networks.weight_files import read_state

PICTURES = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3), dtype=np.uint8)


def net(classes: int = 4, *, plain: bool = False) -> Network:
    torch.manual_seed(0)
    return build_classifier("small-cnn", "none", classes, plain=plain)


# -- views ---------------------------------------------------------------------------------------


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "weak": lambda x: views.weak(x, flip=True),
    "weak without flip": lambda x: views.weak(x, flip=False),
    "strong": lambda x: views.strong(x, flip=True),
    "strong without flip": lambda x: views.strong(x, flip=False),
    "affine": lambda x: views.affine(x, rotate=0.3, scale=0.2, translate=0.1, flip=False),
    "colour": lambda x: views.colour(x, brightness=0.4, contrast=0.4, saturation=0.4),
    "erase": lambda x: views.erase(x, share=0.25),
    "blur": lambda x: views.blur(x, most=1.0),
}


@pytest.mark.parametrize("name", list(VIEWS))
def test_equal_images_of_a_batch_are_treated_differently(name: str) -> None:
    torch.manual_seed(0)
    image = to_float(PICTURES[:1])
    out = VIEWS[name](image.expand(6, -1, -1, -1).clone())
    different = {out[i].numpy().tobytes() for i in range(6)}
    assert len(different) >= 5


@pytest.mark.parametrize("name", list(VIEWS))
def test_views_keep_shape_and_range_and_their_input(name: str) -> None:
    torch.manual_seed(0)
    extreme = torch.rand(16, 3, 32, 32).round()
    before = extreme.clone()
    out = VIEWS[name](extreme)
    assert out.shape == extreme.shape
    assert out.dtype == torch.float32
    assert float(out.min()) >= -1e-6
    assert float(out.max()) <= 1 + 1e-6
    assert torch.equal(extreme, before)


def test_views_draw_from_torchs_generator() -> None:
    images = to_float(PICTURES[:4])
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(views.strong(images, flip=True))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_identity_affine_changes_nothing() -> None:
    images = to_float(PICTURES[:4])
    same = views.affine(images, rotate=0.0, scale=0.0, translate=0.0, flip=False)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    torch.manual_seed(0)
    images = to_float(PICTURES[:1]).expand(200, -1, -1, -1)
    out = views.affine(images, rotate=0.0, scale=0.0, translate=0.0, flip=True)
    mirrored = [torch.allclose(o, images[0].flip(-1), atol=1e-4) for o in out]
    kept = [torch.allclose(o, images[0], atol=1e-4) for o in out]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 60 < sum(mirrored) < 140


# -- networks ------------------------------------------------------------------------------------


def test_a_frozen_trunk_stays_in_eval_without_gradient() -> None:
    model = net()
    stages = trunk_stages(model.backbone)
    model.freeze_trunk(2)
    model.train()
    before = copy.deepcopy([stage.state_dict() for stage in stages[:2]])
    assert not any(m.training for stage in stages[:2] for m in stage.modules())
    assert all(m.training for m in stages[2].modules())
    torch.autograd.backward(model(to_float(PICTURES[:8])).sum())
    assert all(p.grad is None for stage in stages[:2] for p in stage.parameters())
    assert all(p.grad is not None for p in stages[2].parameters())
    for stage, old in zip(stages[:2], before, strict=True):
        assert all(torch.equal(old[k], v) for k, v in stage.state_dict().items())
    listed = [p for group in model.parameter_groups(0.1) for p in group["params"]]
    assert all(p.requires_grad for p in listed)
    twin = copy.deepcopy(model).train()
    assert not any(m.training for s in trunk_stages(twin.backbone)[:2] for m in s.modules())


@pytest.mark.parametrize("stages", [-1, 99])
def test_a_trunk_has_so_many_stages(stages: int) -> None:
    with pytest.raises(ConfigError, match="--freeze"):
        net().freeze_trunk(stages)


@pytest.mark.parametrize("plain", [False, True])
def test_a_whole_trunk_freezes(plain: bool) -> None:
    """What stands beside the stages, too: positions and class token of a transformer."""
    model = net(plain=plain)
    model.backbone.register_parameter("positions", torch.nn.Parameter(torch.zeros(2)))
    model.freeze_trunk("all")
    model.train()
    assert not any(m.training for m in model.backbone.modules())
    assert model.classifier.training
    listed = {id(p) for group in model.parameter_groups(0.1) for p in group["params"]}
    heads = [*model.bottleneck.parameters(), *model.classifier.parameters()]
    assert listed == {id(p) for p in heads}
    assert not any(p.requires_grad for p in model.backbone.parameters())


@pytest.mark.parametrize("plain", [False, True])
def test_an_appended_class_keeps_the_known_logits(plain: bool) -> None:
    model = net(plain=plain).eval()
    images = to_float(PICTURES[:8])
    before = model(images).detach()
    norms = model.classifier.weight.detach().norm(dim=1)
    model.append_class(torch.Generator().manual_seed(0))
    after = model(images).detach()
    assert after.shape == (8, 5)
    torch.testing.assert_close(after[:, :4], before, atol=1e-5, rtol=1e-5)
    new = model.classifier.weight.detach()[4]
    torch.testing.assert_close(new.norm(), norms.mean())
    assert float(model.classifier.bias.detach()[4]) == 0.0
    assert hasattr(model.classifier, "parametrizations") is not plain
    other = net(plain=plain)
    other.append_class(torch.Generator().manual_seed(0))
    assert torch.equal(other.classifier.weight[4], model.classifier.weight[4])


def test_a_class_is_appended_to_a_head_without_a_bias() -> None:
    model = net(plain=True).eval()
    model.classifier = nn.Linear(model.classifier.in_features, 4, bias=False)
    images = to_float(PICTURES[:8])
    before = model(images).detach()
    model.append_class(torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images).detach()[:, :4], before, atol=1e-5, rtol=1e-5)
    assert not model.classifier.bias.any()


class Tiny(nn.Module):
    """BatchNorm straight on the pixels, or nothing."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(images).flatten(1)
        return out


def test_reestimated_batchnorm_is_the_mean_and_variance_of_a_batch() -> None:
    model = ClassifierNetwork(Tiny(True), 3 * 32 * 32, 4, bottleneck=0).eval()
    images = to_float(PICTURES)
    reestimate_batchnorm(model, [images])
    seen = (images - model.mean) / model.std
    norm = model.backbone.norm
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen.transpose(0, 1).flatten(1).var(dim=1))
    assert norm.momentum == 0.1
    assert not any(m.training for m in model.modules())


def test_reestimated_batchnorm_averages_over_batches_and_keeps_weights() -> None:
    model = net()
    weights = {k: v.clone() for k, v in model.named_parameters()}
    batches = [to_float(PICTURES[:16]), to_float(PICTURES[16:32])]
    reestimate_batchnorm(model, batches)
    assert all(torch.equal(weights[k], v) for k, v in model.named_parameters())
    first = model.backbone.blocks[0]
    means = [first[0]((b - model.mean) / model.std).mean(dim=(0, 2, 3)) for b in batches]
    torch.testing.assert_close(first[1].running_mean, (means[0] + means[1]) / 2)


def test_reestimated_batchnorm_weighs_batches_by_their_images() -> None:
    model = net()
    batches = [to_float(PICTURES[:24]), to_float(PICTURES[24:32]), to_float(PICTURES[32:])]
    reestimate_batchnorm(model, batches)  # the last holds one image, which the bottleneck refuses
    first = model.backbone.blocks[0]
    means = [first[0]((b - model.mean) / model.std).mean(dim=(0, 2, 3)) for b in batches]
    torch.testing.assert_close(first[1].running_mean, 0.75 * means[0] + 0.25 * means[1])


def test_frozen_stages_are_reestimated_and_stay_in_eval() -> None:
    model = net()
    model.freeze_trunk(1)
    before = model.backbone.blocks[0][1].running_mean.clone()
    reestimate_batchnorm(model, [to_float(PICTURES)])
    assert not torch.equal(before, model.backbone.blocks[0][1].running_mean)
    model.train()
    assert not model.backbone.blocks[0][1].training


def test_without_batchnorm_there_is_nothing_to_reestimate() -> None:
    model = ClassifierNetwork(Tiny(False), 3 * 32 * 32, 4, bottleneck=0)
    with pytest.raises(ConfigError, match="--init source"):
        reestimate_batchnorm(model, [to_float(PICTURES)])


def test_images_are_counted() -> None:
    model = net()
    images = to_float(PICTURES[:5])
    model(images)
    with torch.no_grad():
        model(images)
    assert (model.cost.forward, model.cost.backward) == (10, 5)
    with model.cost.pause():
        model(images)
        with model.cost.pause():
            model(images)
        model(images)
    assert (model.cost.forward, model.cost.backward) == (10, 5)
    copy.deepcopy(model)(images)  # a teacher's images count for its method
    assert (model.cost.forward, model.cost.backward) == (15, 10)


def test_unknown_backbones_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_classifier("resnt18", "none", 3)
    with pytest.raises(ConfigError, match="no pretrained"):
        build_classifier("small-cnn", "pretrained", 3)


def test_weights_by_path(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(net().backbone.state_dict(), path)
    torch.manual_seed(7)
    loaded = build_classifier("small-cnn", str(path), 9)
    for key, value in net().backbone.state_dict().items():
        assert torch.equal(value, loaded.backbone.state_dict()[key])
    with pytest.raises(ConfigError, match="no such file"):
        build_classifier("small-cnn", str(tmp_path / "absent.pt"), 3)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CacheError, match=r"weights\.pt"):
        build_classifier("small-cnn", str(path), 3)
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(CacheError, match="missing"):
        build_classifier("small-cnn", str(path), 3)


@pytest.mark.parametrize("damage", ["empty", "cut", "one bit", "a list"])
def test_damaged_weights_are_named_in_one_line(tmp_path: Path, damage: str) -> None:
    """A flipped bit, too: torch itself takes it for a weight."""
    path = tmp_path / "weights.pt"
    torch.save({"x": torch.full((64,), 0.5)}, path)
    content = bytearray(path.read_bytes())
    content[content.find(torch.full((64,), 0.5).numpy().tobytes()) + 7] ^= 1
    if damage == "a list":
        torch.save([1], path)
    else:
        path.write_bytes({"empty": b"", "cut": content[:200], "one bit": content}[damage])
    with pytest.raises(CacheError, match=r"--weights .*weights\.pt[ :]") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


# -- target batches ------------------------------------------------------------------------------


def test_a_last_batch_of_one_is_left_out_of_a_shuffled_epoch() -> None:
    target = Unlabelled(PICTURES, np.arange(33))
    shuffled = target.loader(16, shuffle=True, seed=3)
    sizes = [len(batch.images) for batch in shuffled]
    assert sizes == [16, 16]
    assert len(shuffled) == 2
    in_order = target.loader(16)
    index = torch.cat([batch.index for batch in in_order])
    assert index.tolist() == list(range(33))
    assert len(in_order) == 3
    assert [len(b.images) for b in target.loader(31, shuffle=True)] == [31, 2]


def test_epochs_differ_and_seeds_repeat() -> None:
    target = Unlabelled(PICTURES, np.arange(33))

    def epochs(seed: int) -> list[list[int]]:
        loader = target.loader(8, shuffle=True, seed=seed)
        return [torch.cat([b.index for b in loader]).tolist() for _ in range(2)]

    assert epochs(0) == epochs(0)
    assert epochs(0) != epochs(1)
    assert epochs(0)[0] != epochs(0)[1]


def test_positions_point_into_the_part() -> None:
    rows = np.array([4, 9, 30])
    target = Unlabelled(PICTURES, rows)
    batch = target.__getitems__([2, 0])
    assert batch.index.tolist() == [2, 0]
    torch.testing.assert_close(batch.images, to_float(PICTURES[[30, 4]]))
    assert batch.images.dtype == torch.float32
    assert 0 <= float(batch.images.min()) <= float(batch.images.max()) <= 1


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_are_refused(count: int) -> None:
    with pytest.raises(DataError, match="at least 2"):
        Unlabelled(PICTURES, np.arange(count))


def test_a_pass_over_large_images_takes_fewer_at_once() -> None:
    assert [survey_size(side) for side in (32, 64, 128, 224, 1024)] == [256, 256, 64, 20, 8]
    images = np.zeros((100, 128, 128, 3), dtype=np.uint8)
    batches = list(Unlabelled(images, np.arange(100)).survey())
    assert [len(batch.index) for batch in batches] == [64, 36]


def test_keeping_memory_leaves_a_users_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[int, ...]] = []
    monkeypatch.setattr(environment, "set_thresholds", lambda *sizes: called.append(sizes))
    for name in environment._USER_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    assert environment.keep_freed_memory()
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    assert not environment.keep_freed_memory()
    monkeypatch.delenv("MALLOC_TOP_PAD_")
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not environment.keep_freed_memory()
    assert len(called) == 1


@pytest.mark.parametrize("name", ["blocks", "features", "stages", "layers", "trunk_output"])
@pytest.mark.parametrize("container", [lambda blocks: nn.Sequential(*blocks), nn.ModuleList])
def test_a_container_of_blocks_is_opened(name: str, container: Any) -> None:
    """As torchvision and timm call them: else ``--freeze 2`` would be the whole trunk."""
    backbone = nn.Module()
    backbone.stem = nn.Conv2d(3, 4, 1)
    blocks = [nn.Conv2d(4, 4, 1) for _ in range(3)]
    setattr(backbone, name, container(blocks))
    assert trunk_stages(backbone) == [backbone.stem, *blocks]


def test_a_record_knows_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        own = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(tmp_path), *own, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    package = tmp_path / "dabench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(dabench, "__file__", str(package / "__init__.py"))
    assert environment.process_environment("cpu", 1)["git_commit"] is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    head = git("rev-parse", "--short=12", "HEAD")
    assert environment.process_environment("cpu", 1)["git_commit"] == head
    (package / "__init__.py").write_text("changed = 1\n")
    assert environment.process_environment("cpu", 1)["git_commit"] == f"{head}+"
    monkeypatch.undo()
    root = Path(dabench.__file__).resolve().parents[1]
    if (root / ".git").exists():
        assert environment.process_environment("cpu", 1)["git_commit"]
