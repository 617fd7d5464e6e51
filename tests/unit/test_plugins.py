"""Methods, data sets and protocols from outside: files, modules, installed packages."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dabench import registry
from dabench.cli.main import main
from dabench.config.command import run_command
from dabench.config.settings import Settings
from dabench.config.spec import RunSpec, resolve
from dabench.contract.data import DataRequest, DomainData
from dabench.engine.setup.parts import load_plan
from dabench.errors import ConfigError
from dabench.registry import announced, plugins
from dabench.registry.plugin_import import import_named, source_digest
from dabench.source_models import loading
from dabench.source_models.recipes import source_recipe
from dabench.store.identity import run_digest, versions_of

METHOD = '''
"""An idea."""

from typing import ClassVar

from dabench.api import OnlineMethod, Prediction
from dabench.methods.functional.bounds import Positive


class Mine(OnlineMethod):
    """The source model, cooled.

    Args:
        heat: what logits are divided by.
    """

    version: ClassVar[str] = "3"
    heat: Positive = 2.0

    def begin(self, access):
        super().begin(access)
        self.net = access.source_model.eval()

    def step(self, batch):
        return self.net(batch.images).detach() / self.heat

    def predict(self, images):
        return Prediction(self.net(images) / self.heat)
'''
DOCSTRING = METHOD[METHOD.index('    """The source') : METHOD.index("    version")]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    """Take plug-ins out of the tables again."""
    before = {kind: dict(table) for kind, table in announced.TABLES.items()}
    announced.announced.cache_clear()
    yield
    for kind, table in announced.TABLES.items():
        table.clear()
        table.update(before[kind])
    plugins.LOADED.clear()
    announced.announced.cache_clear()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return ``write(text, name)``, which makes a file."""

    def make(text: str = METHOD, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return make


def install(folder: Path, points: str, name: str = "idea", **modules: str) -> None:
    """Lay a package down as pip would, with its entry points."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(points))
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


def spec_of(reference: str, **options: str) -> RunSpec:
    return resolve({"method": reference, "device": "cpu", "threads": 1, **options})[0]


# -- files


def test_a_file_names_a_method(write: Write) -> None:
    path = write()
    spec = spec_of(f"{path}:Mine", **{"method.heat": "3"})
    assert spec.method == "mine.py:Mine"
    assert spec.protocol == "gradual-weather"
    assert spec.method_options == {"heat": 3.0}
    assert registry.METHODS["mine.py:Mine"].summary == "The source model, cooled."
    assert "plugins" not in spec.to_dict()
    assert str(path) not in json.dumps(spec.to_dict())
    (plugin,) = spec.plugins
    assert plugin.target == f"{path}:Mine"
    assert len(plugin.sha256) == 64
    assert f"--method {path}:Mine" in run_command(spec)
    cls = registry.method("mine.py:Mine")
    version = registry.version_of("method", "mine.py:Mine", cls)
    assert version == f"3+{plugin.sha256[:12]}"


def test_an_edited_file_is_another_version(write: Write) -> None:
    path = write()
    first = spec_of(f"{path}:Mine")
    write(METHOD.replace("2.0", "4.0"))
    second = spec_of(f"{path}:Mine")
    assert second.method == first.method
    assert second.plugins != first.plugins
    assert second.method_options == {"heat": 4.0}
    with pytest.raises(ConfigError, match="not what it was when the runs were planned"):
        registry.restore(first.plugins)
    registry.restore(second.plugins)


def test_another_process_loads_it_again(write: Write) -> None:
    spec = spec_of(f"{write()}:Mine")
    for table in announced.TABLES.values():
        table.pop("mine.py:Mine", None)
    plugins.LOADED.clear()
    registry.restore(spec.plugins)
    assert registry.method(spec.method).__name__ == "Mine"


def test_two_files_of_one_name_are_not_mixed_up(write: Write) -> None:
    spec_of(f"{write()}:Mine")
    other = write(METHOD.replace("cooled", "heated"), "elsewhere/mine.py")
    with pytest.raises(ConfigError, match="rename one of the files"):
        spec_of(f"{other}:Mine")


