"""The model files of docs/examples: published names, and the networks' equations."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.types import Task
from dabench.networks.foreign_dense import wrap_segmenter
from dabench.networks.weight_files import load_checkpoint

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
K = 19
IMAGES = torch.rand(1, 3, 33, 65, generator=torch.Generator().manual_seed(1))


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return tensors of these names and shapes: small numbers, variances above 0."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.zeros((), dtype=torch.int64)
        else:
            fan = max(1, torch.Size(shape[1:]).numel())
            found[name] = torch.randn(shape, generator=generator) / fan**0.5
            if name.endswith("running_var"):
                found[name] = found[name].abs() + 0.5
    return found


def loaded(model: nn.Module, state: dict[str, Tensor], tmp_path: Path) -> nn.Module:
    """Load a file of these tensors, wrapped as the authors' training code saves it."""
    path = tmp_path / "published.pth"
    torch.save({"state_dict": state}, path)
    load_checkpoint(model, path, "--source-checkpoint")
    return model.eval()


class ByName:
    """Layers by hand from a file's tensors."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, x: Tensor, name: str, **options: Any) -> Tensor:
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, self.state[f"{name}.weight"], bias, **options)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, w, b = (
            self.state[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * w + b).clamp_min(0)


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def deeplab_shapes() -> dict[str, tuple[int, ...]]:
    """Return the published names of DeepLabV3+ on a ResNet-50, written down a second time."""
    trunk = {k: tuple(v.shape) for k, v in resnet50().state_dict().items() if k[:3] != "fc."}
    found = {f"backbone.{name}": shape for name, shape in trunk.items()}
    convolutions = {
        "project": ("project.0", "project.1", (48, 256, 1, 1)),
        "one": ("aspp.convs.0.0", "aspp.convs.0.1", (256, 2048, 1, 1)),
        **{
            f"d{i}": (f"aspp.convs.{i}.0", f"aspp.convs.{i}.1", (256, 2048, 3, 3))
            for i in (1, 2, 3)
        },
        "pooled": ("aspp.convs.4.1", "aspp.convs.4.2", (256, 2048, 1, 1)),
        "joined": ("aspp.project.0", "aspp.project.1", (256, 1280, 1, 1)),
        "last": ("classifier.0", "classifier.1", (256, 304, 3, 3)),
    }
    for conv, norm, shape in convolutions.values():
        found[f"classifier.{conv}.weight"] = shape
        found |= norm_shapes(f"classifier.{norm}", shape[0])
    found["classifier.classifier.3.weight"] = (K, 256, 1, 1)
    return found | {"classifier.classifier.3.bias": (K,)}


@pytest.mark.slow
def test_deeplabv3plus_takes_published_names(tmp_path: Path) -> None:
    state = drawn(deeplab_shapes())
    model = loaded(
        runpy.run_path(str(EXAMPLES / "deeplabv3plus.py"))["build_50"](), state, tmp_path
    )
    trunk = resnet50(replace_stride_with_dilation=[False, False, True]).eval()
    of_trunk = {k.removeprefix("backbone."): v for k, v in state.items() if k[:8] == "backbone"}
    trunk.load_state_dict(of_trunk, strict=False)
    head = ByName({k.removeprefix("classifier."): v for k, v in state.items() if k[:4] == "clas"})
    with torch.no_grad():
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(IMAGES))))
        fine = trunk.layer1(x)
        deep = trunk.layer4(trunk.layer3(trunk.layer2(fine)))
        assert (fine.shape[2:], deep.shape[2:]) == ((9, 17), (3, 5))
        parts = [head.norm(head.conv(deep, "aspp.convs.0.0"), "aspp.convs.0.1")]
        for i, rate in enumerate((6, 12, 18), start=1):
            maps = head.conv(deep, f"aspp.convs.{i}.0", padding=rate, dilation=rate)
            parts.append(head.norm(maps, f"aspp.convs.{i}.1"))
        whole = head.conv(deep.mean((2, 3), keepdim=True), "aspp.convs.4.1")
        parts.append(head.norm(whole, "aspp.convs.4.2").expand_as(parts[0]))
        joined = head.norm(head.conv(torch.cat(parts, 1), "aspp.project.0"), "aspp.project.1")
        low = head.norm(head.conv(fine, "project.0"), "project.1")
        both = torch.cat((low, resized(joined, fine)), 1)
        last = head.norm(head.conv(both, "classifier.0", padding=1), "classifier.1")
        expected = resized(head.conv(last, "classifier.3"), IMAGES)
        network = wrap_segmenter(model, K, IMAGES)
        torch.testing.assert_close(network(IMAGES), expected, rtol=1e-3, atol=1e-4)
    assert network.head_name == "classifier.classifier.3"
    # one image: the branch that pools it has one value per channel
    method = registry.method("diga")(rho=1.0)
    task = Task("segmentation", tuple(map(str, range(K))), 33, False, True, 65)
    method.begin(Online(task, network, 1, 0, Recorder(), {}))
    assert method.step(TargetBatch(IMAGES, torch.tensor([0]))).isfinite().all()


def segformer_head_shapes(stages: tuple[int, ...], width: int) -> dict[str, tuple[int, ...]]:
    """Return the published names of SegFormer's decoder, written down a second time."""
    found: dict[str, tuple[int, ...]] = {}
    for number, channels in enumerate(stages, start=1):
        found |= {f"linear_c{number}.proj.weight": (width, channels)}
        found |= {f"linear_c{number}.proj.bias": (width,)}
    found |= {"linear_fuse.conv.weight": (width, 4 * width, 1, 1)}
    found |= norm_shapes("linear_fuse.bn", width)
    for name in ("linear_pred", "conv_seg"):
        found |= {f"{name}.weight": (K, width, 1, 1), f"{name}.bias": (K,)}
    return found


