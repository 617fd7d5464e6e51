"""``dabench verify``: published rows against a user's files and model."""

from __future__ import annotations

import dataclasses
import importlib.util
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import hypergeom

from dabench import registry
from dabench.board import published_rows
from dabench.board import verify as board
from dabench.board.published_rows import MEAN, Published, known_benchmarks, read_published
from dabench.board.verify import Compared, compare, meaning, sampling_error
from dabench.cli.main import main
from dabench.config.spec import resolve
from dabench.errors import ConfigError
from dabench.protocols.continual_tta import ContinualTTA

ROOT = Path(__file__).parents[2]
KINDS = ("gaussian_noise", "snow", "fog")
IMAGES = 20
#: a picture of one grey is of the class whose grey is nearest
MODEL = """
    import torch
    from torch import Tensor, nn

    class Grey(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1, bias=False)
            self.norm = nn.BatchNorm2d(1)
            self.out = nn.Linear(1, 10)
            centre = torch.tensor([(2 * k + 1) / 20 for k in order])
            with torch.no_grad():
                self.conv.weight.fill_(1 / 3)
                self.out.weight.copy_(200 * centre[:, None])
                self.out.bias.copy_(-100 * centre**2)

        def forward(self, x):
            return self.out(self.norm(self.conv(x)).mean((2, 3)))

    def published():
        return Grey(range(10))

    def another():
        return Grey([(k + 3) % 10 for k in range(10)])
"""


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "data" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _load("published")


def greys(labels: np.ndarray, wrong: int) -> np.ndarray:
    """Return pictures of their classes' greys, the first ``wrong`` of them of another class."""
    shown = labels.copy()
    shown[:wrong] = (shown[:wrong] + 1) % 10
    level = np.round((2 * shown + 1) / 20 * 255).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (len(labels), 32, 32, 3)).copy()


def normalised_error(pictures: np.ndarray, labels: np.ndarray) -> float:
    """Return the model's error, in percent, where its norm goes by the batch of all pictures."""
    grey = pictures[:, 0, 0, 0].astype(np.float64) / 255
    z = (grey - grey.mean()) / np.sqrt(grey.var() + 1e-5)
    found = np.abs(z[:, None] - (2 * np.arange(10) + 1) / 20).argmin(1)
    return float(100 * (found != labels).mean())


