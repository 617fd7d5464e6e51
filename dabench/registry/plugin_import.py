"""Imports a class that somebody named, and says in one line what is wrong with it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from dabench.errors import ConfigError, reason_of

#: the classes that a plug-in has to be made from, by name: nothing heavy is imported here
_BASES = {"method": ("OfflineMethod", "OnlineMethod")}
#: start of the names of modules that were made from a file
_OF_FILE = "dabench_plugin_"
#: a module -> digest of the code that it was made from, since files are edited under a process
_DIGESTS: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
#: files that are being imported, the innermost last
_IMPORTED_NOW: list[Path] = []
_NEEDED = {"protocol": ("is_valid", "plan", "run", "primary", "grant"), "data set": ("load",)}


def module_of_file(path: Path, option: str) -> ModuleType:
    """Run a file as a module of its own, once for every content that it has."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error.strerror}") from None
    digest = hashlib.sha256(bytes(path) + b"\0" + source).hexdigest()[:16]
    name = f"{_OF_FILE}{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{option}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up by name
    _DIGESTS[module] = hashlib.sha256(source).hexdigest()
    _IMPORTED_NOW.append(path)
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _not_imported(error, str(path), option) from error
    finally:
        _IMPORTED_NOW.pop()
    return module


def check_no_import(call: str) -> None:
    """Refuse a call that a file makes while it is imported for a class that it holds.

    A script that names its own class is imported once more, and would do all of its work again.

    Raises:
        ConfigError: says where the call belongs.
    """
    if _IMPORTED_NOW:
        raise ConfigError(
            f"{call} is called while {_IMPORTED_NOW[-1].name} is imported for what it has; "
            "put such calls under 'if __name__ == \"__main__\":'"
        )


def import_named(name: str, option: str) -> ModuleType:
    """Import a module by its dotted name."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        file = f"{name.replace('.', '/')}.py"
        if isinstance(error, ModuleNotFoundError) and os.path.isfile(file):
            named = f"{file}:{option.rpartition(':')[2]}"
            raise ConfigError(f"{option}: there is no module {name}; a file is {named}") from None
        raise _not_imported(error, "", option) from error


def _not_imported(error: BaseException, path: str, option: str) -> ConfigError:
    """Say in one line why a module cannot be imported, and in which of its lines."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
        return ConfigError(f"{option}: {where}: {error.msg}; mend the file")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    where = f" (line {frames[-1].lineno})" if frames else ""
    hint = "mend it"
    if isinstance(error, ImportError):
        hint = "install what it imports" + ("; a single file stands alone" if path else "")
    reason = f"{type(error).__name__}: {reason_of(error)}"
    if isinstance(error, ConfigError):  # one of dabench's, which says what to do
        reason = str(error)
    return ConfigError(f"{option}: it cannot be imported: {reason}{where}; {hint}")


def is_of_kind(kind: str, cls: type[Any]) -> bool:
    """Whether a class is a method, protocol or data set; nothing but names is looked at."""
    if kind in _BASES:
        home = "dabench.contract.method"
        if cls.__module__ == home:
            return False
        return any(b.__module__ == home and b.__name__ in _BASES[kind] for b in cls.__mro__)
    return all(hasattr(cls, name) for name in _NEEDED[kind])


def check_class(kind: str, cls: type[Any], option: str) -> None:
    """Refuse a class that is not of its kind, is not finished, or says nothing of itself."""
    if not is_of_kind(kind, cls):
        wanted = (
            f"a subclass of dabench.api.{' or '.join(_BASES[kind])}"
            if kind in _BASES
            else f"a class with {', '.join(_NEEDED[kind])}"
        )
        raise ConfigError(f"{option}: {cls.__name__} is no {kind}: expected {wanted}")
    names = dir(cls) if kind in _BASES else ()
    missing = [n for n in names if getattr(getattr(cls, n, None), "__isabstractmethod__", False)]
    if missing:
        raise ConfigError(f"{option}: {cls.__name__} lacks {', '.join(missing)}; write it")
    if not vars(cls).get("__doc__"):
        raise ConfigError(
            f"{option}: {cls.__name__} has no docstring; its first line is what tables say of it"
        )


def module_as_planned(target: str, sha256: str, option: str) -> ModuleType:
    """Import the module of a function that a run names, as it was when the run was planned.

    Args:
        target: ``/path/file.py:function`` or ``module:function``.
        sha256: of its code at that time; empty = as it is now.
        option: as the user wrote it.

    Raises:
        ConfigError: it cannot be imported, or its code is another by now.
    """
    place = target.rpartition(":")[0]
    own = place.endswith(".py")
    module = module_of_file(Path(place), option) if own else import_named(place, option)
    if sha256 not in ("", source_digest(module, option)):
        raise ConfigError(
            f"{option}: its code is not what it was when the run was planned; give the command "
            "again"
        )
    return module


def source_digest(module: ModuleType, option: str) -> str:
    """Return the SHA-256 of the code that a module was made from.

    Of a module in a package that is the whole package: what it imports from there decides its
    numbers as it does.

    Raises:
        ConfigError: it cannot be read, or was edited since this process imported it: what is
            imported would answer under the name of what is on the disk.
    """
    if module.__name__.startswith(_OF_FILE):  # each content is a module of its own
        return _DIGESTS[module]
    home = sys.modules.get(module.__name__.partition(".")[0], module)
    try:
        now = _digest_on_disk(module, list(getattr(home, "__path__", ())))
    except OSError as error:
        raise ConfigError(f"{option}: its source cannot be read: {error}") from None
    if _DIGESTS.setdefault(home, now) != now:
        raise ConfigError(
            f"{option}: {home.__name__} was edited after this Python imported it, and would run "
            "as it was; start Python anew"
        )
    return now


def _digest_on_disk(module: ModuleType, package: Sequence[str]) -> str:
    """Hash a module's file, or all Python files of its package: any of them may be imported."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    own = Path(str(getattr(module, "__file__", None) or origin))
    if not package:
        return hashlib.sha256(own.read_bytes()).hexdigest()
    files = {
        path.relative_to(folder).as_posix(): path
        for folder in package
        for path in Path(folder).rglob("*.py")
        # no environment that lies in there is imported as a part of it
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if own.suffix != ".py" and own.is_file():  # compiled
        files[own.name] = own
    whole = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes())
        whole.update(name.encode(errors="surrogateescape") + b"\0" + content.digest())
    return whole.hexdigest()
