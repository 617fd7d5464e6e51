"""Imports point down: nobody on the road to a label who has no business there."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
C, E = "dabench.contract.", "dabench.engine."
CONTRACT = (C.rstrip("."), "dabench.errors")
HEAVY = {"torch", "torchvision", "lightning", "albumentations", "timm"}

#: folder (or file) -> what of dabench it may import
METHODS = (
    *(C + "method", C + "access", C + "types", E + "nets", E + "views"),
    *(E + "dense_nets", E + "dense_views", E + "photometric"),
    *("dabench.methods.functional", "dabench.errors"),
)

ALLOWED: dict[str, tuple[str, ...]] = {
    "methods/functional": ("dabench.methods.functional", "dabench.errors"),
    "methods": METHODS,
    "methods/aerial.py": (*METHODS, "dabench.methods.conda"),
    "methods/max_squares.py": (*METHODS, "dabench.methods.tent"),
    "datasets": (C + "data", C + "types", "dabench.errors", "dabench.datasets"),
    "protocols": (
        *CONTRACT,
        *(E + name for name in ("loops", "walk", "scoring", "metrics", "seeding", "nets", "views")),
        *(E + "dense_nets", E + "dense_views"),
        # the weather of a stream belongs to the protocol; it is pure maths on pictures
        *(E + "source", E + "dense_metrics", "dabench.protocols", "dabench.datasets.weather"),
    ),
    "dabench/contract": CONTRACT,
    "dabench/board": (C + "types", "dabench.errors", "dabench.board"),
    "dabench/board/page/render.py": ("dabench.board", "dabench.__version__"),
    # who makes the runs is named by a string: a cluster's engine may stand there
    "dabench/sweep": (
        *("dabench.sweep", "dabench.config", "dabench.options", "dabench.registry"),
        *("dabench.run_command", "dabench.board.records", "dabench.errors", "dabench"),
    ),
    "dabench/engine": (*CONTRACT, "dabench.engine"),
    "dabench/engine/run.py": (
        *(*CONTRACT, "dabench.engine", "dabench.registry", "dabench.board.records"),
        *("dabench.config", "dabench"),
    ),
    "dabench/engine/black_box.py": (*CONTRACT, "dabench.engine", "dabench.config"),
    "dabench/engine/oracle_process.py": (*CONTRACT, "dabench.engine", "dabench.registry"),
    "dabench/registry.py": ("dabench.errors",),
    "dabench/errors.py": (),
}


def imported(path: Path, *, types_too: bool = True) -> set[str]:
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
    return names


def rule(path: Path) -> tuple[str, ...] | None:
    """Return the most specific rule for a file."""
    name = path.relative_to(ROOT).as_posix()
    fitting = [key for key in ALLOWED if name == key or name.startswith(key + "/")]
    return ALLOWED[max(fitting, key=len)] if fitting else None


def sources() -> list[Path]:
    folders = ("dabench", "methods", "datasets", "protocols")
    found = {p.resolve() for folder in folders for p in (ROOT / folder).rglob("*.py")}
    return sorted(p for p in found if p.is_relative_to(ROOT))


SOURCES = sources()
IDS = [p.relative_to(ROOT).as_posix() for p in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_imports_point_down(path: Path) -> None:
    allowed = rule(path)
    if allowed is None:
        return  # the command line and its helpers
    contract = "dabench/contract" in path.as_posix()
    ours = {n for n in imported(path, types_too=not contract) if n.split(".")[0] == "dabench"}
    roots = tuple(f"{a}." for a in allowed if a != "dabench")
    wrong = [n for n in ours if n not in allowed and not n.startswith(roots)]
    assert not wrong, f"{path.relative_to(ROOT)} may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_never_a_bare_folder_name(path: Path) -> None:
    bare = {n for n in imported(path) if n.split(".")[0] in {"methods", "datasets", "protocols"}}
    assert not bare


@pytest.mark.parametrize("path", sorted((ROOT / "dabench" / "board").rglob("*.py")), ids=str)
def test_the_board_needs_no_torch(path: Path) -> None:
    assert not {n.split(".")[0] for n in imported(path, types_too=False)} & HEAVY


@pytest.mark.parametrize("path", sorted((ROOT / "methods/functional").glob("*.py")), ids=str)
def test_pure_maths_needs_little(path: Path) -> None:
    known = {"torch", "numpy", "sklearn", "dabench", "scipy"} | set(sys.stdlib_module_names)
    known |= {"pydantic"} if path.name == "bounds.py" else set()  # bounds of options
    assert {n.split(".")[0] for n in imported(path)} <= known


def test_the_checker_sees_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from dabench.engine import scoring\n")
    assert imported(file) == {"dabench.engine.scoring"}


def test_no_init_in_the_three_folders() -> None:
    for name in ("methods", "datasets", "protocols"):
        assert not (ROOT / name / "__init__.py").exists()
        link = ROOT / "dabench" / name
        assert link.is_symlink()
        assert link.readlink().as_posix() == f"../{name}"
