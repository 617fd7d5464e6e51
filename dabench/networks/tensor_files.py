"""Writing by ``torch.save``, and reading it: a full disk says so, and every damage becomes one line
that names the file."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

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


class _Told:
    """A file that remembers why it could not be written: torch keeps the reason to itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes, as files do."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Bring them to the system."""
        self._file.flush()


def save_tensors(content: Any, path: Path, *, sync: bool = False) -> None:
    """Write what ``torch.save`` can into a file, which goes again on any error.

    Args:
        content: a dict of tensors, numbers and the like.
        path: of the file; what was there is lost.
        sync: wait for the disk.

    Raises:
        OSError: it cannot be written; names the file. Torch alone raises ``RuntimeError``.
    """
    file = path.open("wb")
    told = _Told(file)
    try:
        with file:
            torch.save(content, cast(Any, told))
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)  # a half of it would keep a full disk full
        cause = told.error or error
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


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