def test_segformers_decoder_by_hand(tmp_path: Path) -> None:
    stages = (4, 6, 8, 10)
    state = drawn(segformer_head_shapes(stages, 12))
    head = runpy.run_path(str(EXAMPLES / "segformer.py"))["Head"](stages, 12, K)
    head = loaded(head, state, tmp_path)
    sizes = ((9, 17), (5, 9), (3, 5), (2, 3))
    generator = torch.Generator().manual_seed(2)
    maps = [
        torch.randn(1, c, *size, generator=generator) for c, size in zip(stages, sizes, strict=True)
    ]
    hand, wide = ByName(state), []
    for number, x in enumerate(maps, start=1):
        weight, bias = (state[f"linear_c{number}.proj.{part}"] for part in ("weight", "bias"))
        y = torch.einsum("oc,bchw->bohw", weight, x) + bias.view(1, -1, 1, 1)
        wide.append(resized(y, maps[0]))
    joined = hand.norm(hand.conv(torch.cat(wide[::-1], 1), "linear_fuse.conv"), "linear_fuse.bn")
    with torch.no_grad():
        torch.testing.assert_close(
            head(maps), hand.conv(joined, "linear_pred"), rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_segformer_against_the_librarys(tmp_path: Path) -> None:
    """The whole network, by a library whose decoder is somebody else's."""
    library = pytest.importorskip("segmentation_models_pytorch")
    theirs = library.Segformer("mit_b0", encoder_weights=None, classes=K)
    theirs.load_state_dict(drawn({k: tuple(v.shape) for k, v in theirs.state_dict().items()}))
    theirs.eval()
    published = {"decode_head.conv_seg.weight": torch.zeros(K, 256, 1, 1)}
    published |= {"decode_head.conv_seg.bias": torch.zeros(K)}
    for name, value in theirs.state_dict().items():
        stage = name.split(".")[2]
        for old, new in {
            "encoder.": "backbone.",
            f"decoder.mlp_stage.{stage}.linear.": f"decode_head.linear_c{4 - int(stage)}.proj."
            if stage.isdigit()
            else "",
            "decoder.fuse_stage.0.": "decode_head.linear_fuse.conv.",
            "decoder.fuse_stage.1.": "decode_head.linear_fuse.bn.",
            "segmentation_head.0.": "decode_head.linear_pred.",
        }.items():
            if name.startswith(old):
                published[new + name.removeprefix(old)] = value
    made = runpy.run_path(str(EXAMPLES / "segformer.py"))["SegFormer"]("mit_b0", 256, K)
    model = loaded(made, published, tmp_path)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        small = theirs.segmentation_head[0](theirs.decoder(theirs.encoder(images)))
        torch.testing.assert_close(model(images), small, rtol=1e-4, atol=1e-5)
        network = wrap_segmenter(model, K, images)
        torch.testing.assert_close(network(images), resized(small, images))
        assert network(images[..., :52, :90]).shape == (
            1,
            K,
            52,
            90,
        )  # 540 x 960 divides by 4 alone
    assert network.head_name == "decode_head.linear_pred"
