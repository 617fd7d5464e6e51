"""What programs and method authors import: directives that read the docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from markdown import cell, rst, table
from sphinx.pycode import ModuleAnalyzer

import dabench
import dabench.api
import dabench.methods.functional as functional
from dabench.errors import ConfigError

#: headings of the author's page -> the modules whose names stand there
_GROUPS = {
    "Methods": ("dabench.contract.method", "dabench.contract.decay"),
    "Grants": ("dabench.contract.access", "dabench.contract.cost", "dabench.contract.statistics"),
    "Tasks and answers": ("dabench.contract.types",),
    "Networks": ("dabench.contract.network", "dabench.networks"),
    "Views": ("dabench.views",),
    "Errors": ("dabench.errors",),
}
#: where values that know no module of their own are defined
_VALUES = "dabench.contract.types"
#: what the functions of the package return
_RESULTS = (
    "dabench.door.Result",
    "dabench.deploy.live.LiveModel",
    "dabench.deploy.adapted.Adapted",
)


def pages() -> dict[str, str]:
    """Return the pages by name."""
    return {"method-api": _method_api(), "python-api": _python_api(), **_functional()}


def automodule(name: str, *, imported: bool = False) -> str:
    """Return the directive of a module with its public members.

    Args:
        name: of the module.
        imported: its ``__all__`` names what other modules define.
    """
    more = ["   :imported-members:"] if imported else []
    return rst([f".. automodule:: {name}", "   :members:", *more])


def _method_api() -> str:
    grouped: dict[str, list[str]] = {title: [] for title in _GROUPS}
    for name in dabench.api.__all__:
        grouped[_group(name)].append(_entry(name))
    intro = (
        "All that a method imports of dabench: `from dabench.api import …`. Where these names are "
        "defined may change. How to write a method: [Your own method](../adding-a-method.md); "
        "maths to build on: [Functional](functional/index.md)."
    )
    parts = ["# For method authors", intro]
    for title, entries in grouped.items():
        parts += [f"## {title}", *entries]
    kit = automodule("dabench.testing", imported=True)
    return "\n\n".join([*parts, "## The contract kit", kit])


def _group(name: str) -> str:
    """Return the heading under which a name of ``dabench.api`` stands.

    Raises:
        ConfigError: its module is in no group.
    """
    value = getattr(dabench.api, name)
    module = _home(value)
    for title, homes in _GROUPS.items():
        if any(module == home or module.startswith(f"{home}.") for home in homes):
            return title
    raise ConfigError(f"dabench.api.{name}: {module} is in no group of docs/site/api_pages.py")


def _home(value: Any) -> str:
    if inspect.ismodule(value):
        return value.__name__
    plain = inspect.isclass(value) or inspect.isfunction(value)
    return str(value.__module__) if plain else _VALUES


def _entry(name: str) -> str:
    value = getattr(dabench.api, name)
    if inspect.ismodule(value):
        return automodule(value.__name__, imported=True)
    full = f"dabench.api.{name}"
    if inspect.isfunction(value):
        return rst([f".. autofunction:: {full}"])
    if inspect.isclass(value):
        return rst([f".. autoclass:: {full}", "   :members:"])
    said = ModuleAnalyzer.for_module(_VALUES).find_attr_docs().get(("", name), [])
    shown = repr(value).replace("typing.", "").replace("~_ScalarT", "...")
    return rst([f".. py:data:: {full}", "", *(f"   {line}" for line in said), f"   ``{shown}``"])


def _python_api() -> str:
    names = sorted(name for name in dabench.__all__ if not name.startswith("_"))
    functions = [rst([f".. autofunction:: dabench.{name}"]) for name in names]
    results = [rst([f".. autoclass:: {name}", "   :members:"]) for name in _RESULTS]
    intro = "What `import dabench` offers; with examples: [From Python](../python.md)."
    return "\n\n".join(["# Python", intro, *functions, "## What they return", *results])


def _functional() -> dict[str, str]:
    """Return a page for every module of pure maths, and their index."""
    names = sorted(module.name for module in pkgutil.iter_modules(functional.__path__))
    rows = []
    for name in names:
        module = importlib.import_module(f"{functional.__name__}.{name}")
        rows.append([f"[`{name}`]({name}.md)", (inspect.getdoc(module) or "").splitlines()[0]])
    tree = "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])
    intro = "Pure functions on arrays and tensors, each with its equation, shapes and source."
    listed = table(["module", "what"], [[first, cell(text)] for first, text in rows])
    found = {"functional/index": f"# Functional\n\n{intro}\n\n{listed}\n\n{tree}"}
    for name in names:
        body = automodule(f"{functional.__name__}.{name}")
        found[f"functional/{name}"] = f"# `{name}`\n\n{body}"
    return found
