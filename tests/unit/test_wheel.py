"""The three folders are imported as ``dabench.*`` from a wheel and from a plain checkout alike."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dabench

ROOT = Path(__file__).parents[2]
FOLDERS = ("methods", "datasets", "protocols")
PROGRAM = """
import sys
sys.path.insert(0, {place!r})
import dabench.datasets.digits.digits, dabench.protocols.sf_osda
import dabench
ours = {place!r}
assert dabench.__file__.startswith(ours), dabench.__file__
from dabench.methods.source_free import usd
assert usd.__file__.startswith(ours), usd.__file__
bare = [n for n in sys.modules if n.split(".")[0] in ("methods", "datasets", "protocols")]
assert not bare, bare
"""


def import_from(place: Path) -> None:
    """Import in a fresh, isolated interpreter with ``place`` first on the path."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM.format(place=str(place))],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that building leaves nothing behind in it."""
    place = tmp_path_factory.mktemp("checkout") / "dabench-copy"
    place.mkdir()
    for name in ("dabench", *FOLDERS):
        waste = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / name, symlinks=True, ignore=waste)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    return place


@pytest.mark.slow
def test_import_from_a_plain_checkout(copy: Path) -> None:
    import_from(copy)


@pytest.mark.slow
def test_the_wheel_holds_every_file_once(copy: Path, tmp_path: Path) -> None:
    for needed in ("setuptools", "build"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed; a wheel cannot be built without a network")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        file.extractall(tmp_path / "unpacked")
    expected = {f"dabench/{p.relative_to(ROOT / 'dabench')}" for p in core_files()}
    for folder in FOLDERS:
        files = (ROOT / folder).rglob("*.py")
        expected |= {f"dabench/{p.relative_to(ROOT)}" for p in files}
    assert len(names) == len(set(names))
    assert {n for n in names if n.endswith(".py")} == expected
    others = {"dabench/py.typed"}
    for folder in ("board/templates", "board/published", "testing/templates"):
        files = (ROOT / "dabench" / folder).iterdir()
        others |= {f"dabench/{folder}/{path.name}" for path in files}
    assert {n for n in names if not n.endswith(".py")} == others
    assert all(name.startswith("dabench/") for name in names)
    import_from(tmp_path / "unpacked")


@pytest.mark.slow
def test_an_index_would_take_sdist_and_wheel(copy: Path, tmp_path: Path) -> None:
    """The wheel is built from the sdist, so that nothing is missing in that."""
    for needed in ("setuptools", "build", "twine"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install -e '.[dev]'")
    build = [sys.executable, "-m", "build", "--no-isolation", "-o", str(tmp_path), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    built = sorted(path.name for path in tmp_path.iterdir())
    name = f"dabench-{dabench.__version__}"
    assert built == [f"{name}-py3-none-any.whl", f"{name}.tar.gz"]
    with zipfile.ZipFile(tmp_path / built[0]) as file:
        names = set(file.namelist())
    for folder in FOLDERS:
        assert {f"dabench/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*.py")} <= names
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, tmp_path.iterdir())]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def core_files() -> list[Path]:
    """Return the files of the core, without what the links show."""
    core = ROOT / "dabench"
    return [p for p in core.rglob("*.py") if p.relative_to(core).parts[0] not in FOLDERS]


def test_no_bare_names_in_this_process() -> None:
    for name in FOLDERS:
        module = sys.modules.get(name)
        where = str(getattr(module, "__file__", None) or list(getattr(module, "__path__", [])))
        assert str(ROOT) not in where, f"'{name}' was imported from this checkout"
