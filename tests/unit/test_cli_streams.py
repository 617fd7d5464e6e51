"""``dabench list streams`` and ``dabench stream preview``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.cli.main import main
from dabench.cli.stream import _draw
from dabench.contract.stream import Segment, Stream
from dabench.protocols.streams.named.arrivals import MIXED
from dabench.protocols.streams.named.catalogue import STREAMS

DIGITS = ["--dataset", "digits", "--source", "handwritten", "--target", "handwritten"]


def test_streams_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "streams"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(STREAMS)
    assert "visits=20" in next(line for line in lines if line.startswith("recurring"))
    assert main(["list", "protocols"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("protocols:")
    assert "tent" not in out
    assert main(["list", "stream"]) == 2


def test_a_list_needs_no_torch() -> None:
    code = (
        "import sys; from dabench.cli.main import main; main(['list', 'streams']); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("stream", ["unitta-nuiu:samples=5", None])
def test_a_stream_is_drawn(
    tmp_path: Path, drawn: Path, capsys: pytest.CaptureFixture[str], stream: str | None
) -> None:
    words = ["stream", "preview", "--out", str(tmp_path / "s.png"), "--cache-dir", str(drawn)]
    words += [*DIGITS, "--protocol.shifts", "fog:5,rain:5"]
    words += ["--protocol.stream", stream] if stream else []
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "digest" in out
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.width > 1000


def test_the_picture_has_domains_above_and_classes_below() -> None:
    """Two domains mixed in one segment, then one that shows what its name says."""
    fog, rain = Segment("fog-5", "fog", 5), Segment("rain-5", "rain", 5)
    segments = ((Segment("mixed", MIXED, 0), np.array([2, 0, 1])), (rain, np.array([1])))
    shown = (np.array([0, 1, 0]), np.array([1]))
    mixed = Stream(segments, 16, 3, "text", (fog, rain), shown)
    above, below = _draw(mixed, np.array([7, 8, 9]), ("a",) * 10, "title").axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), [0, 1, 0, 1])
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [9, 7, 8, 8])
    assert [tick.get_text() for tick in above.get_yticklabels()] == ["fog-5", "rain-5"]
    assert above.get_title() == "title"
    plain = Stream(((fog, np.array([0])), (rain, np.array([1, 2]))), 16, 3, "text")
    above, _ = _draw(plain, np.array([7, 8, 9]), ("a",) * 10, "title").axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), [0, 1, 1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "s.jpg"], "end the name in .png"),
        (["--out", "nowhere/s.png"], "there is no folder nowhere"),
        (["--protocol.stream", "mixt"], "did you mean 'mixed'"),
        (["--method.lr", "1"], "the same for all methods"),
        (["--protocol", "sf-uda"], "shows no stream"),
        (["--frames", "1"], "unknown argument"),
    ],
)
def test_what_cannot_be_drawn(
    tmp_path: Path,
    drawn: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = DIGITS if "sf-uda" not in words else ["--dataset", "digits"]
    assert main(["stream", "preview", "--cache-dir", str(drawn), *data, *words]) == 2
    assert told in capsys.readouterr().err