@pytest.mark.parametrize(
    ("text", "attribute", "parts"),
    [
        ("def broken(:\n    pass\n", "Mine", ("line 1", "invalid syntax", "mend the file")),
        ("import nowhere_at_all\n", "Mine", ("No module named 'nowhere_at_all'", "line 1")),
        ("x = 1\n\nx / 0\n", "Mine", ("ZeroDivisionError", "line 3")),
        ("raise SystemExit(3)\n", "Mine", ("SystemExit",)),
        (METHOD, "Mien", ("no class Mien", "did you mean 'Mine'")),
        (METHOD, "Positive", ("no class Positive",)),
        ("class Mine:\n    '''No method.'''\n", "Mine", ("Mine is no method", "OnlineMethod")),
        (METHOD.replace("def step", "def stop"), "Mine", ("lacks step",)),
        (METHOD.replace(DOCSTRING, ""), "Mine", ("has no docstring",)),
        (METHOD.replace("        heat: what", "        heart: what"), "Mine", ("'heat' is not",)),
    ],
    ids=["syntax", "import", "error", "exit", "class", "no-class", "base", "step", "text", "args"],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    write: Write, text: str, attribute: str, parts: tuple[str, ...]
) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        spec_of(f"{path}:{attribute}")
    for part in (*parts, "mine.py"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "dabench_plugin" not in str(caught.value)


def test_a_script_that_runs_its_own_class_does_not_run_twice(write: Write) -> None:
    path = write(METHOD + '\nimport dabench\n\ndabench.run("source", epochs="none")\n')
    with pytest.raises(ConfigError, match="under 'if __name__ == \"__main__\":' \\(line 32"):
        spec_of(f"{path}:Mine")
    path = write(path.read_text().replace("dabench.run", 'if __name__ == "__main__":\n    run'))
    assert spec_of(f"{path}:Mine").method == "mine.py:Mine"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        spec_of(f"{tmp_path / 'none.py'}:Mine")
    with pytest.raises(ConfigError, match=r"which class of it\? write"):
        spec_of(str(tmp_path / "none.py"))


def test_a_method_is_refused_where_it_does_not_serve(write: Write) -> None:
    with pytest.raises(ConfigError, match="does not run under sf-uda; it serves gradual-weather"):
        spec_of(f"{write()}:Mine", protocol="sf-uda")


# -- modules and packages


def test_a_module_names_a_method(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(METHOD, "idea_module.py")
    monkeypatch.syspath_prepend(str(path.parent))
    spec = spec_of("idea_module:Mine")
    assert spec.method == "idea_module:Mine"
    monkeypatch.chdir(write(METHOD, "idea_file.py").parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(path.parent))])
    with pytest.raises(ConfigError, match=r"no module idea_file; a file is idea_file\.py:Mine"):
        spec_of("idea_file:Mine")
    with pytest.raises(ConfigError, match="No module named 'idea_modul'"):
        spec_of("idea_modul:Mine")


