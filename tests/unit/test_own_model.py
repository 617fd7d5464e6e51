"""A source model of the user's own: --source-model, --source-checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dabench import registry
from dabench.board.tables.diff import compare_runs
from dabench.board.tables.leaderboard import table
from dabench.board.tables.wide import wide_tables
from dabench.cli.main import main
from dabench.config.command import run_command
from dabench.config.spec import resolve
from dabench.errors import ConfigError
from dabench.registry.method_info import registered_info
from dabench.registry.plugin_import import import_named, module_as_planned, source_digest
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.model_files import check_order
from dabench.store.frames import load_results
from dabench.store.identity import column_of
from dabench.store.store import Store

MODEL = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self, classes=3):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 2, 1)
            self.norm = nn.BatchNorm2d(8)
            self.out = nn.Linear(8, classes)

        def forward(self, x):
            return self.out(self.norm(self.conv(x)).relu().mean((2, 3)))

    def build():
        return Model()

    def four():
        return Model(4)

    def soft():
        return nn.Sequential(Model(), nn.Softmax(1))

    def tensor():
        return torch.zeros(3)

    def fails():
        raise ValueError("no such luck")

    class Reads(Model):
        def forward(self, x):
            features = self.norm(self.conv(x)).relu().mean((2, 3))
            return nn.functional.linear(features, self.out.weight, self.out.bias)

    class Two(Model):
        def forward(self, x, y):
            return super().forward(x)

    def half():
        return Model().half()

    def large():
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3))
"""


