"""``dabench adapt``: a folder of images, what is written, and what is read back."""

from __future__ import annotations

import csv
import errno
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pretended_device import pretended_device

import dabench
from dabench.cli.adapt import _classes
from dabench.cli.main import main
from dabench.deploy import saved
from dabench.deploy.adapted import Adapted
from dabench.deploy.pictures import Pile, read_pictures
from dabench.deploy.report import warnings_of
from dabench.deploy.saved import write_predictions
from dabench.errors import CacheError, ConfigError, DataError, StoreError
from dabench.metrics.predictions import Predictions

MODEL = """
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 2, 1)
            self.norm = nn.BatchNorm2d(8)
            self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3))

        def forward(self, x):
            return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))

    def build():
        return Model()
"""


class Place:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.file = root / "net.py"
        self.file.write_text(textwrap.dedent(MODEL))
        scope: dict[str, Any] = {}
        exec(textwrap.dedent(MODEL), scope)
        torch.manual_seed(3)
        self.model = scope["build"]()
        torch.save(self.model.state_dict(), root / "net.pt")

    def words(self, *more: Any, method: str = "shot", out: str = "out") -> list[str]:
        words: list[Any] = ["adapt", "--method", method, "--source-model", f"{self.file}:build"]
        words += ["--source-checkpoint", self.root / "net.pt", "--images", self.root / "pile"]
        words += [
            "--out",
            self.root / out,
            "--image-size",
            32,
            "--batch-size",
            8,
            "--device",
            "cpu",
        ]
        return [str(word) for word in [*words, "--no-progress", *more]]

    def rows(self, out: str = "out") -> list[dict[str, str]]:
        with (self.root / out / "predictions.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], fill_classes: Any) -> Place:
    fill_classes(tmp_path / "pile", 0)
    return Place(tmp_path, capsys)


def test_what_is_written_and_read_back(place: Place) -> None:
    assert main(place.words("--classes", "ant,bee,cat", "--epochs", "2")) == 0
    out, _ = place.capsys.readouterr()
    assert "24 images of 32 px; 0 could not be read" in out
    assert "nothing here was measured against labels" in out
    assert sorted(path.name for path in (place.root / "out").iterdir()) == [
        *("model.safetensors", "model.yaml", "predictions.csv", "report.html"),
    ]
    rows = place.rows()
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert {row["class"] for row in rows} <= {"ant", "bee", "cat"}
    card = yaml.safe_load((place.root / "out/model.yaml").read_text())
    assert card["classes"] == ["ant", "bee", "cat"]
    assert card["method"] == "shot"
    loaded = dabench.load_model(place.root / "out")
    pile = read_pictures(place.root / "pile", 32, hashed=False)
    images = torch.from_numpy(pile.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        p, before = loaded(images).softmax(1), place.model.eval()(images).softmax(1)
    found = [card["classes"][i] for i in p.argmax(1)]
    assert found == [row["class"] for row in rows]
    top = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(p.amax(1).numpy(), top, atol=2e-6)
    said = [float(row["confidence_before"]) for row in rows]
    np.testing.assert_allclose(before.amax(1).numpy(), said, atol=2e-6)
    # the weights fit the model that was given, without dabench
    from safetensors.torch import load_file

    place.model.load_state_dict(load_file(place.root / "out/model.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(place.model(images).softmax(1), p)


def test_the_folder_of_a_domain_gives_what_a_run_scores(place: Place) -> None:
    """No label is read: class folders are names like others. The same spec, the same answers."""
    (place.root / "data").mkdir()
    (place.root / "pile").rename(place.root / "data" / "b")
    (place.root / "data" / "a").symlink_to(place.root / "data" / "b")
    words = ["run", "--method", "shot", "--protocol", "sf-uda", "--protocol.held_out", "0"]
    words += ["--dataset", "image-folder", "--data-root", str(place.root / "data"), "--source", "a"]
    words += ["--target", "b", "--image-size", "32", "--batch-size", "8", "--epochs", "2"]
    words += ["--source-model", f"{place.file}:build", "--source-checkpoint"]
    words += [str(place.root / "net.pt"), "--device", "cpu", "--threads", "1", "--no-progress"]
    words += ["--results", str(place.root / "r"), "--cache-dir", str(place.root / "c")]
    assert main(words) == 0
    result = dabench.load_results(place.root / "r")
    scored = float(result[result["metric"] == "accuracy"]["value"].iloc[0])
    given = place.words("--classes", "ant,bee,cat", "--epochs", "2")
    given[given.index("--images") + 1] = str(place.root / "data" / "b")
    assert main(given) == 0
    rows = place.rows()
    right = np.mean([row["class"] == row["file"].split("/")[0] for row in rows])
    assert right == scored
    for i, path in enumerate(sorted((place.root / "data" / "b").rglob("*.png"))):
        folder = place.root / "moved" / "b" / f"{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"{i}.png")


TWICE = """

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Model()
            self.layers = nn.ModuleList([self.model.conv, self.model.norm])

        def forward(self, x):
            return self.model(x)

    def twice():
        return Twice()
"""


def test_a_layer_under_two_names_is_kept_under_both(place: Place) -> None:
    place.file.write_text(textwrap.dedent(MODEL + TWICE))
    words = place.words("--epochs", "1")
    at = words.index("--source-checkpoint")
    del words[at : at + 2]
    words[words.index("--source-model") + 1] = f"{place.file}:twice"
    assert main(words) == 0
    from safetensors.torch import load_file

    state = load_file(place.root / "out/model.safetensors")
    assert torch.equal(state["layers.0.weight"], state["model.conv.weight"])
    pile = read_pictures(place.root / "pile", 32, hashed=False)
    images = torch.from_numpy(pile.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = dabench.load_model(place.root / "out")(images).argmax(1)
    assert [row["class"] for row in place.rows()] == [str(int(i)) for i in found]


def test_a_model_that_cannot_be_kept_costs_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, *given: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("share memory")

    monkeypatch.setattr("dabench.source_models.model_files.save_model", fail)
    assert main(place.words("--epochs", "1")) == 2
    out, err = place.capsys.readouterr()
    assert "the adapted model cannot be kept (RuntimeError: share memory)" in err
    assert "model.safetensors" not in out
    found = sorted(path.name for path in (place.root / "out").iterdir())
    assert found == ["predictions.csv", "report.html"]


def test_an_open_set_has_unknown_images_and_an_output_more(place: Place) -> None:
    assert main(place.words("--open-set", "--epochs", "2", method="usd")) == 0
    rows = place.rows()
    share = np.mean([row["class"] != row["class_before"] for row in rows])
    assert f"{share:.1%} of the answers changed" in place.capsys.readouterr().out
    assert all(row["unknown_score"] for row in rows)
    assert {row["class"] for row in rows} <= {"0", "1", "2", "unknown"}
    loaded = dabench.load_model(place.root / "out")
    pile = read_pictures(place.root / "pile", 32, hashed=False)
    with torch.no_grad():
        p = loaded(torch.from_numpy(pile.images).permute(0, 3, 1, 2).float() / 255).softmax(1)
    assert p.shape == (24, 4)
    scores = [float(row["unknown_score"]) for row in rows]
    np.testing.assert_allclose(p[:, 3].numpy(), scores, atol=1e-5)


def test_a_stream_goes_by_the_files_names(place: Place) -> None:
    assert main(place.words("--method.lr", "0.01", method="tent")) == 0
    assert {path.name for path in (place.root / "out").iterdir()} == {
        *("predictions.csv", "report.html"),
    }
    pile = read_pictures(place.root / "pile", 32, hashed=False)
    images = torch.from_numpy(pile.images).permute(0, 3, 1, 2).float() / 255
    live = dabench.online(place.model, "tent", lr=0.01, batch_size=8)
    expected = torch.cat([live(part) for part in images.split(8)]).argmax(1)
    assert [row["class"] for row in place.rows()] == [str(int(i)) for i in expected]


def test_a_stream_goes_by_a_list(place: Place) -> None:
    order = [f"{name}/{i}.png" for i in (3, 1) for name in ("cat", "ant", "bee")]
    listed = place.root / "list.csv"
    listed.write_text("\n".join(["path,shot", *(f"pile/{name},x" for name in order)]))
    assert main(place.words("--images", listed, "--batch-size", "4", method="tent")) == 0
    pile = read_pictures(listed, 32, hashed=False)
    assert pile.names == tuple(f"pile/{name}" for name in order)
    images = torch.from_numpy(pile.images).permute(0, 3, 1, 2).float() / 255
    live = dabench.online(place.model, "tent", batch_size=4)
    parts = images.split(3)  # six images in two even batches
    top = torch.cat([live(part) for part in parts]).softmax(1).amax(1).tolist()
    found = {row["file"]: float(row["confidence"]) for row in place.rows()}
    assert [found[name] for name in pile.names] == pytest.approx(top, abs=1e-6)


def test_a_folder_is_looked_into_as_data_sets_are(place: Place, tmp_path: Path) -> None:
    pile = place.root / "pile"
    (tmp_path / "elsewhere").mkdir()
    for name in (".thumbs/a.png", "__MACOSX/a.png", "ant/.a.png", "../elsewhere/deep/a.png"):
        (pile / name).parent.mkdir(parents=True, exist_ok=True)
        (pile / name).write_bytes((pile / "bee/0.png").read_bytes())
    (pile / "link").symlink_to(tmp_path / "elsewhere")
    (pile / "bee/round").symlink_to(pile)
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "elsewhere")
    names = read_pictures(pile, 32, hashed=False).names
    own = [f"{name}/{i}.png" for name in ("ant", "bee", "cat") for i in range(8)]
    assert list(names) == [*own, "link/deep/a.png"]


def test_a_folder_that_cannot_be_read_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterdir = Path.iterdir

    def refused(path: Path) -> Any:
        if path.name == "cat":
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match=r"cannot read folder .*/pile/cat: Permission denied"):
        read_pictures(place.root / "pile", 32, hashed=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\na.png\n", "no column path"),
        ("path\n", "no rows"),
        ("path\npile/ant/0.png\npile/ant/9.png\n", "'pile/ant/9.png': there is no such file"),
        ("path\npile/ant/0.png\npile/ant/0.png\n", "'pile/ant/0.png': it stands there twice"),
    ],
)
def test_a_bad_list(place: Place, text: str, message: str) -> None:
    (place.root / "list.csv").write_text(text)
    assert main(place.words("--images", place.root / "list.csv")) == 2
    (line,) = place.capsys.readouterr().err.splitlines()
    assert message in line


def test_the_report_says_what_changed(place: Place) -> None:
    for name in ("<b>bold</b>", "plain"):
        image = Image.new("RGB", (32, 32), (len(name), 90, 10))
        image.save(place.root / "pile" / f"{name.replace('/', '_')}.png")
    assert main(place.words("--open-set", "--epochs", "1", method="usd")) == 0
    page = (place.root / "out/report.html").read_text()
    assert "Nothing here is measured against labels." in page
    assert "<b>bold" not in page
    assert "answers changed" in page
    for score in ("im", "entropy", "entropy-classes", "snd"):
        assert f'<th scope="row">{score}</th>' in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_collapse_is_warned_of() -> None:
    before = Predictions(np.arange(30) % 3, np.full(30, 0.5), None, None)
    after = Predictions(np.zeros(30, dtype=np.int64), np.full(30, 0.9), None, None)
    found = Adapted(torch.nn.Identity(), ("a", "b", "c"), before, after, {})
    assert any(
        line.startswith("Collapse: 3.0 classes were in use, now 1.0") for line in warnings_of(found)
    )
    assert warnings_of(Adapted(torch.nn.Identity(), ("a", "b", "c"), before, before, {})) == []
    one = Adapted(torch.nn.Identity(), ("a", "b", "c"), after, after, {})
    assert any("nearly all images are called a" in line for line in warnings_of(one))
    most, all_but_one = (
        Predictions(np.where(np.arange(30) < n, 0, 1), np.full(30, 0.5), None, None)
        for n in (25, 29)
    )
    moved = Adapted(torch.nn.Identity(), ("a", "b", "c"), most, all_but_one, {})
    assert [line.split(".")[0] for line in warnings_of(moved)] == [
        "97% of the images are now a (83% before)"
    ]


def test_names_are_no_formulas(tmp_path: Path) -> None:
    answers = Predictions(np.array([0, 1]), np.full(2, 0.5), np.array([-0.5, 0.5]), None)
    adapted = Adapted(torch.nn.Identity(), ("=1+1", "b"), answers, answers, {})
    pile = Pile(("@a.png", "b.png"), np.zeros((2, 8, 8, 3), np.uint8), {"-c.png": "=bad"})
    write_predictions(tmp_path / "p.csv", adapted, pile)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert {*rows} == {"'@a.png", "b.png", "'-c.png"}
    assert rows["'@a.png"]["class"] == rows["'@a.png"]["class_before"] == "'=1+1"
    assert rows["'@a.png"]["unknown_score"] == "-0.5"  # numbers stay
    assert rows["'-c.png"]["not_read"] == "'=bad"


def test_images_that_cannot_be_read_are_listed(place: Place) -> None:
    (place.root / "pile/ant/0.png").write_bytes(b"\x89PNG no picture")
    assert main(place.words("--epochs", "1")) == 0
    assert "23 images of 32 px; 1 could not be read" in place.capsys.readouterr().out
    first = place.rows()[0]
    assert first["file"] == "ant/0.png"
    assert first["class"] == ""
    assert "cannot decode" in first["not_read"]
    assert main(place.words("--epochs", "1", "--strict", out="other")) == 2
    assert "leave --strict out to go on without it" in place.capsys.readouterr().err
    assert not (place.root / "other").exists()


def test_files_of_kinds_that_are_not_read_are_listed(place: Place) -> None:
    for name in ("ant/IMG_1.heic", "raw.cr2", "notes.txt", ".hidden/b.png"):
        (place.root / "pile" / name).parent.mkdir(exist_ok=True)
        (place.root / "pile" / name).write_bytes(b"no picture")
    assert main(place.words(method="source")) == 0
    lines = place.capsys.readouterr().out.splitlines()
    assert lines[0] == "24 images of 32 px; 2 could not be read"
    assert lines[1].startswith("1 of 27 files left out: 1 .png: hidden")
    assert lines[2].startswith("2 of 27 files left out: 1 .heic, 1 .cr2: cannot be read by this")
    found = {row["file"]: row["not_read"] for row in place.rows() if row["not_read"]}
    assert found == dict.fromkeys(
        ("ant/IMG_1.heic", "raw.cr2"), "of a kind that this Pillow does not read"
    )
    assert main(place.words("--strict", out="other")) == 2
    assert "IMG_1.heic: of a kind that this Pillow does not read" in place.capsys.readouterr().err


@pytest.mark.parametrize("name", ["names.txt", "ant, bee.txt"])
def test_names_of_classes_in_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("ant\n\nbee, big \ncat\n", encoding="utf-8-sig")
    assert _classes(str(tmp_path / name)) == ["ant", "bee, big", "cat"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--classes", "ant,bee"), "no linear layer with 2 outputs (there are 3)"),
        (("--classes", "ant,ant,bee"), "two or more different names"),
        (("--images", "/nowhere"), "--images /nowhere: no such folder"),
        (("--method.lrr", "1"), "no such option; did you mean 'lr'"),
        (("--method", "cabb"), "cabb trains a network of its own, and only asks the model"),
        (("--method", "transadapt"), "transadapt segments frames"),
        (("--method", "transadapt", "--images", "/nowhere"), "transadapt segments frames"),
        (("--method.lrr", "1", "--images", "/nowhere"), "no such option; did you mean 'lr'"),
        (("--classes", "names.txt"), "--classes names.txt: no such file"),
        (("--method", "eata", "--images", "/nowhere"), "eata needs fisher-images, which a model"),
        (("--method", "tent", "--epochs", "5"), "--epochs: tent answers a stream, once"),
        (("--method", "tent", "--init", "bn-target"), "init: tent answers a stream from the model"),
        (("--method", "tent", "--device", "cuda:99"), "--device cuda:99: no such GPU"),
        (("--image-size", "4"), "--image-size 4: expected 8 or more"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    place: Place, more: tuple[str, ...], message: str
) -> None:
    assert main(place.words(*more)) == 2
    (line,) = place.capsys.readouterr().err.splitlines()  # nothing but the error
    assert message in line
    assert not (place.root / "out").exists()
    assert not list(place.root.glob(".out*"))


def test_what_is_there_is_not_overwritten(place: Place) -> None:
    (place.root / "out").mkdir()
    (place.root / "out" / "mine.txt").write_text("mine")
    assert main(place.words()) == 2
    assert "there is something already" in place.capsys.readouterr().err
    with pytest.raises(CacheError, match=r"has no model.yaml: expected a folder"):
        dabench.load_model(place.root / "out")


@pytest.mark.parametrize("kind", ["link", "mount"])
def test_an_empty_folder_that_cannot_be_replaced_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "out"
    (tmp_path / "real").mkdir()
    if kind == "link":
        out.symlink_to("real")
    else:
        out.mkdir()

        def busy(*given: Any) -> None:
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(saved.os, "replace", busy)
    with saved.workplace(out) as (place, work):
        saved.publish(work, place, lambda draft: (draft / "a.txt").write_text("a"))
    assert [path.name for path in out.iterdir()] == ["a.txt"]
    assert not (tmp_path / ".out.adapt").exists()
    assert out.is_symlink() == (kind == "link")


def test_a_result_that_finds_no_room_lies_beside_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved.shutil, "copy2", full)
    with (
        pytest.raises(StoreError, match=r"out: cannot be filled .*No space left") as caught,
        saved.workplace(tmp_path / "out") as (place, work),
    ):
        saved.publish(work, place, lambda draft: (draft / "a.txt").write_text("a"))
    (rest,) = tmp_path.glob("out.*")
    assert str(rest) in str(caught.value)
    assert (rest / "a.txt").read_text() == "a"
    assert not (tmp_path / ".out.adapt").exists()


def test_an_interrupted_stream_keeps_its_state_beside_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def interrupted() -> None:
        with saved.workplace(tmp_path / "out") as (_, work):
            (work / "checkpoint.pt").write_text("state")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / ".out.adapt/checkpoint.pt").is_file()


def test_an_out_that_cannot_be_filled_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="there is something already"):
        saved.check_free(tmp_path / "link")
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(saved.os, "access", lambda *given: False)
    with pytest.raises(ConfigError, match="this folder cannot be written"):
        saved.check_free(tmp_path / "mine")


@pytest.mark.parametrize("method", ["shot", "tent"])
def test_on_a_device_the_answers_are_those_of_the_cpu(place: Place, method: str) -> None:
    outs = ("here", "there")
    more = ("--epochs", 1) if method == "shot" else ()
    first, words = (place.words(*more, method=method, out=out) for out in outs)
    assert main(first) == 0
    words[words.index("--device") + 1] = "cuda"
    with pretended_device():
        assert main(words) == 0
    assert "device</th><td>cuda<" in (place.root / "there/report.html").read_text()
    assert place.rows("there") == place.rows("here")
    if method == "shot":
        here, there = ((place.root / out / "model.safetensors").read_bytes() for out in outs)
        assert here == there
