"""Source models in an object store, each for as long as a run that is left may need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from dabench.sweep.executors.node import Files
from dabench.sweep.executors.shelf import Shelf
from dabench.sweep.plan import Job, Key

#: the files of a source model, which several recipes may share
_Names = tuple[str, ...]


class Handouts:
    """What runs are given of the shelf: one object for all runs that need the same files.

    The store frees an object when nobody refers to it: neither this class, which lets go of it when
    the last run with its recipe is over, nor a task that is queued or under way.

    Args:
        shelf: has the files.
        put: brings files into the store, and returns the reference that keeps them there.
    """

    def __init__(self, shelf: Shelf, put: Callable[[Files], Any]) -> None:
        self._shelf, self._put = shelf, put
        self._left: Counter[Key] = Counter()
        self._names: dict[Key, _Names] = {}
        self._objects: dict[_Names, Any] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def expect(self, jobs: Iterable[Job]) -> None:
        """Count the runs that are to come; one that nobody counted is handed its files as well."""
        self._left = Counter(job.recipe_key for job in jobs)

    def of(self, job: Job) -> Any:
        """Return the reference for a run; the files that its recipe has had before may be fewer."""
        names = tuple(self._shelf.names(job))
        self._names[job.recipe_key] = names
        if names not in self._objects:
            self._objects[names] = self._put(self._shelf.files(job))
        self._let_go()
        return self._objects[names]

    def over(self, job: Job) -> None:
        """Take note of a run that will not begin again."""
        self._left[job.recipe_key] -= 1
        if self._left[job.recipe_key] <= 0:
            self._names.pop(job.recipe_key, None)
            self._let_go()

    def clear(self) -> None:
        """Let go of everything."""
        self._names.clear()
        self._objects.clear()

    def _let_go(self) -> None:
        needed = set(self._names.values())
        for names in self._objects.keys() - needed:
            del self._objects[names]
