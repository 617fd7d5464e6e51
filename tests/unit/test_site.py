"""The documentation site: what the API's page is made of, the navigation, and the build."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
from chromium import chromium

import dabench.api
import dabench.views
from dabench import registry
from dabench.board.page.texts import METRICS, count
from dabench.cli.main import main
from dabench.cli.parser import COMMANDS
from dabench.config.options import FLAGS, OPTIONS
from dabench.config.signature import listed_options, validate_options
from dabench.protocols.streams.named.catalogue import STREAMS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: what a page may fetch from elsewhere when it is read: nothing (links that one follows are fine)
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']+"""
)
#: a file of the site that a page names
_TARGET = re.compile(r"""\b(?:src|href)=["'](?![a-z]+:|//|#)([^"'#?]+)""")
#: what a notebook's page says only when its cells have been run
_MADE_BY_NOTEBOOKS = {
    "adapt": r"all pictures: 0\.\d+ before, 0\.\d+ after",
    "analysis": r"<th>usd\+bn − shot\+bn</th>\s*<td>-?0\.\d+</td>",
    "method": r"ok +sf-uda +labels do not matter \(\d",
}
_IMPORTED = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//""")


@pytest.mark.parametrize("name", dabench.api.__all__)
def test_every_name_for_authors_is_explained(name: str) -> None:
    """A class by its own docstring, not that of its base; a value by the ``#:`` above it."""
    value = getattr(dabench.api, name)
    if inspect.isclass(value):
        said = vars(value).get("__doc__") or f"{name}("
        # a dataclass without a docstring is given its signature
        assert not said.startswith(f"{name}("), f"dabench.api.{name} has no docstring"
    elif inspect.isroutine(value) or inspect.ismodule(value):
        assert value.__doc__, f"dabench.api.{name} has no docstring"
    else:
        types = (ROOT / "dabench" / "contract" / "types.py").read_text(encoding="utf-8")
        assert re.search(rf"^#: .+\n{name} = ", types, re.MULTILINE), f"say above it what {name} is"


@pytest.mark.parametrize("name", [n for n in dabench.api.__all__ if n != "views"])
def test_so_is_every_member_of_its_classes(name: str) -> None:
    value = getattr(dabench.api, name)
    members = vars(value).items() if inspect.isclass(value) else ()
    plain = [
        key
        for key, member in members
        if not key.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property))
        and not inspect.getdoc(member)
    ]
    assert not plain, f"dabench.api.{name}: no docstring of {', '.join(plain)}"


def _handed_tensors() -> dict[str, str]:
    """Return public functions, and methods of public classes, that take or give arrays."""
    arrays = re.compile(r"\b(Tensor|FloatArray|IntArray|ndarray|Prediction)\b")
    found: dict[str, str] = {}
    for module in (dabench.api, dabench.views):
        for name in module.__all__:
            value = getattr(module, name)
            inside = vars(value).items() if inspect.isclass(value) else [("", value)]
            for key, member in inside:
                function = getattr(member, "__func__", getattr(member, "fget", member))
                if key.startswith("_") or not inspect.isfunction(function):
                    continue
                if arrays.search(" ".join(map(str, function.__annotations__.values()))):
                    full = f"{module.__name__}.{name}.{key}".rstrip(".")
                    found[full] = inspect.getdoc(function) or ""
    return found


def test_what_takes_or_gives_arrays_names_their_shapes() -> None:
    said = _handed_tensors()
    assert {"dabench.views.affine", "dabench.api.Oracle.ask", "dabench.api.upsample"} <= set(said)
    shape = re.compile(r"\((?:[A-Z]\b[^()]*)?\)")
    plain = [name for name, text in said.items() if not shape.search(text)]
    assert not plain, "say what shape, such as (B, 3, H, W)"


@pytest.mark.parametrize(
    ("protocol", "given"),
    [
        ("sf-osda", {"known": "a", "unknown": "b"}),
        ("bb-osda", {"known": "a", "unknown": "b"}),
        ("sf-unida", {"known": "a", "source_private": "b", "unknown": "c"}),
        ("sf-pda", {"known": "a,b"}),
        ("online-tta", {"severity": "3"}),
        ("continual-tta", {"severity": "3"}),
    ],
)
def test_what_stands_for_another_option_is_listed(
    protocol: str, given: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    cls = registry.protocol(protocol)
    assert validate_options(cls, given, "protocol") != validate_options(cls, {}, "protocol")
    listed = {option.name: option.help for option in listed_options(cls)}
    assert given.keys() <= listed.keys()
    assert all(listed.values())
    assert main(["run", "--protocol", protocol, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in listed if f"--protocol.{name} " not in shown] == []


def test_the_page_of_the_command_line_has_every_command() -> None:
    """In a process of its own: docs/site/markdown.py has the name of a package."""
    program = "import command_pages; print(command_pages.pages()['command-line'])"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DOCS / "site"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=path, capture_output=True, text=True, check=True
    )
    assert re.findall(r"^## `dabench ([\w-]+)`$", done.stdout, re.MULTILINE) == list(COMMANDS)
    for name in (name for name in COMMANDS if name != "run"):
        assert f"usage: dabench {name} " in done.stdout
    assert [n for n in (*OPTIONS, *FLAGS) if f"| `--{n}` |" not in done.stdout] == []


def test_every_page_is_in_the_navigation() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"^- \[[^\]]+\]\(([\w-]+\.md)\)", index, re.MULTILINE)
    pages = sorted(path.name for path in DOCS.glob("*.md") if path.name != "index.md")
    assert sorted(linked) == pages, "list each page of docs/ once in docs/index.md"


