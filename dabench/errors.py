"""Errors that dabench raises on purpose: one line each, saying what to do next.

The command line prints such an error without a traceback (``--debug`` shows it).
"""

import difflib
import errno
from collections.abc import Iterable

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


class OracleError(DabenchError):
    """A source model behind an interface that gives no answer, or a useless one."""


class StoreError(DabenchError):
    """The results folder cannot be read or written."""


class TrainingError(DabenchError):
    """Training went wrong (for example a loss that is not finite)."""


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
    return " ".join(text.split()), bug
