"""``--export onnx``: what onnxruntime answers is what the kept model answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dabench
from dabench.cli.main import main
from dabench.deploy import onnx_file
from dabench.networks.ensemble import Ensemble
from dabench.networks.network import build_classifier
from dabench.source_models.model_files import save_model

needed = [
    name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)
]
with_onnx = pytest.mark.skipif(bool(needed), reason=f"not installed: {', '.join(needed)}")
CLASSES = ["a", "b", "c"]


def answers(path: Path, images: torch.Tensor) -> np.ndarray:
    """Return what onnxruntime says of (B, 3, H, W) images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.shape for each in session.get_inputs()] == [["batch", 3, 32, 32]]
    found: np.ndarray = session.run(["logits"], {"images": images.numpy()})[0]
    return found


@with_onnx
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small-cnn", "small-vit", "resnet18", "ensemble"])
def test_onnxruntime_answers_as_torch_does(tmp_path: Path, kind: str) -> None:
    name = "small-cnn" if kind == "ensemble" else kind
    network: Any = build_classifier(name, "none", 3, side=32)
    network.append_class(torch.Generator().manual_seed(0))
    if kind == "ensemble":
        network = Ensemble([network, build_classifier(name, "none", 4, side=32)], "probabilities")
    save_model(tmp_path, network.eval(), CLASSES, None, {"image_size": 32})
    assert main(["export", str(tmp_path)]) == 0
    loaded = dabench.load_model(tmp_path)
    for size in (1, 2, 7):
        images = torch.rand(size, 3, 32, 32)
        with torch.no_grad():
            expected = loaded(images).numpy()
        np.testing.assert_allclose(answers(tmp_path / "model.onnx", images), expected, atol=1e-5)


@with_onnx
@pytest.mark.slow
def test_adapt_exports_a_model_of_the_users(place: Any) -> None:
    words = place.adapt("--epochs", 1, "--export", "onnx", method="shot")
    assert main(words) == 0
    assert "model.onnx" in place.capsys.readouterr().out
    found = answers(place.root / "out/model.onnx", place.images()).argmax(1)
    assert [row["class"] for row in place.rows()] == [str(i) for i in found]


@with_onnx
@pytest.mark.slow
def test_a_model_that_cannot_be_exported_costs_nothing_else(place: Any) -> None:
    code = (place.root / "net.py").read_text()
    fixed = "x.new_tensor(range(len(x)))[:, None] * 0 + "
    wrapped = f"""
class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = build_inner()

    def forward(self, x):
        return {fixed}self.inner(x)
"""
    code = code.replace("def build()", "def build_inner()") + wrapped
    (place.root / "net.py").write_text(code + "\n\ndef build():\n    return Fixed()\n")
    state = {f"inner.{name}": value for name, value in place.model.state_dict().items()}
    torch.save(state, place.root / "net.pt")
    assert main(place.adapt("--epochs", 1, "--export", "onnx", method="shot")) == 2
    err = place.capsys.readouterr().err
    assert "the weights and the card are whole" in err
    found = sorted(path.name for path in (place.root / "out").iterdir())
    assert found == ["model.safetensors", "model.yaml", "predictions.csv", "report.html"]
    assert dabench.load_model(place.root / "out")(place.images()).shape == (18, 3)


def test_what_an_export_needs_is_said_first(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(*words: str) -> str:
        assert main(list(words)) == 2
        (line,) = place.capsys.readouterr().err.splitlines()
        return line

    monkeypatch.setattr(onnx_file, "check_installed", lambda: None)
    stream = error(*place.adapt("--export", "onnx", method="tent"))
    assert "--export: tent answers a stream, and leaves no model" in stream
    corrected = error(*place.adapt("--export", "onnx", method="prior-correction"))
    assert "--export: prior-correction leaves no network of its own behind" in corrected
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = error(*place.adapt("--export", "onnx", method="shot"))
    assert "needs onnx and onnxscript; pip install 'dabench[onnx]'" in line
    assert not (place.root / "out").exists()
    monkeypatch.undo()
    monkeypatch.setattr(onnx_file, "check_installed", lambda: None)
    assert "has no model.yaml: expected a folder" in error("export", str(place.root / "nothing"))