@pytest.mark.slow
@pytest.mark.timeout(2400)  # it runs the notebooks, too
def test_the_site_builds_without_a_warning_and_needs_no_network(
    tables: ModuleType, tmp_path: Path
) -> None:
    if missing := [n for n in ("sphinx", "myst_nb", "furo") if not importlib.util.find_spec(n)]:
        pytest.skip(f"no {', '.join(missing)}: pip install -e '.[docs]'")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-c", str(DOCS / "site"), "-d", str(tmp_path / "trees"), str(DOCS), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    pages = {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in site.rglob("*.html")
    }
    for kind, table, load in (
        ("method", registry.METHODS, registry.method),
        ("protocol", registry.PROTOCOLS, registry.protocol),
    ):
        # others of this process's tests may have brought classes of their own
        for name in (name for name in table if ":" not in name):
            page = pages[f"reference/{kind}s/{name.replace('+', '-plus')}.html"]
            options = [f"--{kind}.{option.name}<" for option in listed_options(load(name))]
            assert [option for option in options if option not in page] == []
    for name in registry.DATASETS:
        assert f"<h2>{_code(name)}" in pages["reference/data-sets.html"]
    for name in STREAMS:
        assert _code(name) in pages["reference/streams.html"]
    for name in METRICS:
        assert _code(name) in pages["reference/metrics.html"]
    for name in dabench.api.__all__:
        anchor = "module-dabench.views" if name == "views" else f"dabench.api.{name}"
        assert f'id="{anchor}"' in pages["reference/method-api.html"]

    for name, made in _MADE_BY_NOTEBOOKS.items():
        page, source = pages[f"notebooks/{name}.html"], ROOT / "notebooks" / f"{name}.ipynb"
        assert not re.search(made, source.read_text(encoding="utf-8"))
        assert re.search(made, page), f"{name}: no output that only a run gives"
        assert f"notebooks/{name}.html" in pages["index.html"]
    analysis, adapt = pages["notebooks/analysis.html"], pages["notebooks/adapt.html"]
    assert analysis.count("<img alt=") == 5
    assert analysis.count('class="dataframe"') >= 7
    assert "Empty DataFrame" not in analysis
    before, after = re.findall(r"all pictures: (0\.\d+) before, (0\.\d+) after", adapt)[0]
    assert float(after) > float(before), "what the text says has to be true of the numbers"
    assert "BROKEN" not in pages["notebooks/method.html"]
    assert 'href="notebooks/analysis.html"' in pages["analysis.html"]
    assert 'href="../python.html"' in pages["notebooks/adapt.html"]

    assert [
        (name, target)
        for name, text in pages.items()
        for target in _TARGET.findall(text)
        if not (site / name).parent.joinpath(unquote(target)).exists()
    ] == []
    assert {name: found for name, text in pages.items() if (found := _FETCHED.findall(text))} == {}
    styles = [path for path in site.rglob("*.css") if _IMPORTED.search(path.read_text("utf-8"))]
    assert not styles
    assert f"{count(len(tables.committed()))} runs in " in pages["board/index.html"]
    for name in ("index", "page", "results"):
        assert 'href="board/index.html"' in pages[f"{name}.html"]
    assert 'href="../../board/index.html#sf-osda/usd"' in pages["reference/methods/usd.html"]
    assert ">The leaderboard</a>" in pages["reference/methods/usd.html"], "in the sidebar"
    assert (site / "searchindex.js").stat().st_size > 0
    _search_works_from_disk(site)
    made_here = ("docs/reference", "docs/notebooks")
    status = ["git", "-C", str(ROOT), "status", "--porcelain", "--", *made_here]
    assert subprocess.run(status, capture_output=True, text=True, check=False).stdout == ""


def _search_works_from_disk(site: Path) -> None:
    """Look for a word in a real browser; without one this much is not tested."""
    try:
        with chromium() as browser:
            page = browser.new_page()
            page.goto(f"{(site / 'search.html').as_uri()}?q=usd")
            hits = page.locator("#search-results li a")
            hits.first.wait_for()
            found = [hit.get_attribute("href") for hit in hits.all()]
    except LookupError:
        return
    pages = {str(target).partition("#")[0].partition("?")[0] for target in found}
    assert "reference/methods/usd.html" in pages


def _code(name: str) -> str:
    return f'<code class="docutils literal notranslate"><span class="pre">{name}</span></code>'
