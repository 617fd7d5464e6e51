"""Bad input through the command line: one line that says what to do, exit code not 0."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.cli.main import main
from dabench.config.settings import read_settings
from dabench.config.spec import resolve
from dabench.contract.data import DomainData
from dabench.engine.run import execute
from dabench.store.files import locked
from dabench.store.store import Store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: Path) -> Run:
    """Return ``run(*words)``, which gives exit code, stdout and stderr."""
    shutil.copytree(drawn, tmp_path / "cache")

    def call(*words: str) -> tuple[int, str, str]:
        base = ["run", "--threads", "1", "--no-progress", "--epochs", "1", "--source-epochs", "1"]
        if "--results" not in words:
            base += ["--results", str(tmp_path / "results")]
        code = main([*base, "--cache-dir", str(tmp_path / "cache"), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def small(tiny: DomainData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``digits`` load the tiny data."""
    digits = registry.dataset("digits")
    monkeypatch.setattr(digits, "load", lambda self, request: tiny)


def the_line(err: str) -> str:
    """Return the error line, and check that there is one and no traceback."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "this is a bug" not in lines[0]
    return lines[0]


USD = ("--method", "usd", "--protocol", "sf-osda")
TENT = ("--method", "tent", "--protocol", "online-tta")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--method", "ust"), ("ust", "did you mean 'usd'")),
        (("--method", "usd", "--protocol", "sf-osd"), ("sf-osd", "did you mean 'sf-osda'")),
        (("--method", "usd", "--protocol", "sf-uda"), ("usd", "sf-uda", "sf-osda")),
        ((*USD, "--dataset", "digit"), ("did you mean 'digits'",)),
        ((*USD, "--method.lrr", "1"), ("lrr", "did you mean")),
        ((*USD, "--method.lr", "fast"), ("lr", "fast")),
        ((*USD, "--method.lr", "-1"), ("lr",)),
        ((*USD, "--method.ema-decay", "1.5"), ("ema",)),
        ((*USD, "--method.criterion", "jds"), ("criterion", "jsd")),
        ((*USD, "--method.teacher", "perhaps"), ("teacher",)),
        ((*USD, "--protocol.held-out", "1"), ("held",)),
        ((*USD, "--protocol.split", "r99"), ("split", "r99")),
        ((*USD, "--epochs", "many"), ("--epochs", "many")),
        ((*USD, "--batch-size", "1"), ("--batch-size", "2 or more")),
        ((*TENT, "--batch-size", "0"), ("--batch-size", "1 or more")),
        ((*USD, "--target", "handwriten"), ("handwriten", "did you mean 'handwritten'")),
        ((*USD, "--source", "handwritten"), ("--source and --target are both", "handwritten")),
        ((*USD, "--target", "mnist"), ("mnist8k.npz", "give --data-root")),
        (
            (*USD, "--target", "mnist", "--data-root", "/nowhere"),
            ("needs /nowhere/mnist/mnist8k.npz (",),
        ),
        ((*USD, "--init", "bn"), ("--init", "bn-target")),
        ((*USD, "--image-size", "64"), ("--image-size", "32")),
        ((*USD, "--freeze", "50"), ("--freeze", "stages")),
        ((*USD, "--backbone", "small-cn"), ("small-cn",)),
        ((*USD, "--weights", "pretrained"), ("small-cnn", "none")),
        ((*USD, "--weights", "/nowhere/w.pt"), ("/nowhere/w.pt",)),
        ((*USD, "--device", "gpu"), ("--device", "gpu")),
        ((*USD, "--seeds", "9-5"), ("--seeds",)),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else None,
)
def test_wrong_words(run: Run, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    line = the_line(err)
    for part in parts:
        assert part in line


BLACK = ("--method", "dine", "--protocol", "bb-uda")
CONTINUAL = ("--method", "tent", "--protocol", "continual-tta")
DIGITS = ("--dataset", "digits")
SINGLE = ("--protocol.stream", "single:window=99999")
CONTRAST = ("published-contrast", "c-contrast")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((*USD, "--oracle-url", "http://nix"), ("--oracle-url", "--protocol.oracle http")),
        ((*BLACK, "--oracle-url", "http://nix"), ("--oracle-url", "--protocol.oracle http")),
        ((*USD, "--resume"), ("--resume", "sf-osda")),
        ((*BLACK, "--protocol.top_k", "5"), ("top_k 5", "answers top-k", "soft")),
        ((*BLACK, "--protocol.decimals", "1"), ("decimals 1", "answers rounded")),
        ((*BLACK, "--protocol.partial", "1"), ("partial 1", "2 or more")),
        ((*BLACK, "--init", "bn-target"), ("--init bn-target", "BatchNorm")),
        ((*TENT, "--init", "bn-target"), ("--init bn-target", "bn-adapt")),
        ((*TENT, "--protocol.shifts", "contrast:5"), ("--protocol.shifts", *CONTRAST)),
        ((*TENT, "--protocol.shifts", "fog"), ("'fog' has no severity", "fog:5")),
        ((*TENT, "--protocol.severity", "9"), ("--protocol.shifts", "severities 1 to 5")),
        # data that are drawn already: what is refused here is seen when they are loaded
        ((*TENT, *DIGITS, "--protocol.images", "9999"), ("--protocol.images 9999", "or fewer")),
        ((*CONTINUAL, "--protocol.stream", "single", "--batch-size", "4"), ("--batch-size 1",)),
        (
            (*CONTINUAL, *DIGITS, *SINGLE, "--batch-size", "1"),
            ("window=99999", "none would adapt"),
        ),
        ((*CONTINUAL, "--protocol.stream", "label-shift:ratio=inf"), ("ratio=inf", "from 1")),
        ((*CONTINUAL, "--protocol.stream", "label-shift:"), ("missing", "ratio")),
        (
            (*CONTINUAL, "--protocol.stream", "ptta:slots=3,slots=4"),
            ("slots stands there twice",),
        ),
        (
            ("--method", "aerial", "--protocol.weather", "foggy"),
            ("--protocol.weather", "did you mean 'fog'"),
        ),
        (
            ("--method", "shot", "--protocol", "sf-msda", "--source", "print"),
            ("there is one source", "sf-uda"),
        ),
        (
            *(("--method", "source", "--protocol", "sf-msda", "--source-model", "resnet18"),),
            ("--source-model", "sf-msda", "sf-uda"),
        ),
        (
            (*USD, "--protocol.known", "1", "--protocol.unknown", "2"),
            ("one class, '1'", "two or more"),
        ),
        (
            (*BLACK, "--protocol.answers", "top-k", "--protocol.top_k", "10"),
            ("top_k 10", "10 classes"),
        ),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else None,
)
def test_options_without_effect_or_sense(
    run: Run, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    for part in parts:
        assert part in the_line(err)


@pytest.mark.parametrize("protocol", ["sf-uda", "sf-osda", "bb-uda"])
@pytest.mark.parametrize("dataset", ["overhead", "aid", "ucm"])
def test_one_domain_is_for_streams(run: Run, protocol: str, dataset: str) -> None:
    code, _, err = run("--method", "source", "--protocol", protocol, "--dataset", dataset)
    assert code == 2
    for part in (protocol, dataset, "'clear'", *registry.ONLINE):
        assert part in the_line(err)


def test_a_missing_data_root(run: Run, tmp_path: Path) -> None:
    words = (*USD, "--dataset", "office31", "--weights", "none")
    code, _, err = run(*words)
    assert code == 2
    assert "--data-root" in the_line(err)
    code, _, err = run(*words, "--data-root", str(tmp_path / "nothing"))
    assert code == 2
    assert "office31" in the_line(err).lower().replace("-", "")


def test_a_target_without_unknown(
    run: Run, tiny: DomainData, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept, part in ((range(6), "private"), (range(6, 10), "known")):
        labels = tiny.target_all.labels
        rows = np.flatnonzero(np.isin(labels, list(kept)))
        target = dataclasses.replace(
            tiny.target_all, images=tiny.target_all.images[rows], labels=labels[rows]
        )
        data = dataclasses.replace(tiny, target_all=target)
        monkeypatch.setattr(registry.dataset("digits"), "load", lambda s, r, data=data: data)
        code, _, err = run(*USD)
        assert code == 2
        assert part in the_line(err)


def not_finite(p: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return logits.sum(1) * float("nan")


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_not_finite(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.method("usd")
    losses: Any = sys.modules["dabench.methods.source_free.usd"].losses
    monkeypatch.setattr(losses, "kl_divergence", not_finite)
    code, out, err = run(*USD, "--json")
    assert code != 0
    assert out == ""
    line = the_line(err)
    for part in ("nan", "step 0", "consistency=nan", "known="):
        assert part in line
    records = list((tmp_path / "results" / "records").rglob("*.json"))
    assert [path.name.endswith(".failed.json") for path in records] == [True]
    kept = json.loads(records[0].read_text())
    assert kept["spec"]["method"] == "usd"
    assert "DivergenceError" in json.dumps(kept)
    monkeypatch.undo()


@pytest.mark.usefixtures("small")
def test_a_failed_run_can_be_run_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.method("usd")
    with monkeypatch.context() as patch:
        losses: Any = sys.modules["dabench.methods.source_free.usd"].losses
        patch.setattr(losses, "kl_divergence", not_finite)
        assert run(*USD)[0] != 0
    code, out, _ = run(*USD, "--json")
    assert code == 0
    assert Path(json.loads(out)["record"]).is_file()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_half_written(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    exit_code: int,
) -> None:
    def interrupt(*args: Any) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(registry.method("usd"), "training_step", interrupt)
    before = signal.getsignal(signal.SIGINT)
    try:
        code, out, err = run(*USD, "--json")
        assert signal.getsignal(signal.SIGINT) is before  # Lightning switches Ctrl-C off
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == exit_code
    assert out == ""
    assert "Traceback" not in err
    assert not [p for p in (tmp_path / "results" / "records").rglob("*") if p.is_file()]


@pytest.mark.usefixtures("small")
def test_a_damaged_source_model_is_named_and_trained_again(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("--method", "source")[0] == 0
    (model,) = (tmp_path / "cache").glob("sources/*/model.pt")
    model.write_bytes(b"damaged")
    with caplog.at_level("WARNING", "dabench"):
        assert run("--method", "source", "--force")[0] == 0
    assert str(model) in caplog.text
    assert "made again" in caplog.text


@pytest.mark.usefixtures("small")
def test_a_run_is_not_repeated_without_force(run: Run, tmp_path: Path) -> None:
    first = json.loads(run("--method", "source", "--json")[1])
    stamp = Path(first["record"]).stat().st_mtime_ns
    assert json.loads(run("--method", "source", "--json")[1]) == first
    assert Path(first["record"]).stat().st_mtime_ns == stamp
    again = json.loads(run("--method", "source", "--json", "--force")[1])
    assert again == first
    assert list((tmp_path / "results" / "records" / "superseded").rglob("*.json"))


@pytest.mark.usefixtures("small")
def test_a_forced_run_that_comes_out_otherwise_says_so(run: Run, tmp_path: Path) -> None:
    first = json.loads(run("--method", "source", "--json")[1])
    record = json.loads(Path(first["record"]).read_text())
    (score,) = (s for s in record["scores"] if (s["metric"], s["segment"]) == ("OS*", "all"))
    right, score["value"] = score["value"], score["value"] + 0.125
    Store(tmp_path / "results").dump(Path(first["record"]), record)
    code, _, err = run("--method", "source", "--force")
    assert code == 0
    (said,) = [line for line in err.splitlines() if "came out otherwise" in line]
    assert f"run {record['run_id']} came out otherwise than its earlier record" in said
    assert f"OS* was {score['value']}, and is {right}" in said
    assert "came out otherwise" not in run("--method", "source", "--force")[2]


@pytest.mark.usefixtures("small")
def test_what_is_made_once_for_many_runs_counts_in_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source parts and statistics: their time is taken off a run's."""
    from dabench.engine import run as running
    from dabench.source_models.makers import Makers

    told: list[float] = []
    monkeypatch.setattr(Makers, "spent", property(lambda self: 1000.0))
    monkeypatch.setattr(
        running, "resource_usage", lambda seconds, device: told.append(seconds) or {}
    )
    assert run("--method", "source")[0] == 0
    assert -1000 < told[0] < 0


