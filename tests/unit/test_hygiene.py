"""What a code host reads: citation, forms for issues, changelog, version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import dabench

ROOT = Path(__file__).parents[2]
#: the kinds of fields that a form may have, and what each must say of itself
FIELDS = {"input": "label", "textarea": "label", "checkboxes": "options"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_has_what_its_schema_requires() -> None:
    """Citation File Format 1.2.0: required keys, and those of an entity as an author."""
    found = read(ROOT / "CITATION.cff")
    assert {"authors", "cff-version", "message", "title"} <= found.keys()
    assert found["cff-version"] == "1.2.0"
    assert found["type"] in ("software", "dataset")
    assert found["authors"]
    assert all(author.get("name") or author.get("family-names") for author in found["authors"])
    assert found["license"] == "MIT"
    assert len(found["keywords"]) == len(set(found["keywords"]))


def test_version_and_date_are_the_same_everywhere() -> None:
    citation = read(ROOT / "CITATION.cff")
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", log, re.MULTILINE)
    assert released[0] == (citation["version"], str(citation["date-released"]))
    assert citation["version"] == dabench.__version__
    assert log.index("## [Unreleased]") < log.index(f"## [{dabench.__version__}]")
    assert [version for version, _ in released] == sorted(dict(released), reverse=True)


@pytest.mark.parametrize("name", ["bug", "new-method", "new-data-set", "wrong-number"])
def test_forms_have_what_a_code_host_requires(name: str) -> None:
    form = read(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["attributes"].get("label")
        assert FIELDS[field["type"]] in field["attributes"]
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8")
    for page in re.findall(r"docs/[\w-]+\.md", text):
        assert (ROOT / page).is_file(), page
