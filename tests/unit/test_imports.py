"""Imports point down, in no circle: nobody on the road to a label who has no business there."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "lightning", "albumentations", "timm"}

#: the rooms of the core, from the top floor down; an import never leaves a floor upwards
FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("door",),
    ("sweep", "testing", "deploy"),
    ("engine",),
    ("board", "oracle"),
    ("store", "source_models"),
    ("metrics", "api"),
    ("views", "networks"),
    ("contract", "config"),
    ("registry",),
    ("errors", "__init__", "__main__"),
)
LEVEL = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: what the three folders beside the core may import; the core knows them by name alone
METHODS = ("dabench.api", "dabench.methods.functional", "dabench.errors")
ALLOWED: dict[str, tuple[str, ...]] = {
    "methods/functional": ("dabench.methods.functional", "dabench.errors"),
    "methods": METHODS,
    # what methods of one family share, and settings of another method
    "methods/black_box": (*METHODS, "dabench.methods.black_box", "dabench.methods.entropy_cut"),
    "methods/source_free": (*METHODS, "dabench.methods.source_free", "dabench.methods.entropy_cut"),
    "methods/online": (*METHODS, "dabench.methods.online"),
    "datasets": (
        *("dabench.contract.data", "dabench.contract.types", "dabench.errors"),
        "dabench.datasets",
    ),
    "protocols": (
        *("dabench.contract", "dabench.errors", "dabench.metrics", "dabench.networks"),
        *("dabench.views", "dabench.protocols"),
        *("dabench.engine.fit", "dabench.engine.stream", "dabench.engine.resume"),
        # the weather of a stream belongs to the protocol; it is pure maths on pictures
        "dabench.datasets.weather",
        "dabench.registry.marks",  # names alone
    ),
    # pictures of weather are made without a run
    "dabench/cli/weather.py": (
        *("dabench.cli", "dabench.errors", "dabench.datasets.weather"),
        *("dabench.datasets.decoding", "dabench.store.files"),
    ),
    # named streams are listed without a run
    "dabench/cli/stream.py": (
        *("dabench.cli", "dabench.config", "dabench.errors", "dabench.engine.setup"),
        *("dabench.contract.stream", "dabench.protocols.streams.named.catalogue"),
        "dabench.store.files",
    ),
    # an animation shows what the protocol pushed
    "dabench/cli/report_pictures.py": (
        *("dabench.board", "dabench.config", "dabench.contract", "dabench.engine"),
        *("dabench.errors", "dabench.networks", "dabench.oracle", "dabench.registry"),
        *("dabench.source_models", "dabench.protocols.streams"),
    ),
    # pictures without labels are decoded by the rules of the data sets
    "dabench/deploy/pictures.py": ("dabench.errors", "dabench.datasets.decoding"),
    "dabench/deploy/array_folder.py": ("dabench.errors", "dabench.datasets.decoding"),
    # fifteen shifts in a title have the name that stands for them on the command line
    "dabench/board/page/titles.py": (
        *("dabench.config", "dabench.store", "dabench.datasets.weather.groups"),
    ),
    # so are the cached ones checked
    "dabench/cli/data.py": (
        *("dabench.cli", "dabench.registry", "dabench.config", "dabench.errors"),
        "dabench.datasets.caching",
    ),
}
#: rooms that need no torch: the command line and tables start without it
LIGHT = ("board", "store", "config", "registry", "sweep")


@functools.cache
def imported(path: Path, *, types_too: bool = True) -> frozenset[str]:
    """Return every imported name in full, wherever in the file it stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if not types_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                skipped.update(inner for child in node.body for inner in ast.walk(child))
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def rule(path: Path) -> tuple[str, ...] | None:
    """Return the most specific rule for a file."""
    name = path.relative_to(ROOT).as_posix()
    fitting = [key for key in ALLOWED if name == key or name.startswith(key + "/")]
    return ALLOWED[max(fitting, key=len)] if fitting else None


def room(path: Path) -> str:
    """Return the room of a file of the core."""
    return path.relative_to(ROOT / "dabench").parts[0].removesuffix(".py")


def upward(here: str, names: Iterable[str]) -> list[str]:
    """Return what a file in the room ``here`` may not import of the core's rooms."""
    found = []
    for name in names:
        words = name.split(".")
        if words[0] != "dabench" or len(words) == 1:
            continue
        there = words[1] if words[1] in LEVEL else "__init__"
        if words[1] in {"methods", "datasets", "protocols"} or (
            there != here and there != "__init__" and LEVEL[there] <= LEVEL[here]
        ):
            found.append(name)
    return sorted(found)