class Place:
    """A folder with images, a model file and a checkpoint."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.file = root / "net.py"
        self.file.write_text(textwrap.dedent(MODEL))
        scope: dict[str, Any] = {}
        exec(textwrap.dedent(MODEL), scope)
        torch.manual_seed(3)
        self.model = scope["build"]()
        self.checkpoint = root / "net.pt"
        self.save(self.model.state_dict())

    def save(self, found: Any) -> None:
        torch.save(found, self.checkpoint)

    def words(self, *more: Any, method: str = "source", protocol: str = "sf-uda") -> list[str]:
        words: list[Any] = ["run", "--method", method, "--protocol", protocol, "--threads", 1]
        words += ["--dataset", "image-folder", "--data-root", self.root / "data", "--source", "a"]
        words += [
            "--target",
            "b",
            "--image-size",
            32,
            "--batch-size",
            8,
            "--device",
            "cpu",
            "--json",
        ]
        words += ["--results", self.root / "results", "--cache-dir", self.root / "cache"]
        return [str(word) for word in [*words, "--no-progress", *more]]

    def run(self, *more: Any, function: str = "build", **names: str) -> dict[str, Any]:
        own = ("--source-model", f"{self.file}:{function}", "--source-checkpoint", self.checkpoint)
        code = main(self.words(*own, *more, **names))
        out, err = self.capsys.readouterr()
        assert code == 0, err
        record: dict[str, Any] = json.loads(Path(json.loads(out)["record"]).read_text())
        return record

    def error(self, *words: Any, **names: str) -> str:
        assert main(self.words(*words, **names)) == 2
        _, err = self.capsys.readouterr()
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        return line


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], fill_classes: Any) -> Place:
    for seed, domain in enumerate("ab"):
        fill_classes(tmp_path / "data" / domain, seed)
    return Place(tmp_path, capsys)


def test_the_source_row_is_the_model_itself(place: Place) -> None:
    record = place.run("--protocol.held_out", "0")
    spec = record["spec"]
    assert (spec["source_model"], spec["backbone"]) == ("net.py:build", "net.py:build")
    assert (spec["weights"], spec["source_epochs"]) == ("trained", 0)
    assert record["source_model"]["val_accuracy"] is None
    assert record["plugins"][0]["kind"] == "model"
    files = sorted((place.root / "data/b").glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in files])
    with torch.no_grad():
        logits = place.model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    right = (logits.argmax(1).numpy() == np.repeat(np.arange(3), 8)).mean()
    (accuracy,) = [s["value"] for s in record["scores"] if s["metric"] == "accuracy"]
    assert accuracy == pytest.approx(right)


def test_wrappers_and_prefixes_of_checkpoints(place: Place) -> None:
    first = place.run()
    state = place.model.state_dict()
    place.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}})
    again = place.run()
    assert again["ids"]["source"] == first["ids"]["source"]
    assert again["ids"]["source_checkpoint"] != first["ids"]["source_checkpoint"]
    assert column_of(again) != column_of(first)
    from safetensors.torch import save_file

    place.checkpoint = place.root / "net.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, place.checkpoint)
    assert place.run()["ids"]["source"] == first["ids"]["source"]


def test_a_checkpoint_counts_by_what_is_in_it_and_not_by_its_path(place: Place) -> None:
    """Or one model at two places would be two columns, and two models at one place one column."""
    first, old = place.run(), place.checkpoint
    place.checkpoint = place.root / "elsewhere.pt"
    shutil.copy(old, place.checkpoint)
    moved = place.run("--seed", 1)
    assert column_of(moved) == column_of(first)
    with torch.no_grad():
        place.model.out.bias += 1.0
    place.save(place.model.state_dict())
    other = place.run("--seed", 2)
    assert other["spec"]["source_checkpoint"] == moved["spec"]["source_checkpoint"]
    assert column_of(other) != column_of(first)
    kept = [record for _, record in Store(place.root / "results").all()]
    for records in (kept, [first, moved, other]):
        found = table(records)
        seeds = {line.column: (line.seeds, line.note) for line in found.itertuples()}
        assert seeds == {column_of(first): ("0 1", ""), column_of(other): ("2", "")}
    wide = wide_tables(table(kept), registered_info())
    assert [len(part.tasks) for part in wide] == [1, 1]
    assert load_results(place.root / "results")["column"].nunique() == 2
    (line, _) = compare_runs(moved, other).reasons
    digests = (record["ids"]["source_checkpoint"][:12] for record in (moved, other))
    assert line == "source_checkpoint {} against {}".format(*digests)


def test_what_is_part_of_the_run(place: Place) -> None:
    first = place.run()
    other = place.run("--source-mean", "0.5,0.5,0.5")
    assert other["ids"]["source"] != first["ids"]["source"]
    assert column_of(other) != column_of(first)
    place.file.write_text(place.file.read_text() + "\n# edited\n")
    assert place.run()["ids"]["source"] != first["ids"]["source"]


def test_code_that_was_edited_after_the_run_was_planned_is_refused(place: Place) -> None:
    """It would answer under the id of what was planned."""
    given = {"method": "source", "protocol": "sf-uda", "dataset": "image-folder", "device": "cpu"}
    given |= {"source": "a", "target": "b", "source-model": f"{place.file}:build"}
    foreign = ForeignModel.of_spec(resolve(given)[0])
    assert foreign is not None
    foreign.build(3)
    place.file.write_text(place.file.read_text() + "\n# edited\n")
    with pytest.raises(ConfigError, match="not what it was when the run was planned"):
        foreign.build(3)
    again = ForeignModel.of_spec(resolve(given)[0])
    assert again is not None
    assert again.build(3)[2].startswith(hashlib.sha256(place.file.read_bytes()).hexdigest())


def test_a_module_that_was_edited_after_its_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has it as it was, and the record would say what is on the disk."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "edited_net.py"
    file.write_text(textwrap.dedent(MODEL))
    first = source_digest(import_named("edited_net", "--x"), "--x")
    module_as_planned("edited_net:build", first, "--x")
    file.write_text(file.read_text() + "\n# edited\n")
    with pytest.raises(ConfigError, match=r"--x: edited_net was edited after .* start Python anew"):
        module_as_planned("edited_net:build", first, "--x")
    monkeypatch.delitem(sys.modules, "edited_net")
    assert source_digest(import_named("edited_net", "--x"), "--x") != first


def test_the_command_of_a_run_makes_it_again(place: Place) -> None:
    given = {"method": "shot", "protocol": "sf-uda", "dataset": "image-folder", "device": "cpu"}
    given |= {"source": "a", "target": "b", "source-model": f"{place.file}:build"}
    given |= {"source-checkpoint": str(place.checkpoint), "source-std": "1,1,1"}
    (spec,) = resolve(given)
    words = run_command(spec)
    assert f"--source-model {place.file}:build" in words
    assert "--source-std 1,1,1" in words
    assert "--backbone" not in words
    assert "--weights" not in words
    assert "--source-epochs" not in words


@pytest.mark.parametrize(
    ("method", "protocol"), [("shot", "sf-uda"), ("usd", "sf-osda"), ("tent", "online-tta")]
)
def test_methods_adapt_it(place: Place, method: str, protocol: str) -> None:
    extra = ["--epochs", "1"] if protocol != "online-tta" else ["--protocol.shifts", "fog:1"]
    if protocol == "sf-osda":
        (place.root / "data/b/dog").mkdir()
        for i in range(8):
            colour = Image.new("RGB", (32, 32), (i, 9 * i, 200))
            colour.save(place.root / f"data/b/dog/{i}.png")
    record = place.run(*extra, method=method, protocol=protocol)
    assert record["cost"]["images_backward"] > 0


def test_what_does_not_fit_is_one_line(place: Place) -> None:
    def own(function: str, *more: Any) -> tuple[Any, ...]:
        return ("--source-model", f"{place.file}:{function}", *more)

    weights = ("--source-checkpoint", place.checkpoint)
    assert "no linear layer with 3 outputs (there are 4)" in place.error(*own("four"))
    assert "does something after its layer 0.out (a softmax" in place.error(*own("soft"))
    assert "returned Tensor; expected an nn.Module" in place.error(*own("tensor"))
    assert "the function failed (ValueError: no such luck)" in place.error(*own("fails"))
    there = "it has: Model, build, four, soft, tensor, fails, Reads, Two, half, large"
    assert f"there is no such function; {there}" in place.error(*own("nothing"))
    line = place.error("--source-model", place.file)
    assert f"which function? write {place.file}:FUNCTION; {there}" in line
    line = place.error("--source-model", place.checkpoint)
    assert "that is a file of weights: give it as --source-checkpoint" in line
    line = place.error(*own("four", *weights))
    assert "does not fit the model; tensors of another shape: out.weight, out.bias; " in line
    assert "out.weight 3 x 8 in the file, 4 x 8 in the network; give the model" in line
    line = place.error(*own("soft", *weights))
    assert "missing: 0.conv.weight" in line
    assert "and 4 more" in line
    assert "--source-head" in place.error("--source-head", "fc")
    assert "--weights: --source-model is there already" in place.error(
        *own("build", "--weights", "none")
    )
    assert "expected three numbers" in place.error(*own("build", "--source-mean", "0.5"))
    assert "std > 0" in place.error(*own("build", "--source-std", "1,0,1"))
    assert "the model has no linear layer of that name" in place.error(
        *own("build", "--source-head", "fc")
    )
    assert "No such file" in place.error(*own("build", "--source-checkpoint", "gone.pt"))
    assert "expected path.py:function" in place.error("--source-model", "resnet-of-mine")
    assert "did you mean 'resnet18'?" in place.error("--source-model", "resnet19")
    assert "a linear probe is trained beside" in place.error(*own("build"), method="linear-probe")
    torch.save(torch.nn.Linear(2, 2), place.checkpoint)
    assert "could run code" in place.error(*own("build", *weights))


def test_kept_weights_of_another_order_of_classes_are_refused(place: Place) -> None:
    kept = place.root / "model.safetensors"
    save_file(place.model.state_dict(), kept)
    card = {"outputs": 3, "mean": [0, 0, 0], "std": [1, 1, 1], "classes": ["cat", "ant", "bee"]}
    (place.root / "model.yaml").write_text(json.dumps(card))
    own = ("--source-model", f"{place.file}:build", "--source-checkpoint", kept)
    line = place.error(*own)
    assert "its outputs are cat, ant, bee" in line
    assert "the data set has ant, bee, cat" in line
    check_order(str(kept), ("0", "1", "2"))  # numbers in place of names say nothing


def test_why_a_model_fails_is_said(place: Place) -> None:
    def said(function: str) -> str:
        plugin = registry.located("model", f"{place.file}:{function}")
        with pytest.raises(ConfigError) as error:
            ForeignModel(function, plugin=plugin).wrap(3, (32, 32))
        return str(error.value)

    assert "Reads does something after its layer out" in said("Reads")
    assert "'conv.weight' are torch.float16; expected torch.float32" in said("half")
    large = said("large")
    assert "does not take images of 32 px (RuntimeError: mat1 and mat2 shapes cannot" in large
    assert large.endswith("it takes those of 64: --image-size 64")
    two = said("Two")
    assert "failed on two images of noise (TypeError: " in two
    assert "image-size" not in two


def test_mean_and_std_are_numbers_as_options_are_given_and_have_one_spelling() -> None:
    given = {"method": "source", "protocol": "sf-uda", "device": "cpu", "source-model": "resnet18"}
    for text in ("1_0,0.5,0", "\u0663,0.5,0", "0.5,0.5", "0.5;0.5;0.5", "nan,0,0"):
        with pytest.raises(ConfigError, match=r"--source-mean .*: expected three numbers"):
            resolve({**given, "source-mean": text})
    found = {
        resolve({**given, "source-mean": text})[0].source_mean
        for text in ("0.5,1,1e-3", ".5, 1.0, .0010")
    }
    assert found == {"0.5,1,0.001"}


def test_names_of_libraries_need_weights(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(place.root / "nothing"))
    with pytest.raises(ConfigError, match="belongs to --source-model, which is not given"):
        resolve({"method": "source", "source-checkpoint": "x.pt"})
    import torchvision.models

    net = torchvision.models.resnet18(num_classes=3)
    place.save(net.state_dict())
    words = ("--source-model", "resnet18", "--source-checkpoint", place.checkpoint)
    assert main(place.words(*words)) == 0
    place.capsys.readouterr()


CIFAR = Path(os.environ.get("DABENCH_DATA", "/nonexistent")) / "cifar10"


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.is_dir(), reason="DABENCH_DATA has no cifar10")
def test_a_real_model_on_real_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The published ResNet-20: .81 on the JPEG test images, and a method gains under noise."""
    model = Path(__file__).parents[1] / "models" / "cifar_resnet20.py"
    words = ["run", "--dataset", "image-folder", "--data-root", str(CIFAR), "--source", "train"]
    words += ["--target", "test", "--image-size", "32", "--threads", "1", "--device", "cpu"]
    words += ["--source-model", f"{model}:build", "--no-progress", "--json"]
    words += ["--source-checkpoint", str(CIFAR.parent / "weights" / "resnet20-12fca82f.th")]
    words += ["--source-mean", "0.485,0.456,0.406", "--source-std", "0.229,0.224,0.225"]
    words += ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]

    def accuracy(*more: str) -> float:
        assert main([*words, *more]) == 0
        return float(json.loads(capsys.readouterr().out)["scores"]["accuracy"])

    clean = accuracy("--method", "source", "--protocol", "sf-uda", "--protocol.held_out", "0")
    assert clean == pytest.approx(0.81, abs=0.01)
    noisy = ["--protocol", "online-tta", "--protocol.shifts", "c-gaussian-noise:5"]
    noisy += ["--batch-size", "200"]
    before, after = (accuracy("--method", name, *noisy) for name in ("source", "tent"))
    assert before < 0.25
    assert after > before + 0.25
