"""What the fuzz tests share: commands in this process, watched, and a workplace with real runs."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.cli.main import EXIT_USER, main

#: no command may take longer on these small data
_LONGEST = 10.0
_SMALL = (
    *("--source", "a", "--target", "b", "--image-size", "32", "--backbone", "small-cnn"),
    *("--weights", "none", "--source-epochs", "2", "--epochs", "1", "--threads", "1"),
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that it printed."""
        return self.out + self.err


@dataclasses.dataclass
class Workplace:
    """A folder with pictures, caches and results, and commands that work in it."""

    root: Path
    capture: pytest.CaptureFixture[str]

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.root / "results"

    @property
    def cache(self) -> Path:
        """The cache folder."""
        return self.root / "cache"

    def call(self, *words: str) -> Answer:
        """Run a command; whatever it is given, it ends soon, and speaks to its user."""
        self.capture.readouterr()
        start = time.monotonic()
        code = main(list(words))
        seconds = time.monotonic() - start
        answer = Answer(code, *self.capture.readouterr())
        said = f"{' '.join(words)[:300]}\n-> {code}\n{answer.text[-1500:]}"
        assert code in (0, EXIT_USER), said
        assert "Traceback" not in answer.text, said
        assert "this is a bug" not in answer.text, said
        assert "\x1b" not in answer.text, said
        assert seconds < _LONGEST, f"{seconds:.1f} s: {said}"
        return answer

    def run(self, *words: str) -> Answer:
        """Run a method on the pictures of this place."""
        places = ("--results", str(self.results), "--cache-dir", str(self.cache))
        data = ("--dataset", "image-folder", "--data-root", str(self.root / "data"))
        return self.call("run", *data, *_SMALL, "--no-progress", *places, *words)


def draw_folders(root: Path, classes: int = 3, each: int = 12) -> None:
    """Draw two domains of class folders; a class is a colour, so that a network can learn it."""
    for d, domain in enumerate("ab"):
        for c in range(classes):
            folder = root / domain / f"class-{c}"
            folder.mkdir(parents=True)
            for i in range(each):
                noise = np.random.default_rng([d, c, i]).integers(0, 90, (40, 40, 3))
                noise[..., c % 3] += 120 - 20 * d
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i:03}.png")


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn pictures, on which nothing ran yet."""
    root = tmp_path_factory.mktemp("clean")
    draw_folders(root / "data")
    return root


@pytest.fixture
def workplace(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path | None], Workplace]:
    """Return a maker of private copies of a workplace."""
    count = 0

    def make(original: Path | None = None) -> Workplace:
        nonlocal count
        count += 1
        root = tmp_path / str(count)
        shutil.copytree(original or clean, root, symlinks=True)
        return Workplace(root, capsys)

    return make
