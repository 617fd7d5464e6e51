"""Errors that dabench raises on purpose: one line each, saying what to do next.

The command line prints such an error without a traceback (``--debug`` shows it).
"""

import difflib
import errno
from collections.abc import Iterable

#: characters that change the direction of what follows
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class DabenchError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(DabenchError):
    """An option, name or value that does not fit."""


class DataError(DabenchError):
    """A data set that is missing, incomplete or damaged."""


class AccessError(DabenchError):
    """A method asked for something that its protocol does not grant."""


class CacheError(DabenchError):
    """A cached artefact or a checkpoint that cannot be used."""


class DamageError(CacheError):
    """A cached artefact or a checkpoint whose content is not what was written."""


class OracleError(DabenchError):
    """A source model behind an interface that gives no answer, or a useless one."""


class StoreError(DabenchError):
    """The results folder cannot be read or written."""


class TrainingError(DabenchError):
    """Training went wrong (for example a loss that is not finite)."""


def one_line(text: object, most: int = 200) -> str:
    """Return foreign text as one line of printable characters, at most ``most`` of them.

    Control characters, and signs that turn the direction of writing, appear as escapes: a name or
    a message from outside must not steer a terminal.
    """
    words = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() and c not in _TURNS else ascii(c)[1:-1] for c in words)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0], 100) if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` or the list of known names, for an error message."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"


def explain(error: Exception) -> tuple[str, bool]:
    """Return an error as one line for a user, and whether it is a bug (else the user's to mend)."""
    name, bug = type(error).__name__, False
    if isinstance(error, DabenchError):
        text = str(error)
    elif isinstance(error, OSError) and error.errno in _DISK:
        text = f"{error.filename or 'a file'}: {error.strerror}; free the disk, or choose another "
        text += "folder with --results or --cache-dir"
    elif isinstance(error, MemoryError) or name == "OutOfMemoryError":
        text = "out of memory; use a smaller --batch-size or --image-size"
    else:
        bug = True
        text = f"unexpected {name}: {error}; this is a bug in dabench or in the method"
    return one_line(text, 10_000), bug
