"""Errors that dabench raises on purpose: one line each, saying what to do next.

The command line prints such an error without a traceback (``--debug`` shows it).
"""

import difflib
import errno
import re
import reprlib
from collections.abc import Iterable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RIGHTS = (errno.EROFS, errno.EACCES, errno.EPERM)
#: a path that can be no file or folder
_PATHS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST)
#: how much of a value a message shows
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxlist, _SHOWN.maxdict, _SHOWN.maxstring, _SHOWN.maxother = 2, 4, 4, 90, 90


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


class NewerError(StoreError):
    """A record that a later dabench wrote: it is whole, and nothing here may replace it."""


class TrainingError(DabenchError):
    """Training went wrong, or a method did or answered what it may not."""


class DivergenceError(TrainingError):
    """A method's loss or logits are not finite: it ran as it is, with too large a rate, say."""


def one_line(text: object, most: int | None = None) -> str:
    """Return foreign text as one line of printable characters, at most ``most`` of them.

    Whatever may steer a terminal (control characters, signs that turn the direction of writing)
    appears as an escape, line breaks and tabs as a space. All that is printed comes through here.
    """
    words = re.sub(r"[^\S ]\s*", " ", str(text))
    if not words.isprintable():
        words = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return words if most is None or len(words) <= most else f"{words[: most - 3]}..."


def shown(value: object) -> str:
    """Return a value as a message quotes it, cut where it is long or deep."""
    return one_line(_SHOWN.repr(value), 200)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0], 100) if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` or the list of known names, for an error message."""
    names = sorted(known)
    if not names:
        return "; there are none"
    # the search takes the square of a name's length
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) if len(name) < 200 else []
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"


def explain(error: Exception) -> tuple[str, bool]:
    """Return an error as one line for a user, and whether it is a bug (else the user's to mend)."""
    name, bug = type(error).__name__, False
    if isinstance(error, DabenchError):
        text = str(error)
    elif isinstance(error, OSError) and error.errno in (*_FULL, *_RIGHTS, *_PATHS):
        text = f"{error.filename or 'a file'}: {error.strerror}; "
        text += "free some space, or " if error.errno in _FULL else ""
        text += "get the right to write there, or " if error.errno in _RIGHTS else ""
        text += "choose another folder with --results, --cache-dir or --out"
    elif isinstance(error, MemoryError) or name == "OutOfMemoryError":
        text = "out of memory; use a smaller --batch-size or --image-size"
    else:
        bug = True
        text = f"unexpected {name}: {error}; this is a bug in dabench or in the method"
    return one_line(text.strip(), 4_000), bug
