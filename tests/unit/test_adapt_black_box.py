"""``dabench adapt`` with a model that is only asked: of the user's own, or behind HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import dabench
from dabench.cli.main import main
from dabench.deploy import black_box
from dabench.errors import AccessError, ConfigError
from dabench.oracle.answer_forms import AnswerForm
from dabench.oracle.in_process import InProcess
from dabench.source_models.loading import SourceModel, state_hash

NAMES = ("ant", "bee", "cat")
OWN = ("--backbone", "small-cnn", "--epochs", "1")
TOKEN = "secret-token"


@pytest.mark.parametrize("method", ["cabb", pytest.param("dine", marks=pytest.mark.slow)])
def test_what_is_written_is_what_the_network_answers(place: Any, method: str) -> None:
    assert main(place.adapt(*OWN, "--classes", ",".join(NAMES), method=method)) == 0
    found = sorted(path.name for path in (place.root / "out").iterdir())
    assert found == ["model.safetensors", "model.yaml", "predictions.csv", "report.html"]
    assert not list(place.root.glob(".out*"))
    rows, images = place.rows(), place.images()
    with torch.no_grad():
        p = dabench.load_model(place.root / "out")(images).softmax(1)
        before = place.model(images).softmax(1)
    assert [row["class"] for row in rows] == [NAMES[i] for i in p.argmax(1)]
    top = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(p.amax(1).numpy(), top, atol=1e-5)
    said = [float(row["confidence_before"]) for row in rows]
    np.testing.assert_allclose(before.amax(1).numpy(), said, atol=1e-5)
    card = yaml.safe_load((place.root / "out/model.yaml").read_text())
    assert (card["backbone"], card["image_size"], card["answers"]) == ("small-cnn", 32, "soft")
    assert card.get("networks") == (2 if method == "cabb" else None)
    page = (place.root / "out/report.html").read_text()
    assert "oracle_queries</th><td>18" in page  # every picture once


@pytest.mark.slow
def test_it_gives_what_a_run_scores(place: Any) -> None:
    more = ["--protocol.held_out", "0", "--protocol.oracle", "in-process"]
    record = place.run(*more, method="dine", epochs=2)
    (scored,) = [s["value"] for s in record["scores"] if s["metric"] == "accuracy"]
    words = place.adapt("--backbone", "small-cnn", "--epochs", 2, "--classes", ",".join(NAMES))
    assert main(words) == 0
    right = [row["class"] == row["file"].split("/")[0] for row in place.rows()]
    assert np.mean(right) == scored


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], str]]:
    """Serve an answerer from a thread; stop it after the test."""
    pytest.importorskip("fastapi")
    from dabench.oracle.connections import Server
    from dabench.oracle.server import create_app

    monkeypatch.setenv("DABENCH_ORACLE_TOKEN", TOKEN)
    running: list[tuple[Any, threading.Thread]] = []

    def start(answerer: Any) -> str:
        server = Server(create_app(answerer, TOKEN))
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


class Counted(InProcess):
    """Counts the pictures that it is asked about."""

    asked = 0

    def answer(self, images: np.ndarray) -> np.ndarray:
        self.asked += len(images)
        return super().answer(images)


def oracle(place: Any, kind: Any = "soft") -> Counted:
    """Return the model of a folder as an oracle."""
    from dabench.networks.foreign import wrap_classifier

    network = wrap_classifier(place.model)
    model = SourceModel(network, state_hash(network), None, 0.0)
    return Counted(model, NAMES, 32, AnswerForm(kind), "cpu")


def test_a_model_elsewhere_says_classes_and_size_and_is_asked_once(
    place: Any, serve: Callable[[Any], str]
) -> None:
    answerer = oracle(place)
    url = ("--oracle-url", serve(answerer), "--cache-dir", place.root / "cache")
    assert main(place.adapt(*url, *OWN)) == 0
    assert "18 images of 32 px" in place.capsys.readouterr().out
    assert main(place.adapt(*OWN, "--classes", ",".join(NAMES), out="here")) == 0
    there, here = ((place.root / n / "predictions.csv").read_bytes() for n in ("out", "here"))
    assert there == here
    assert answerer.asked == 18
    assert main(place.adapt(*url, *OWN, out="again")) == 0
    assert answerer.asked == 18  # the answers were kept
    place.capsys.readouterr()

    def error(*more: Any, **named: Any) -> str:
        assert main(place.adapt(*url, *more, out="none", **named)) == 2
        (line,) = place.capsys.readouterr().err.splitlines()[-1:]
        assert not (place.root / "none").exists()
        return line

    assert "give the oracle's in its order" in error(*OWN, "--classes", "bee,ant,cat")
    assert "run with --image-size 32" in error(*OWN, "--image-size", "64")
    assert "shot needs the model itself, and this one only answers" in error(method="shot")
    assert "--source-head belongs to --source-model" in error(*OWN, "--source-head", "fc")


def test_what_does_not_fit_is_one_line_and_asks_nobody(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(InProcess, "answer", never)

    def error(*more: Any, **named: Any) -> str:
        assert main(place.adapt(*more, **named)) == 2
        err = place.capsys.readouterr().err
        assert not list(place.root.glob("*out*"))
        return err.splitlines()[-1]

    assert "dine trains a network of its own, and only asks the model: give --backbone" in error()
    assert "no such option; did you mean 'lr'" in error(*OWN, "--method.lrr", "1")
    assert "small-cnn has no pretrained weights" in error(*OWN, "--weights", "pretrained")
    assert "knows no unknown classes" in error(*OWN, "--open-set")
    assert "no BatchNorm to re-estimate" in error(*OWN, "--init", "bn-target")
    assert "backbone: shot adapts the model itself" in error(*OWN, method="shot")
    monkeypatch.delenv("DABENCH_ORACLE_TOKEN", raising=False)
    elsewhere = error("--oracle-url", "http://127.0.0.1:1", method="shot")
    assert "shot needs the model itself, and this one only answers" in elsewhere
    both = error(*OWN, "--oracle-url", "http://h", "--source-model", "m.py:build")
    assert "give --source-model, or --oracle-url" in both
    assert "learns the target's labels" in error(method="target-supervised")
    assert "linear-probe is trained on labelled source images" in error(method="linear-probe")
    from dabench.deploy.offline import adapt

    hard, images = oracle(place, "hard"), place.images()
    with pytest.raises(ConfigError, match="source trains no network; leave them out"):
        adapt(hard, images, "source", backbone="small-cnn")
    monkeypatch.setattr("dabench.oracle.http.Http", lambda *given: hard)
    monkeypatch.setattr("dabench.deploy.onnx_file.check_installed", lambda: None)
    url = ("--oracle-url", "http://h")
    line = error(*url, "--export", "onnx", method="source")
    assert "--export: source leaves no network of its own behind" in line
    gone = ("--images", "/nowhere")  # no picture is read before these
    assert "needs probabilities" in error(*url, *gone, *OWN)
    monkeypatch.setattr("dabench.oracle.http.Http", lambda *given: oracle(place))
    size = error(*url, *gone, *OWN, "--image-size", "64")
    assert "run with --image-size 32" in size
    assert "give the oracle's in its order" in error(*url, *gone, *OWN, "--classes", "bee,ant,cat")
    assert "unknown backbone 'small-cn'; did you mean" in error(*gone, "--backbone", "small-cn")
    assert "no pretrained weights" in error(*gone, *OWN, "--weights", "pretrained")
    with pytest.raises(AccessError, match="needs probabilities, and the oracle gives hard"):
        adapt(hard, images, "dine", backbone="small-cnn")
    assert black_box.TargetNetwork("resnet18", None).start == "pretrained"
