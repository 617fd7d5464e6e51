"""Errors that dabench raises on purpose: one line each, saying what to do next.

The command line prints such an error without a traceback (``--debug`` shows it).
"""

import difflib
from collections.abc import Iterable


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