def test_the_digest_of_a_module_in_a_package_is_of_the_whole_package(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it imports from there decides its numbers, too."""
    place = write("from my_pkg.core import HEAT\n", "my_pkg/idea.py").parent
    (place / "core.py").write_text("HEAT = 2.0\n")
    monkeypatch.syspath_prepend(str(place.parent))

    def digest() -> str:
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_pkg"]:
            monkeypatch.delitem(sys.modules, name)
        return source_digest(import_named("my_pkg.idea", "--x"), "--x")

    found = [digest()]
    (place / "__init__.py").touch()
    for text in ("HEAT = 3.25\n", "HEAT = 2.0\n"):
        (place / "core.py").write_text(text)
        found.append(digest())
    (place / "core.py").rename(place / "other.py")
    (place / "idea.py").write_text("from my_pkg.other import HEAT\n")
    assert len({*found, digest()}) == 4
    (place / "idea.py").write_text("# edited\n")
    with pytest.raises(ConfigError, match="my_pkg was edited after"):
        source_digest(sys.modules["my_pkg.idea"], "--x")


def test_packages_announce_themselves_and_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = """
        [dabench.methods]
        cooled = idea_announced:Mine
        usd = idea_announced:Mine
        broken = idea_announced
        bad = idea_bad:Mine
    """
    install(tmp_path, points, idea_announced=METHOD, idea_bad="raise RuntimeError('at import')")
    monkeypatch.syspath_prepend(str(tmp_path))
    announced.announced.cache_clear()
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert "cooled" in out
    assert "plug-in of idea 1.2 (idea_announced:Mine)" in out
    assert "idea_announced" not in sys.modules
    assert "idea_bad" not in sys.modules
    lines = err.splitlines()
    assert len(lines) == 2
    assert "'usd' of idea 1.2: dabench has its own; call it --method idea_announced:Mine" in err
    assert "'broken' of idea 1.2: its entry point is 'idea_announced'" in err
    spec = spec_of("cooled")
    assert spec.method == "cooled"
    assert spec.plugins[0].distribution == "idea 1.2"
    assert spec_of("usd").plugins == ()  # dabench's own wins
    assert spec_of("idea_announced:Mine").method == "idea_announced:Mine"
    with pytest.raises(ConfigError, match="RuntimeError: at import"):
        spec_of("bad")
    with pytest.raises(ConfigError, match="did you mean 'cooled'"):
        spec_of("coold")


def test_two_packages_of_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        points = f"[dabench.methods]\ncooled = idea_{name}:Mine\n"
        install(tmp_path / name, points, name, **{f"idea_{name}": METHOD})
        monkeypatch.syspath_prepend(str(tmp_path / name))
    announced.announced.cache_clear()
    assert main(["list"]) == 0
    assert "two 1.2: one 1.2 has one of that name; call it --method" in capsys.readouterr().err


PROTOCOL = '''
from typing import ClassVar

from dabench.protocols.online_tta import OnlineTTA


class Calm(OnlineTTA):
    """One light shift."""

    version: ClassVar[str] = "7"
'''


def test_a_protocol_from_outside_is_served_by_all_that_take_its_grant(write: Write) -> None:
    path = write(PROTOCOL, "calm.py")
    spec = spec_of("tent", protocol=f"{path}:Calm", dataset="overhead")
    assert spec.protocol == "calm.py:Calm"
    assert registry.PROTOCOLS[spec.protocol].primary_metric == "accuracy"
    with pytest.raises(ConfigError, match=r"usd does not run under calm.py:Calm, which grants"):
        spec_of("usd", protocol=f"{path}:Calm")


BARE = '''
from typing import Any, ClassVar

from dabench.protocols.sf_uda import SourceFreeClosedSet

INNER = SourceFreeClosedSet()


class Bare:
    """The members that a protocol must have, and no others."""

    version: ClassVar[str] = "1"
    primary: ClassVar[str] = "accuracy"
    kind: ClassVar[str] = "classification"
    grant = SourceFreeClosedSet.grant
    is_valid, plan, run = INNER.is_valid, INNER.plan, INNER.run
'''


DATA = '''
"""Data of somebody's own, whose digest is of the images alone."""

import numpy as np

from dabench.contract.data import DomainData, Labelled


class Mine:
    """Two domains."""

    defaults = {"image_size": 8, "backbone": "small-cnn", "weights": "none"}
    defaults |= {"epochs": 1, "source_epochs": 1}

    def load(self, request):
        """Return both."""
        labels = np.arange(40) % 2
        part = Labelled(np.zeros((40, 8, 8, 3), np.uint8), labels, "images")
        names = ("mine", request.source, request.target, ("a", "b"), request.image_size)
        return DomainData(*names, part, None, part)
'''


def test_an_edited_data_set_makes_other_runs_and_another_source_model(
    write: Write, tmp_path: Path
) -> None:
    def made() -> tuple[str, dict[str, str], str]:
        spec = spec_of("source", protocol="sf-uda", dataset=f"{path}:Mine", source="p", target="q")
        settings = Settings(tmp_path, None, tmp_path)
        spec, data, _, plan = load_plan(spec, settings)
        versions = versions_of(spec)
        ids = {"data": "d", "stream": "t", "source": "s"}
        assert data.source_train.labels is data.target_all.labels  # nothing else is touched
        key = loading._key(source_recipe(spec, black_box=False), plan, 0)
        return run_digest(spec.to_dict(), versions, ids), versions, key

    path = write(DATA)
    first = made()
    assert made() == first
    assert first[1]["dataset"].startswith("1+")
    write(DATA.replace("np.arange(40) % 2", "1 - np.arange(40) % 2"))
    second = made()
    assert [was != now for was, now in zip(first, second, strict=True)] == [True] * 3


def test_labels_count_whatever_a_data_set_hashes(write: Write, tmp_path: Path) -> None:
    """They may lie in a file that is not its code."""
    np.save(tmp_path / "labels.npy", np.arange(40) % 2)
    path = write(DATA.replace("np.arange(40) % 2", "np.load(request.data_root / 'labels.npy')"))
    name = registry.name_of("data set", f"{path}:Mine")
    request = DataRequest("p", "q", 8, tmp_path, tmp_path)
    before = registry.data_loader(name)(request).digest
    np.save(tmp_path / "labels.npy", 1 - np.arange(40) % 2)
    assert registry.data_loader(name)(request).digest != before


def test_a_protocol_needs_no_more_members_than_are_asked_for(
    write: Write, tmp_path: Path, tiny: DomainData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.dataset("digits"), "load", lambda self, request: tiny)
    path = write(BARE, "bare.py")
    words = ["run", "--method", "source", "--protocol", f"{path}:Bare", "--source-epochs", "1"]
    words += ["--device", "cpu", "--threads", "1", "--no-progress"]
    folders = ("--results", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c"))
    assert main([*words, *folders]) == 0


# -- from end to end


def command(folder: Path, *words: str, path: Path | None = None) -> str:
    """Run dabench in a process of its own and return what it printed."""
    extra = {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        [sys.executable, "-m", "dabench", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **extra},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["online", "source-free", "black-box"])
def test_what_new_writes_passes_the_check(tmp_path: Path, drawn: Path, kind: str) -> None:
    command(tmp_path, "new", "method", "my-idea", "--kind", kind)
    checked = command(tmp_path, "check", "my_idea.py:MyIdea", "--cache-dir", str(drawn))
    assert "BROKEN" not in checked
    assert "all promises kept" in checked


@pytest.mark.slow
def test_run_sweep_table_reproduce(tmp_path: Path, drawn: Path) -> None:
    cache = ("--cache-dir", str(drawn))
    command(tmp_path, "new", "method", "my-idea", "--kind", "source-free")
    short = ("--epochs", "1", "--source-epochs", "1", "--threads", "1", *cache)
    place = "my_idea.py:MyIdea"
    command(tmp_path, "run", "--method", place, *short, "--no-progress")
    swept = command(
        tmp_path, "sweep", "--methods", place, "--seeds", "0-1", "--workers", "2", *short
    )
    assert "1 have a record, 1 to do" in swept
    table = command(tmp_path, "leaderboard")
    assert "my_idea.py:MyIdea" in table
    (record, _) = sorted((tmp_path / "results/records").glob("*/*/*.json"))
    found = json.loads(record.read_text())
    assert found["extras"] == ["external"]
    assert found["plugins"][0]["target"] == str(tmp_path / place)
    assert found["versions"]["method"] == f"1+{found['plugins'][0]['sha256'][:12]}"
    again = command(tmp_path, "reproduce", found["run_id"], *cache, "--no-progress")
    assert "identical" in again
    source = (tmp_path / "my_idea.py").read_text()
    (tmp_path / "my_idea.py").write_text(source + "\n# edited\n")
    swept = command(tmp_path, "sweep", "--methods", place, "--seeds", "0-1", "--dry-run", *short)
    assert "0 have a record, 2 to do" in swept


@pytest.mark.slow
def test_the_test_that_new_writes_passes(tmp_path: Path) -> None:
    command(tmp_path, "new", "method", "my-idea", "--kind", "online")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_idea.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.slow
def test_an_installed_package(tmp_path: Path, drawn: Path) -> None:
    """Built, and installed by pip where nothing of ours lies."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        textwrap.dedent(
            """
            [build-system]
            requires = ["setuptools"]
            build-backend = "setuptools.build_meta"
            [project]
            name = "dabench-idea"
            version = "0.3"
            [project.entry-points."dabench.methods"]
            cooled = "dabench_idea:Mine"
            [tool.setuptools]
            py-modules = ["dabench_idea"]
            """
        )
    )
    (package / "dabench_idea.py").write_text(METHOD)
    site = tmp_path / "site"
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(package)], check=True)
    listed = command(tmp_path, "list", path=site)
    assert "plug-in of dabench-idea 0.3 (dabench_idea:Mine)" in listed
    short = ("--source-epochs", "1", "--threads", "1", "--cache-dir", str(drawn), "--json")
    ran = command(
        tmp_path, "run", "--method", "cooled", "--protocol", "online-tta", *short, path=site
    )
    record = json.loads(Path(tmp_path, json.loads(ran)["record"]).read_text())
    assert record["spec"]["method"] == "cooled"
    assert record["plugins"][0]["distribution"] == "dabench-idea 0.3"


def test_new_refuses_what_is_there_and_what_is_no_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["new", "method", "my-idea", "--kind", "online", "--out", str(tmp_path)]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(words[:3]) == 2
    assert "give --kind, what it may touch: online (" in capsys.readouterr().err
    for name in ("1st", "my--idea", "a/b", "class"):
        assert main(["new", "method", name, *words[3:]]) == 2
        assert "expected letters" in capsys.readouterr().err


def test_a_plugin_travels_in_a_spec(write: Write) -> None:
    """Sweeps hand specs to other processes."""
    import pickle

    spec = spec_of(f"{write()}:Mine")
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert dataclasses.replace(again, seed=1).plugins == spec.plugins