class Place:
    """Files in the layout of CIFAR-10-C, whose figures are known: so many wrong pictures each."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.labels = made.write_cifar10_c(root, IMAGES, KINDS)
        self.home = root / "CIFAR-10-C"
        self.rows: dict[str, Any] = {"source": {}, "bn-adapt": {}}
        for wrong, kind in enumerate(KINDS, start=1):
            self.write(kind, wrong)
        (root / "net.py").write_text(textwrap.dedent(MODEL))
        run = {"protocol": "continual-tta", "dataset": "cifar10-c", "batch-size": str(IMAGES)}
        run["protocol.shifts"] = ",".join(f"published-{k.replace('_', '-')}:5" for k in KINDS)
        self.content: dict[str, Any] = {
            **{"benchmark": "Greys", "model": "the greys' own", "metric": "error", "run": run},
            **{"segment": "published-{}-5", "images": str(IMAGES), "classes": "10"},
            **{"worse": "worse weights", "better": "better weights"},
        }

    def write(self, kind: str, wrong: int, seen: bool = True) -> None:
        """Write a corruption; ``seen``: its figures are the published ones."""
        pictures = greys(self.labels, wrong)
        np.save(self.home / f"{kind}.npy", np.tile(pictures, (5, 1, 1, 1)))
        if seen:
            name = kind.replace("_", "-")
            self.rows["source"][name] = 100 * wrong / IMAGES
            self.rows["bn-adapt"][name] = normalised_error(pictures, self.labels)

    def verify(self, *more: str, function: str = "published") -> tuple[int, list[str], str]:
        """Return the exit code, what was printed, and the errors."""
        rows = {
            method: {"source": "a paper", "tolerance": "0.2", "figures": figures}
            for method, figures in self.rows.items()
        }
        path = self.root / "rows.yaml"
        path.write_text(yaml.safe_dump({**self.content, "rows": rows}, sort_keys=False))
        words = ["verify", str(path), "--data-root", str(self.root), "--no-progress"]
        words += ["--source-model", f"{self.root / 'net.py'}:{function}", "--threads", "1"]
        words += ["--results", str(self.root / "results"), "--cache-dir", str(self.root / "cache")]
        code = main([*words, "--device", "cpu", *more])
        out, err = self.capsys.readouterr()
        return code, out.splitlines(), err


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_files_and_a_model_whose_figures_fit(place: Place) -> None:
    """The published figures are computed here, by hand, from the pictures."""
    code, out, err = place.verify()
    assert code == 0, err
    assert out[-1] == "your files and model are the published ones"
    assert out[0] == "Greys: the greys' own"
    table = [line.split() for line in out if line.startswith(("gaussian", "snow", "fog", "mean"))]
    assert [row[:4] for row in table[:4]] == [
        ["gaussian-noise", "5.0", "5.0", "+0.0"],
        ["snow", "10.0", "10.0", "+0.0"],
        ["fog", "15.0", "15.0", "+0.0"],
        ["mean", "-", "10.0", "-"],
    ]
    assert place.rows["bn-adapt"]["snow"] > 20  # another row, and not the first one once more
    records = list((place.root / "results" / "records").rglob("*.json"))
    assert len(records) == 2  # runs like all others: the second time they are there
    assert place.verify()[0] == 0
    assert list((place.root / "results" / "records").rglob("*.json")) == records


def test_the_first_corruption_that_differs_is_named(place: Place) -> None:
    place.write("snow", 6, seen=False)
    code, out, _ = place.verify()
    assert code == 1
    assert out[-1].startswith(
        "source, snow: 30.0 error (%), 20.0 more than the published 10.0, and 0.2 may be. "
    )
    assert "the files of snow are others" in out[-1]
    assert "dabench data check cifar10-c" in out[-1]
    assert not any(line.startswith("bn-adapt") for line in out)


@pytest.mark.slow
def test_another_model_is_told_from_another_file(place: Place) -> None:
    code, out, _ = place.verify(function="another")
    assert code == 1
    assert "source, gaussian-noise: 100.0 error (%), 95.0 more" in out[-1]
    assert out[-1].endswith("outputs in another order of the classes, or untrained weights")
    place.rows["source"] = {name: figure + 30 for name, figure in place.rows["source"].items()}
    code, out, _ = place.verify()
    assert code == 1
    assert out[-1].endswith("30.0 less than the published 35.0, and 0.2 may be. This usually "
                            "means: better weights")  # fmt: skip


@pytest.mark.slow
def test_a_second_row_that_differs_leaves_files_and_weights_alone(place: Place) -> None:
    place.rows["bn-adapt"] = {MEAN: 3.0}
    code, out, _ = place.verify()
    assert code == 1
    assert out[-1].startswith("bn-adapt, mean: ")
    assert "look at the batch size" in out[-1]


@pytest.mark.slow
def test_a_quick_look_says_what_it_allows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "QUICK", 10)
    place.rows = {"source": place.rows["source"]}
    code, out, err = place.verify("--quick")
    assert code == 0, err
    assert out[-1] == "your files and model are the published ones as far as a quick look tells"
    assert any("0.2 points and 4 standard errors of the sample" in line for line in out)
    (snow,) = (line.split() for line in out if line.startswith("snow"))
    assert float(snow[4]) == pytest.approx(
        0.2 + 4 * 100 * (0.1 * 0.9 / 10 * 10 / 19) ** 0.5, abs=0.05
    )
    place.write("snow", 20, seen=False)
    code, out, _ = place.verify("--quick")
    assert code == 1
    assert "source, snow: 100.0 error" in out[-1]


@pytest.mark.slow
def test_fewer_images_are_not_the_published_files(place: Place) -> None:
    place.content["images"] = "10000"
    code, out, _ = place.verify()
    assert code == 1
    assert out[-1] == (
        "these are not the published files: 20 images a corruption, published are 10000"
    )


@pytest.mark.parametrize(("percent", "images", "whole"), [(72.3, 1000, 10_000), (8.2, 500, 5000)])
def test_the_error_of_a_sample(percent: float, images: int, whole: int) -> None:
    wrong = round(percent / 100 * whole)
    by_hand = 100 * hypergeom(whole, wrong, images).std() / images
    assert sampling_error(100 * wrong / whole, images, whole) == pytest.approx(by_hand)
    assert sampling_error(percent, whole, whole) == 0.0


def rows_of(metric: str = "error") -> Published:
    found = read_published("imagenet-c")
    return dataclasses.replace(found, metric=metric)


def lines(*gaps: float) -> list[Compared]:
    found = [Compared(str(i), 50.0, 50.0 + gap, 0.3) for i, gap in enumerate(gaps)]
    return [*found, Compared(MEAN, 50.0, 50.0 + sum(gaps) / len(gaps), 0.3)]


def test_newer_weights_are_noticed_by_the_source_error() -> None:
    published = rows_of()
    row = published.rows[0]
    assert "IMAGENET1K_V2" in meaning(published, row, lines(-9, -8, -11, -7))
    assert "normalised twice" in meaning(published, row, lines(9, 8, 11, 7))
    assert "chance" in meaning(published, row, lines(49.9, 49.9, 49.9))
    accuracy = rows_of("accuracy")  # where more is better
    assert "IMAGENET1K_V2" in meaning(accuracy, row, lines(9, 8, 11, 7))
    assert "files of 2 are others" in meaning(published, row, lines(0, 0.1, 3.4, 0))


# -- the rows that come with dabench --------------------------------------------------------------


@pytest.mark.parametrize("name", known_benchmarks())
def test_rows_are_sound_and_can_be_run(name: str) -> None:
    published = read_published(name)
    assert published.rows[0].method == "source"
    model = {"source-model": f"{ROOT / 'tests' / 'models' / 'tiny_segmenter.py'}:build"}
    for row in published.rows:
        assert 0 < row.tolerance <= 1
        given = {**model, **published.run, "method": row.method, "device": "cpu", "seed": 0}
        (spec,) = resolve(given)
        if spec.protocol == "continual-tta":
            protocol = ContinualTTA(**spec.protocol_options)
            found = protocol.segments(np.arange(3), np.zeros(3, np.int64), 0)
            shown = [segment.name for segment, _ in found]
            assert shown == [published.segment_of(part) for part in published.parts]
        else:
            assert spec.target.split(",") == published.parts
    source = published.rows[0].figures
    parts = [source[part] for part in published.parts]
    assert np.mean(parts) == pytest.approx(source.get(MEAN, np.mean(parts)), abs=0.06)


def test_what_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "office31"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no published rows of 'office31'" in line
    assert "there are: acdc, cifar10-c, cifar100-c, imagenet-c" in line
    assert main(["verify", "cifar-10-c"]) == 2
    assert "did you mean 'cifar10-c'?" in capsys.readouterr().err
    assert main(["verify", "acdc"]) == 2
    assert "SegFormer-B5 trained on Cityscapes, which dabench does not build" in (
        capsys.readouterr().err
    )
    model = f"{ROOT / 'tests' / 'models' / 'tiny_segmenter.py'}:build"
    assert main(["verify", "acdc", "--source-model", model, "--quick"]) == 2
    assert "--quick: the stream of Cityscapes to ACDC" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "F1"}, "metric 'F1'"),
        ({"rows": {}}, "rows is missing"),
        ({"rows": {"sourc": {}}}, "unknown method 'sourc'; did you mean 'source'"),
        ({"rows": {"source": {"source": "x", "tolerance": 1}}}, "rows.source.figures is missing"),
        (
            {"rows": {"source": {"source": "x", "tolerance": 1, "figures": {"fog": 120}}}},
            "0 to 100",
        ),
        ({"rows": {"source": {"source": "x", "tolerance": "a", "figures": {"a": 1}}}}, "'a'"),
        ({"rows": {"source": {"source": "x", "tolerance": 1, "figures": {MEAN: 1}}}}, "no row has"),
        ({"images": "many"}, "'many'"),
        ({"ours": 3}, "ours is unknown"),
        ({"run": "as usual"}, "run is no block"),
    ],
)
def test_bad_rows_are_told_in_one_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = ROOT / "dabench" / "board" / "published" / "cifar10-c.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content | change))
    with pytest.raises(ConfigError, match=r"published rows .*mine\.yaml: ") as caught:
        read_published(str(tmp_path / "mine.yaml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_without_the_parts_is_told() -> None:
    published = read_published("cifar10-c")
    record = {"scores": [{"metric": "accuracy", "segment": "all", "value": 0.5, "n": 3}]}
    with pytest.raises(
        ConfigError, match="the run has no accuracy of 'published-gaussian-noise-5'"
    ):
        compare(published, published.rows[0], record)
    assert set(registry.DATASETS) >= {read_published(n).run["dataset"] for n in known_benchmarks()}


@pytest.mark.slow
def test_the_shipped_rows_of_cifar10_c_name_the_first_corruption_that_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user runs it, but for the model and for few pictures, in the layout of the archive."""
    published = dataclasses.replace(read_published("cifar10-c"), images=IMAGES)
    monkeypatch.setattr(published_rows, "read_published", lambda name: published)
    made.write_cifar10_c(tmp_path, IMAGES)
    (tmp_path / "net.py").write_text(textwrap.dedent(MODEL))
    words = ["verify", "cifar10-c", "--data-root", str(tmp_path), "--no-progress"]
    words += ["--source-model", f"{tmp_path / 'net.py'}:published", "--threads", "1"]
    words += ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    assert main([*words, "--device", "cpu"]) == 1
    out, _ = capsys.readouterr()
    shown = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [name for name in shown if name in published.parts] == list(published.parts)
    assert out.splitlines()[-1].startswith("source, gaussian-noise: ")
    assert "than the published 72.3" in out.splitlines()[-1]
