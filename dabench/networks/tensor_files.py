"""Reading what ``torch.save`` wrote: every damage becomes one line that names the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dabench.errors import CacheError, DamageError, reason_of


@contextmanager
def report_damage(what: str, path: Path, advice: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file's content inside into a ``DamageError``.

    Args:
        what: the file is, for the message: ``checkpoint``.
        path: of the file.
        advice: what to do next.

    Raises:
        DamageError: the content is not what was written, or not what is needed.
        CacheError: the file may be whole, and cannot be read.
    """
    try:
        yield
    except (CacheError, MemoryError, torch.OutOfMemoryError) as error:
        if type(error) is not DamageError:
            raise
        raise DamageError(f"{what} {path} cannot be used ({error}); {advice}") from error
    except FileNotFoundError as error:
        raise DamageError(f"{what} {path} is gone; {advice}") from error
    except OSError as error:
        reason = error.strerror or reason_of(error)
        raise CacheError(f"{what} {path} cannot be read ({reason})") from error
    except Exception as error:  # unpickling foreign bytes raises whatever it likes
        raise DamageError(f"{what} {path} cannot be used ({reason_of(error)}); {advice}") from error


def check_checksums(path: Path) -> None:
    """Compare a file's content with its own checksums, where its format has some.

    torch itself takes flipped bits for weights.

    Raises:
        DamageError: a checksum is wrong.
        Exception: whatever the reader of archives raises; call it inside ``report_damage``.
    """
    if zipfile.is_zipfile(path):  # the older format has no checksums
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                raise DamageError(f"the checksum of '{name}' is wrong")


def load_tensors(path: Path) -> dict[str, Any]:
    """Return the dict that ``torch.save`` wrote, on the CPU; nothing in it is executed.

    Raises:
        DamageError: the checksums are wrong, or there is no dict.
        Exception: whatever torch raises; call it inside ``report_damage``.
    """
    check_checksums(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, pickle.UnpicklingError) as error:  # torch's words are of options
        reason = "it is empty, cut off, or holds more than tensors and numbers"
        raise DamageError(reason) from error
    if not isinstance(found, dict):
        raise DamageError(f"it holds {type(found).__name__}, and should hold a dict")
    return found
