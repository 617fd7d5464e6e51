"""What was trained and is cached: whole or absent, checked whenever it is read, made again else."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dabench.errors import CacheError, DamageError, TrainingError
from dabench.networks.tensor_files import load_tensors, report_damage, save_tensors

log = logging.getLogger("dabench")
Artefact = dict[str, Any]
T = TypeVar("T")
STALE = 3600.0  # seconds after which a temporary file was left by a dead process


def load_or_make(
    what: str, path: Path, key: str, make: Callable[[], Artefact], use: Callable[[Artefact], T]
) -> T:
    """Return what ``use`` makes of a cached artefact; a damaged one is named and made again.

    Args:
        what: it is, for messages: ``source model``.
        path: of the file; a damaged one is kept beside it as ``NAME.damaged``.
        key: of what it was made from.
        make: trains it: a ``state_dict``, and numbers.
        use: takes it in; whatever it raises is damage. It may be called twice.

    Raises:
        TrainingError: ``make`` went wrong, or its weights are not finite.
        CacheError: the file cannot be read, made or replaced.
    """
    for again in (False, True):
        if not path.is_file():
            _check_writable(what, path)
            made = make()
            if (broken := _not_finite(made["state_dict"])) is not None:
                raise TrainingError(
                    f"{what} is not finite after training, first '{broken}'; lower the rate that "
                    "it is trained at"
                )
            try:
                new = publish(made | {"key": key}, path)
            except OSError as error:
                raise CacheError(
                    f"{what} cannot be written to {path.parent} ({error.strerror}); free some "
                    "space, or give another --cache-dir"
                ) from error
            if new:
                log.info("%s saved to %s", what, path)
        _sweep(path)
        advice = "delete the file and run again" if again else "it is set aside and made again"
        try:
            with report_damage(f"cached {what}", path, advice):
                return use(_read(path, key))
        except DamageError as error:
            if again:
                raise
            log.warning("%s", error)
            _set_aside(what, path)
    raise AssertionError  # the second round returns or raises


def publish(artefact: Artefact, path: Path) -> bool:
    """Write atomically; the first of several processes wins, so that all use the same weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(number)
    try:
        save_tensors(artefact | {"checksum": checksum(artefact)}, Path(name), sync=True)
        os.chmod(name, 0o666 & ~_umask())  # temporary files are private: others share the cache
        try:
            os.link(name, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    return True


def load_whole(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state that fits in every name and shape, or leave the module as it is.

    Raises:
        DamageError: it does not fit.
    """
    own = {name: value.shape for name, value in module.state_dict().items()}
    other = [n for n in {**own, **state} if n not in state or own.get(n) != state[n].shape]
    if other:
        raise DamageError(f"'{other[0]}' is missing, too much or of another shape")
    module.load_state_dict(state)


def checksum(artefact: Artefact) -> int:
    """Return the CRC-32 of names, types, shapes and values."""
    found = 0
    for name, value in sorted(artefact.items()):
        if isinstance(value, dict):
            found = zlib.crc32(f"{name} {checksum(value)}".encode(), found)
        elif isinstance(value, Tensor):
            found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
            found = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
        else:
            found = zlib.crc32(f"{name} {value!r}".encode(), found)
    return found


def _read(path: Path, key: str) -> Artefact:
    """Return the content; files of older versions hold no checksum but torch's own."""
    saved = load_tensors(path)
    if saved["key"] != key:
        raise DamageError("it was made from something else")
    if "checksum" in saved and saved.pop("checksum") != checksum(saved):
        raise DamageError("it is not as it was written")
    if (broken := _not_finite(saved["state_dict"])) is not None:
        raise DamageError(f"'{broken}' is not finite")
    return saved


def _not_finite(state: dict[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds what is no number, or None."""
    return next(
        (n for n, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())),
        None,
    )


def _check_writable(what: str, path: Path) -> None:
    """Try a small file now, before hours of training."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CacheError(
            f"{what} cannot be written to {path.parent} ({error.strerror}); give another "
            "--cache-dir"
        ) from error


def _set_aside(what: str, path: Path) -> None:
    try:
        os.replace(path, f"{path}.damaged")
    except FileNotFoundError:  # another process was quicker
        pass
    except OSError as error:
        raise CacheError(
            f"cached {what} {path} is damaged and cannot be replaced ({error.strerror}); give "
            "another --cache-dir"
        ) from error


def _sweep(path: Path) -> None:
    """Remove what killed processes left of this file."""
    for old in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - old.lstat().st_mtime > STALE:
                old.unlink()


def _umask() -> int:
    """Return the process's umask (it can be read by setting it alone)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
