"""How a grant holds what a method must not reach: in the frame of a suspended generator.

A closure, a partial, a bound method and an attribute all show what they hold. The locals of a
generator's frame are shown by the frame alone, and frames are beyond what a grant can promise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from dabench.errors import AccessError

P = ParamSpec("P")
R = TypeVar("R")


class Confined(Generic[P, R]):
    """A function that is called as ever, and shows nothing of what it holds on to.

    Copies are the same function; it cannot be pickled.

    Args:
        function: what is called; it must not call itself through this object.
    """

    __slots__ = ("_lock", "_loop")
    _loop: Generator[Any, Any, None]
    _lock: threading.RLock

    def __init__(self, function: Callable[P, R]) -> None:
        loop = _serve(function)
        next(loop)
        object.__setattr__(self, "_loop", loop)
        # a generator refuses a second thread, and methods may load their next batch in one
        object.__setattr__(self, "_lock", threading.RLock())

    def __setattr__(self, name: str, value: object) -> None:
        raise AccessError("what a grant holds cannot be replaced")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        with self._lock:
            error, found = self._loop.send((args, kwargs))
            next(self._loop)
        if error is not None:
            raise error
        answer: R = found
        return answer

    def __deepcopy__(self, memo: dict[int, Any]) -> Confined[P, R]:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("what a grant holds stays in its process")


def _serve(function: Callable[..., Any]) -> Generator[Any, Any, None]:
    """Answer for ever; between two calls neither arguments nor answer are kept."""
    while True:
        yield _outcome(function, *(yield))


def _outcome(
    function: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[BaseException | None, Any]:
    try:
        return None, function(*args, **kwargs)
    # an error that left the generator would end it, so all of them are raised by the caller
    except BaseException as error:  # noqa: BLE001
        return error, None
