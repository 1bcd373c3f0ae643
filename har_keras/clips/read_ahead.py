"""Reads ahead of the model: videos are decoded while it computes."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int = 0,
    num_ahead: int = 0,
) -> Iterator[Result]:
    """Yields `function(item)` for each item, in order, computed in threads.

    Only a few results wait for the consumer, so memory does not grow with the
    number of items. Closing the generator cancels what has not started and
    waits for the rest.

    Args:
        function: Callable. What it raises is raised here, at its item.
        items: Iterable. What `function` takes.
        num_threads: int. Defaults to `0`: one per processor core, at most 8.
        num_ahead: int. Results that may wait. Defaults to `0`: one per
            thread.

    Yields:
        The results, in the order of the items.

    Example:

    >>> list(map_ahead(abs, [3, -1, -2]))
    [3, 1, 2]
    """
    num_threads = num_threads or min(8, os.cpu_count() or 1)
    num_ahead = num_ahead or num_threads
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads, "read-ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > num_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_ahead(items: Iterable[Item], *, num_ahead: int = 24) -> Iterator[Item]:
    """Yields items that one thread takes from an iterator ahead of time.

    Args:
        items: Iterable. What it raises is raised here.
        num_ahead: int. Items that may wait. Defaults to `24`.

    Yields:
        The items, in order.

    Example:

    >>> list(read_ahead(x * x for x in range(4)))
    [0, 1, 4, 9]
    """
    iterator = iter(items)
    for item in map_ahead(
        lambda _: next(iterator, _END),
        itertools.repeat(None),
        num_threads=1,
        num_ahead=num_ahead,
    ):
        if item is _END:
            return
        yield item
