"""Work that is done ahead of its turn, in threads of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")


def ahead(make: Callable[[int], Made], steps: range, count: int) -> Iterator[Made]:
    """Yield ``make(step)`` for every step, in order, while up to ``count`` further ones are made.

    Threads do: NumPy, OpenCV and Pillow let others run meanwhile. An error comes out where its
    result would. What nobody asks for any more is not begun.

    Args:
        make: depends on its step alone, and may run in several threads.
        steps: in order.
        count: most results that wait, and threads; 0 = each is made when its turn has come.
    """
    if count < 1:
        yield from map(make, steps)
        return
    workers = ThreadPoolExecutor(count, thread_name_prefix="ahead")
    waiting: deque[Future[Made]] = deque()
    try:
        for step in steps:
            waiting.append(workers.submit(make, step))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