@pytest.mark.usefixtures("small")
def test_of_two_processes_with_one_run_the_second_waits_for_its_record(
    run: Run, tmp_path: Path
) -> None:
    first = json.loads(run("--method", "source", "--json")[1])
    record, away = Path(first["record"]), tmp_path / "away"
    beside = record.with_suffix(".npz")
    record.rename(away)
    words = {"method": "source", "protocol": "sf-osda", "threads": 1, "source-epochs": 1}
    words |= {"epochs": 1, "results": str(tmp_path / "results")}
    words |= {"cache-dir": str(tmp_path / "cache"), "device": "cpu"}
    told: list[tuple[str, str]] = []

    def tell(stage: str, why: str) -> None:
        told.append((stage, why))
        if stage == "waits":  # the other process is ready now
            away.rename(record)
            other.close()

    with contextlib.ExitStack() as other:
        (spec,) = resolve(words)
        other.enter_context(locked(tmp_path / "results" / "runs" / record.stem))
        found = execute(spec, read_settings(words), tell)
    assert told[-1] == ("waits", f"run {record.stem} is being made by another process")
    assert found.existed
    assert (found.path, beside.is_file()) == (record, True)


def test_a_file_where_results_should_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run(*USD, "--results", str(tmp_path / "file"))
    assert code == 2
    assert str(tmp_path / "file") in the_line(err)
    code, _, err = run(*USD, "--results", str(tmp_path / "absent" / "results"))
    assert code == 2
    assert "does not exist" in the_line(err)


