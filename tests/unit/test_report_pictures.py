"""``dabench report --features`` and ``--animate``: pictures from a record and its data."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dabench.cli.main import main
from dabench.cli.report_pictures import PAUSE, _check_shown, _projected
from dabench.errors import ConfigError

SMALL = ["--source-epochs", "1", "--no-progress"]


def only_run(root: Path) -> str:
    """Return the id of the one run there is."""
    return next((root / "runs").iterdir()).name


@pytest.mark.slow
def test_features_of_a_kept_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--method", "shot", "--epochs", "1", "--results", str(tmp_path), *SMALL]
    assert main([*words, "--save-model"]) == 0
    run = only_run(tmp_path)
    folder = tmp_path / "runs" / run / "report"
    drawn = {}
    for how in ((), ("tsne",), ("pca",)):
        assert main(["report", run, "--results", str(tmp_path), "--features", *how]) == 0
        found = np.asarray(Image.open(folder / "features.png"))
        assert found.shape[1] > 1.5 * found.shape[0]  # two panels
        assert len(np.unique(found.reshape(-1, found.shape[2]), axis=0)) > 10  # colours of classes
        assert "features: " in capsys.readouterr().out
        assert "data:image/png;base64," in (folder / "index.html").read_text("utf-8")
        drawn[how] = found.tobytes()
    assert drawn[()] == drawn["pca",] != drawn["tsne",]

    assert main(["report", run, "--results", str(tmp_path), "--animate"]) == 2
    assert "is no stream" in capsys.readouterr().err
    (folder.parent / "model" / "model.yaml").unlink()
    assert main(["report", run, "--results", str(tmp_path), "--features"]) == 2
    assert "was made without its model" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_projections_keep_far_groups_apart_and_repeat(how: str) -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(at, 0.1, (20, 16)) for at in (0.0, 5.0)])
    place = _projected(features.astype(np.float32), how)
    assert place.shape == (40, 2)
    within = max(np.ptp(part, axis=0).max() for part in np.split(place, 2))
    between = np.linalg.norm(place[:20].mean(0) - place[20:].mean(0))
    assert between > 0.5 * within
    np.testing.assert_array_equal(place, _projected(features.astype(np.float32), how))


@pytest.mark.slow
@pytest.mark.parametrize("stream", [(), ("--protocol.stream", "mixed")], ids=["segments", "mixed"])
def test_an_animated_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: tuple[str, ...]
) -> None:
    words = ["run", "--method", "source", "--protocol", "continual-tta", "--dataset", "digits"]
    words += ["--protocol.shifts", "fog:3,clear", *stream, "--batch-size", "200"]
    assert main([*words, "--results", str(tmp_path), *SMALL]) == 0
    run = only_run(tmp_path)
    out = tmp_path / "talk.gif"
    assert main(["report", run, "--results", str(tmp_path), "--animate", str(out)]) == 0
    with Image.open(out) as found:
        assert found.n_frames > 3
        assert found.info["duration"] == PAUSE
        frames = []
        for number in range(found.n_frames):
            found.seek(number)
            frames.append(np.asarray(found.convert("L")))
    # pictures change from frame to frame, and the line grows
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
    assert f"animation: {out}" in capsys.readouterr().out
    for words, text in (
        (["--animate", "talk.mp4"], "end the name in .webp or .gif"),
        (["--features"], "is a stream, which leaves no model behind"),
    ):
        assert main(["report", run, "--results", str(tmp_path), *words]) == 2
        assert text in capsys.readouterr().err


@pytest.mark.parametrize(("other", "named"), [({"data": "b"}, "data"), ({"stream": "b"}, "stream")])
def test_images_of_another_run_are_refused(other: dict[str, str], named: str) -> None:
    ids = {"data": "a", "stream": "a"}
    data, plan = SimpleNamespace(digest="a"), SimpleNamespace(stream=SimpleNamespace(digest="a"))
    _check_shown("--features", {"run_id": "0123", "ids": ids}, data, plan)
    with pytest.raises(ConfigError, match=f"--features: the {named} of run 0123 .*--data-root"):
        _check_shown("--features", {"run_id": "0123", "ids": ids | other}, data, plan)
