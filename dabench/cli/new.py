"""``dabench new method``: a file that works as written, and its test, to start from."""

from __future__ import annotations

import argparse
import keyword
import re
from pathlib import Path

from dabench.cli.output import say
from dabench.errors import ConfigError, one_line

#: kind -> protocols of its test
KINDS = {
    "online": ("gradual-weather",),
    "source-free": ("sf-uda", "sf-osda"),
    "black-box": ("bb-uda",),
}


_KIND = (
    "what it may touch: online (batches of a stream, each once), source-free (a whole set and the "
    "source model), black-box (a whole set and that model's answers)"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``new``."""
    parser.add_argument("what", choices=("method",), help="what to write")
    parser.add_argument("name", metavar="NAME", help="such as my-idea: my_idea.py with MyIdea")
    parser.add_argument("--kind", choices=tuple(KINDS), help=_KIND)
    parser.add_argument("--out", default=".", metavar="DIR", help="default: this folder")


def new(args: argparse.Namespace) -> int:
    """Write the two files, and say what to do with them.

    Args:
        args: what the parser of ``new`` found.

    Raises:
        ConfigError: no kind, a name that is none, or a file that is there.
    """
    if args.kind is None:
        raise ConfigError(f"give --kind, {_KIND}")
    words = re.split(r"[-_]", args.name)
    snake = "_".join(words).lower()
    if not all(words) or not snake.isidentifier() or keyword.iskeyword(snake):
        raise ConfigError(
            f"'{one_line(args.name, 60)}': expected letters, digits and - between words, such as "
            "my-idea"
        )
    folder, test = Path(args.out), f"test_{snake}.py"
    filled = {
        "CLASS": "".join(word[:1].upper() + word[1:] for word in words),
        "FILE": f"{snake}.py",
        "TEST": test,
        "PROTOCOLS": str(list(KINDS[args.kind])).replace("'", '"'),
    }
    texts = {f"{snake}.py": _template(args.kind), test: _template("test")}
    for name in texts:
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} is there already; choose another name or --out")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        for mark, value in filled.items():
            text = text.replace(f"@{mark}@", value)
        (folder / name).write_text(text, encoding="utf-8")
        say(f"wrote {folder / name}")
    place = f"{folder / snake}.py:{filled['CLASS']}"
    say(f"next: dabench check {place}")
    say(f"      dabench run --method {place}")
    return 0


def _template(name: str) -> str:
    from importlib import resources

    found = resources.files("dabench.testing") / "templates" / f"{name}.py.txt"
    return found.read_text(encoding="utf-8")