def sources() -> list[Path]:
    folders = ("dabench", "methods", "datasets", "protocols")
    found = {p.resolve() for folder in folders for p in (ROOT / folder).rglob("*.py")}
    return sorted(p for p in found if p.is_relative_to(ROOT))


SOURCES = sources()


def wrong_imports(path: Path) -> list[str]:
    """Return what a file imports and may not."""
    allowed = rule(path)
    if allowed is None:
        if path.name in {"__init__.py", "__main__.py"} and path.parent == ROOT / "dabench":
            return []  # the door of the house
        return upward(room(path), imported(path))
    ours = {n for n in imported(path) if n.split(".")[0] == "dabench"}
    return sorted(n for n in ours if n not in allowed and not n.startswith(_roots(allowed)))


def test_imports_point_down() -> None:
    found = {p.relative_to(ROOT).as_posix(): wrong_imports(p) for p in SOURCES}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def _roots(allowed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{a}." for a in allowed)


def modules(paths: list[Path]) -> dict[str, Path]:
    """Return module name -> file."""
    found = {}
    for path in paths:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        parts = parts if parts[0] == "dabench" else ["dabench", *parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, or nothing."""
    state: dict[str, int] = {}
    trail: list[str] = []

    def visit(name: str) -> list[str]:
        state[name] = 1
        trail.append(name)
        for other in sorted(graph[name]):
            if state.get(other) == 1:
                return [*trail[trail.index(other) :], other]
            if other not in state and (found := visit(other)):
                return found
        state[name] = 2
        trail.pop()
        return []

    for name in graph:
        if name not in state and (found := visit(name)):
            return found
    return []


def test_no_circle_of_imports() -> None:
    known = modules(SOURCES)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = set()
        for found in imported(path):
            target = found if found in known else found.rpartition(".")[0]
            if target in known and target != name:
                targets.add(target)
        # the door of the house imports when it is asked, and for type checkers
        graph[name] = set() if name == "dabench" else targets
    assert len(graph) > 200
    assert circle(graph) == []


def test_the_checker_sees_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


def test_never_a_bare_folder_name() -> None:
    folders = {"methods", "datasets", "protocols"}
    bare = [(p.name, n) for p in SOURCES for n in imported(p) if n.split(".")[0] in folders]
    assert bare == []


@pytest.mark.parametrize("name", LIGHT)
def test_light_rooms_need_no_torch(name: str) -> None:
    for path in sorted((ROOT / "dabench" / name).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_start = {
            alias.name if isinstance(node, ast.Import) else str(node.module)
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not {n.split(".")[0] for n in at_start} & HEAVY, path
        if name in ("board", "store", "registry"):
            assert not {n.split(".")[0] for n in imported(path, types_too=False)} & HEAVY, path


@pytest.mark.parametrize("path", sorted((ROOT / "methods/functional").glob("*.py")), ids=str)
def test_pure_maths_needs_little(path: Path) -> None:
    known = {"torch", "torchvision", "numpy", "sklearn", "dabench", "scipy"} | set(
        sys.stdlib_module_names
    )
    known |= {"pydantic"} if path.name == "bounds.py" else set()  # bounds of options
    assert {n.split(".")[0] for n in imported(path)} <= known


def test_the_checker_sees_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from dabench.engine import run\n")
    assert imported(file) == {"dabench.engine.run"}
    assert upward("metrics", imported(file)) == ["dabench.engine.run"]
    assert upward("cli", imported(file)) == []
    assert upward("engine", {"dabench.protocols.sf_uda"}) == ["dabench.protocols.sf_uda"]


def test_no_init_in_the_three_folders() -> None:
    for name in ("methods", "datasets", "protocols"):
        assert not (ROOT / name / "__init__.py").exists()
        link = ROOT / "dabench" / name
        assert link.is_symlink()
        assert link.readlink().as_posix() == f"../{name}"


def test_rooms_stay_rooms() -> None:
    """Files stand in folders of one subject, and most are short."""
    most = {"datasets": 0, "dabench": 6, "dabench/engine": 6}
    for folder, limit in most.items():
        files = [p for p in (ROOT / folder).iterdir() if p.suffix == ".py"]
        assert len(files) <= limit, f"{folder}: {sorted(p.name for p in files)}"
    for path in SOURCES:
        method = path.is_relative_to(ROOT / "methods") and path.parent.name != "functional"
        lines = len(path.read_text(encoding="utf-8").splitlines())
        limit = 160 if method else 250
        assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines, the limit is {limit}"
