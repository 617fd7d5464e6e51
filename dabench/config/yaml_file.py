"""YAML files of options: blocks, lists and words, and nothing that surprises or grows.

Words stay as they are written: ``no``, ``010``, ``1:30``, ``1_0`` and ``2024-01-01``, which YAML
1.1 turns into false, 8, 90, 10 and a date, are read as on the command line, by the option that
they are given to. A key stands once in its block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dabench.errors import ConfigError, one_line, reason_of, shown

_BYTES, _DEPTH, _VALUES = 1_000_000, 40, 100_000
_TAG = "tag:yaml.org,2002:"
_NULLS = ("", "~", "null", "Null", "NULL")


def read_mapping(path: Path, what: str, example: str) -> dict[str, Any] | None:
    """Return a file's mapping of options: words, lists, mappings and None; None for an empty file.

    Args:
        path: of the file.
        what: it is, for messages: ``grid`` or ``--config``.
        example: of a line in such a file.

    Raises:
        ConfigError: the file cannot be read, is no mapping, is too large or too deep, or has a key
            twice.
    """
    where = f"{what} {path}"
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a zero byte
        raise ConfigError(f"{where}: cannot be read ({reason_of(error)})") from None
    if len(content) > _BYTES:
        raise ConfigError(f"{where}: more than {_BYTES // 1000} kB; split it")
    try:
        node = _Composer(text).get_single_node()
        found = None if node is None else _Values().of(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {one_line(error, 500)}") from None
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{where}: expected lines like '{example}'")
    return found


class _Composer(yaml.BaseLoader):
    """Text -> nodes, at most ``_DEPTH`` deep."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count the depth: without a limit, that of Python's stack ends it with a traceback."""
        self._depth += 1
        if self._depth > _DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested more than {_DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Values:
    """Nodes -> values; counts them, as aliases of aliases make millions of a few lines."""

    def __init__(self) -> None:
        self._count = self._depth = 0

    def of(self, node: yaml.Node) -> Any:
        """Return what a node stands for."""
        self._count += 1
        self._depth += 1
        if self._depth > _DEPTH or self._count > _VALUES:
            raise _error(node, f"aliases make more than {_VALUES} values of this file")
        if node.tag.removeprefix(_TAG) not in ("str", "seq", "map", "!"):
            tag = node.tag.replace(_TAG, "!!")
            raise _error(node, f"the tag {tag} has no meaning here; leave it out")
        found: Any = node.value
        if isinstance(node, yaml.MappingNode):
            found = self._mapping(node)
        elif isinstance(node, yaml.SequenceNode):
            found = [self.of(item) for item in node.value]
        elif isinstance(node, yaml.ScalarNode) and node.style is None and found in _NULLS:
            found = None
        self._depth -= 1
        return found

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        under: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key, "a key is one word, such as 'epochs'")
            name, line = key.value, key.start_mark.line + 1
            if name in lines:
                where = f"in lines {lines[name]} and {line}"
                raise _error(key, f"the key {shown(name)} stands twice, {where}; keep one of them")
            lines[name] = line
            if name == "<<":
                under = self._merged(value)
            else:
                own[name] = self.of(value)
        return {**under, **own}

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        """Return what ``<<`` lays under a block: a block, or of several the first wins."""
        found = self.of(node)
        blocks = found if isinstance(found, list) else [found]
        if not all(isinstance(block, dict) for block in blocks):
            raise _error(node, "'<<' takes a block, or a list of blocks")
        return {key: value for block in reversed(blocks) for key, value in block.items()}


def _error(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
