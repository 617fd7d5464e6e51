"""Every registered thing has a docstring, a row in the docs and a reference test."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from dabench import registry
from dabench.config.signature import signature_options

ROOT = Path(__file__).parents[2]
KINDS = {
    "methods": (registry.METHODS, registry.method),
    "protocols": (registry.PROTOCOLS, registry.protocol),
    "datasets": (registry.DATASETS, registry.dataset),
}
ALL = [(kind, name) for kind, (table, _) in KINDS.items() for name in table]


def load(kind: str, name: str) -> type[Any]:
    return KINDS[kind][1](name)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_it_can_be_imported_and_has_a_docstring(kind: str, name: str) -> None:
    cls = load(kind, name)
    assert inspect.isclass(cls)
    assert cls.__doc__
    assert len(cls.__doc__.strip().splitlines()[0]) > 10
    assert "\n" not in registry.__dict__[kind.upper()][name].summary


@pytest.mark.parametrize(("kind", "name"), [pair for pair in ALL if pair[0] != "protocols"])
def test_it_has_a_row_or_a_heading_in_the_docs(kind: str, name: str) -> None:
    pages = sorted((ROOT / "docs").glob(f"{kind}*.md"))
    assert pages, f"docs/{kind}.md is missing"
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    row = rf"^(?:\| [^|\n]*|#+ [^\n]*)`{re.escape(name)}`"
    assert re.search(row, text, re.MULTILINE), f"no row and no heading of docs/{kind}*.md is of it"


@pytest.mark.parametrize("name", registry.PROTOCOLS)
def test_a_protocol_has_a_column_in_the_docs(name: str) -> None:
    """Its page has a table whose head names it, or a section that introduces it."""
    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    head = rf"^\| \|.*`{re.escape(name)}`.*\n\| --- "
    section = rf"^## .*\n\n[^|#]*?`{re.escape(name)}`"
    assert re.search(f"{head}|{section}", text, re.MULTILINE), f"protocols.md lacks '{name}'"


@pytest.mark.parametrize(("kind", "name"), [pair for pair in ALL if pair[0] != "datasets"])
def test_every_option_is_explained(kind: str, name: str) -> None:
    for option in signature_options(load(kind, name)):
        assert option.help, f"{name}: option '{option.name}' is not in the docstring's Args"


@pytest.mark.parametrize("name", list(registry.PROTOCOLS))
def test_the_registry_ranks_by_the_protocols_metric(name: str) -> None:
    assert registry.PROTOCOLS[name].primary_metric == registry.protocol(name).primary
    assert registry.PROTOCOLS[name].default_dataset in registry.DATASETS


def test_visda_is_ranked_by_classes_but_for_partial_and_open_sets() -> None:
    ranks = {name: registry.primary_metric(name, "visda-c") for name in registry.PROTOCOLS}
    assert ranks["sf-pda"] == "accuracy"
    assert ranks["sf-uda"] == ranks["bb-uda"] == "mean_class_accuracy"
    assert ranks["sf-osda"] == "HOS"
    assert registry.primary_metric("sf-uda", "office31") == "accuracy"


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_methods_fit_their_protocols(name: str) -> None:
    entry = registry.METHODS[name]
    assert not entry.frozen_trunk or entry.target == registry.METHODS["source"].target
    for protocol in entry.protocols:
        assert issubclass(registry.protocol(protocol).grant, registry.method(name).grant)


def functional() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "methods" / "functional").glob("[a-z]*.py")):
        module = importlib.import_module(f"dabench.methods.functional.{path.stem}")
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if inspect.isfunction(value) and own and not name.startswith("_"):
                found.append((path.stem, name))
    return found


@pytest.fixture(scope="module")
def referred() -> set[str]:
    """Return what the code of the reference tests names; comments and texts are no tests."""
    files = (ROOT / "tests" / "reference").glob("test_*.py")
    nodes = [n for p in files for n in ast.walk(ast.parse(p.read_text(encoding="utf-8")))]
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {
        n.attr for n in nodes if isinstance(n, ast.Attribute)
    }


@pytest.mark.parametrize(("module", "name"), functional())
def test_pure_maths_has_a_reference_test_and_a_docstring(
    referred: set[str], module: str, name: str
) -> None:
    assert name in referred, f"no reference test uses {module}.{name}"
    function = getattr(importlib.import_module(f"dabench.methods.functional.{module}"), name)
    assert inspect.getdoc(function)