@pytest.mark.usefixtures("obeys_modes")
def test_read_only_results(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    code, _, err = run(*USD, "--results", str(folder))
    assert code == 2
    assert str(folder) in the_line(err)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("plain", [False, True], ids=["bottleneck", "plain"])
def test_a_backbone_without_batchnorm(
    run: Run, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    """SHOT's bottleneck still has a BatchNorm to re-estimate; a plain head has none at all."""
    from dabench.networks import backbones
    from dabench.source_models import classifier

    class Smooth(torch.nn.Module):
        """No BatchNorm anywhere."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :, ::4, ::4].flatten(1)

    monkeypatch.setattr(
        backbones, "backbone", lambda name, weights, side: (Smooth(), 192, backbones.HALF)
    )
    if plain:
        recipe = classifier.Recipe
        from dabench.source_models import recipes

        monkeypatch.setattr(recipes, "Recipe", lambda *a, **k: recipe(*a, **(k | {"plain": True})))
    code, _, err = run("--method", "source", "--init", "bn-target")
    if plain:
        assert code == 2
        assert "--init source" in the_line(err)
    else:
        assert code == 0


def test_images_without_dense_labels(run: Run, small: None) -> None:
    code, _, err = run("--method", "source", "--protocol", "online-seg", "--dataset", "digits")
    assert code != 0
    for part in ("online-seg needs a segmentation data set", "digits is classification"):
        assert part in the_line(err)


@pytest.mark.parametrize(
    ("share", "held_out", "parts"),
    [
        ("0", "0.3", ("comes to 0 private images", "UNK and HOS would be holes; give more")),
        ("0.0001", "0.3", ("comes to 0 private images",)),
        ("0.9999", "0.3", ("takes", "give 0.", "or leave it out to keep all")),
        ("0.02", "0.8", ("none of them to adapt on",)),
    ],
)
def test_a_share_of_private_images_that_cannot_be_had(
    run: Run, small: None, share: str, held_out: str, parts: tuple[str, ...]
) -> None:
    """What counts is how many images come out: one at .02, and that is held out."""
    options = ("--protocol.unknown_share", share, "--protocol.held_out", held_out)
    code, _, err = run("--method", "source", "--protocol", "sf-osda", *options)
    line = the_line(err)
    assert code == 2
    assert f"--protocol.unknown_share {share} " in line
    assert all(part in line for part in parts)


def test_the_largest_share_is_named_and_can_be_had(tiny: DomainData) -> None:
    protocol = registry.protocol("sf-osda")
    reason = protocol(unknown_share=0.9).is_valid(tiny)
    most = float(reason.partition("; give ")[2].partition(" or less")[0])
    assert protocol(unknown_share=most).is_valid(tiny) is None
    assert protocol(unknown_share=most + 0.02).is_valid(tiny) is not None
    plan = protocol(unknown_share=0.25, held_out=0).plan(tiny, 8, 0)
    assert protocol(unknown_share=0.25, held_out=0).is_valid(tiny) is None
    truth = plan.truth["adapt"]
    assert abs(np.mean(truth == plan.task.num_classes) - 0.25) < 0.02


def test_a_method_that_never_learned_is_told(run: Run, small: None) -> None:
    stream = ("--protocol", "continual-tta", "--dataset", "digits", "--protocol.shifts", "fog:1")
    stream = (*stream, "--protocol.images")
    code, _, err = run("--method", "rotta", *stream, "16", "--method.every", "64")
    assert code == 0
    assert "warning: rotta made no update in run" in err
    code, _, err = run("--method", "tent", *stream, "16", "--batch-size", "16")
    assert (code, err) == (0, "")


def test_a_record_of_a_newer_dabench_is_not_replaced(run: Run, small: None, tmp_path: Path) -> None:
    words = ("--method", "source", "--protocol", "sf-uda")
    assert run(*words)[0] == 0
    (path,) = (tmp_path / "results" / "records" / "sf-uda" / "digits").glob("*.json")
    text = path.read_text().replace('"schema": 1', '"schema": 2')
    path.write_text(text)
    code, _, err = run(*words)
    assert code == 2
    assert "written by a newer dabench (schema 2" in the_line(err)
    assert path.read_text() == text
