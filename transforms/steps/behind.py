"""Work of a step on other threads, while the chain goes on."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Any


class Behind:
    """Work in order, never far behind the chain, whose results come in that order.

    Work begins when it is given. Waiting and raising happen where the results are iterated.
    """

    def __init__(self, threads: Executor, most: float):
        """Takes the threads; what waits for them weighs no more than `most`, or is one piece of work."""
        self._threads, self._most = threads, most
        self._todo: collections.deque[tuple[Future[Iterable[Any]], int]] = collections.deque()
        self._waiting = 0

    def do(self, work: Callable[[], Iterable[Any]], weight: int) -> Iterator[Any]:
        """Takes work on; gives what earlier work gave, and waits for it while there is too much to do.

        Raises:
          Exception: what the work raised whose turn it is.
        """
        return self._queued(self._threads.submit(work), weight)

    def put(self, results: Iterable[Any], weight: int) -> Iterator[Any]:
        """Takes results of no work, which wait their turn."""
        future: Future[Iterable[Any]] = Future()
        future.set_result(results)
        return self._queued(future, weight)

    def finish(self) -> Iterator[Any]:
        """Waits for all work; gives and raises as `do`."""
        return self._results(-1)

    def drop(self) -> None:
        """Forgets all work: waits for what has begun; what has not is not done."""
        wait([future for future, _ in self._todo if not future.cancel()])
        self._todo.clear()
        self._waiting = 0

    def _queued(self, future: Future[Iterable[Any]], weight: int) -> Iterator[Any]:
        self._todo.append((future, weight))
        self._waiting += weight
        return self._results(self._most)

    def _results(self, most: float) -> Iterator[Any]:
        while self._todo:
            future, weight = self._todo[0]
            alone = len(self._todo) == 1 and most >= 0
            if not future.done() and (alone or self._waiting <= most):
                return
            self._todo.popleft()
            self._waiting -= weight
            yield from future.result()
