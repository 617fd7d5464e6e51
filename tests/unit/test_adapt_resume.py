"""A stream of ``dabench adapt`` that was interrupted goes on where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dabench.cli.main import main
from dabench.deploy import stream
from dabench.deploy.live import LiveModel


class Stop(Exception):
    """What a kill looks like from inside."""


class Pushes:
    """Counts the batches that models answer; may send a signal in one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen, self.last, self.signal = 0, 0, 0
        forward = LiveModel.forward

        def counted(model: LiveModel, images: Any) -> Any:
            self.seen += 1
            if self.seen == self.last:
                if not self.signal:
                    raise Stop
                os.kill(os.getpid(), self.signal)
            return forward(model, images)

        monkeypatch.setattr(LiveModel, "forward", counted)
        monkeypatch.setattr(stream, "EVERY", 0.0)

    def stop(self, last: int, number: int = 0) -> None:
        """Stop in the batch of this number, by a signal or at once."""
        self.seen, self.last, self.signal = 0, last, number


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    return Pushes(monkeypatch)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*out*"))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, 1),
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_same_command_goes_on(place: Any, pushes: Pushes, number: int, code: int) -> None:
    # cotta draws from the generators and has an optimiser, a teacher and an anchor
    words = ["--method.lr", "0.01", "--batch-size", "3"]
    assert main(place.adapt(*words, method="cotta", out="whole")) == 0
    pushes.stop(4, number)
    assert main(place.adapt(*words, method="cotta")) == code
    err = place.capsys.readouterr().err
    done = 4 if number else 3
    assert (f"batch {done} of 6 is kept: the same command goes on from there" in err) == (code > 1)
    assert files(place.root) == [".out.adapt"]
    pushes.stop(0)
    assert main(place.adapt(*words, method="cotta")) == 0
    assert pushes.seen == 6 - done
    assert f"going on at batch {done + 1} of 6" in place.capsys.readouterr().out
    whole, here = (place.root / n / "predictions.csv" for n in ("whole", "out"))
    assert here.read_bytes() == whole.read_bytes()
    assert files(place.root) == ["out"]


@pytest.mark.slow
def test_another_command_or_a_damaged_file_begins_anew(place: Any, pushes: Pushes) -> None:
    words = ["--batch-size", "3", "--method.lr", "0.01"]

    def interrupted() -> Path:
        pushes.stop(4)
        assert main(place.adapt(*words, method="tent")) == 1
        kept: Path = place.root / ".out.adapt" / "checkpoint.pt"
        assert kept.is_file()
        return kept

    interrupted()
    pushes.stop(0)
    other = ["--batch-size", "3", "--method.lr", "0.02"]
    assert main(place.adapt(*other, method="tent")) == 0
    assert pushes.seen == 6
    assert main(place.adapt(*other, method="tent", out="whole")) == 0
    first, second = (place.root / n / "predictions.csv" for n in ("whole", "out"))
    assert first.read_bytes() == second.read_bytes()
    second.parent.rename(place.root / "other")
    for damage in ("checkpoint.pt", "checkpoint.journal"):
        path = interrupted().with_name(damage)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        pushes.stop(0)
        assert main(place.adapt(*words, method="tent")) == 0
        assert pushes.seen == 6
        (place.root / "out").rename(place.root / damage)
    found = {
        (place.root / n / "predictions.csv").read_bytes()
        for n in os.listdir(place.root)
        if n.startswith("checkpoint")
    }
    assert len(found) == 1


@pytest.mark.slow
def test_a_real_kill_in_mid_stream(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = place.adapt("--batch-size", "2", method="cotta")
    assert main(place.adapt("--batch-size", "2", method="cotta", out="whole")) == 0
    slow = (
        "import sys, time; from dabench.deploy import stream, live; stream.EVERY = 0.0;"
        "f = live.LiveModel.forward;"
        "live.LiveModel.forward = lambda m, x: (time.sleep(0.3), f(m, x))[1];"
        "from dabench.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, *words], stdout=subprocess.DEVNULL)
    kept = place.root / ".out.adapt" / "checkpoint.pt"
    deadline = time.monotonic() + 200
    while not kept.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -9
    assert not (place.root / "out").exists()
    assert main(words) == 0
    assert "going on at batch" in place.capsys.readouterr().out
    whole, here = (place.root / n / "predictions.csv" for n in ("whole", "out"))
    assert here.read_bytes() == whole.read_bytes()
