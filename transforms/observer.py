"""What happens inside a process, told to whoever listens: progress, traces, tuning.

Beam's own metrics can be asked for only once, after a run; these events come as they happen.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import weakref
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """Documents were read, dead letters among them, and so many bytes of the plan's input for them."""

    documents: int
    bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Chunked:
    """Documents were cut into chunks of so many tokens of the budget together."""

    chunks: int
    cost: int


@dataclasses.dataclass(frozen=True, slots=True)
class MiniBatchBegun:
    """A thread has entered the model."""


@dataclasses.dataclass(frozen=True, slots=True)
class MiniBatchDone:
    """A thread has left the model.

    Attributes:
      chunks: rows of the mini-batch.
      tokens: as the model counts them; 0 where it cannot.
      cost: tokens of the budget.
      padded: tokens of the budget if every row were as long as the longest.
      seconds: inside the model.
      waited: seconds between being handed over and entering the model.
      calls: of the model: more than one where the mini-batch was halved or bisected.
      begun: nanoseconds since the epoch.
      thread, device: where.
      span, idle: of the process's ModelClock, since the mini-batch that was done before this one.
    """

    chunks: int
    tokens: int
    cost: int
    padded: int
    seconds: float
    waited: float
    calls: int
    begun: int = 0
    thread: str = ""
    device: str = ""
    span: float = 0.0
    idle: float = 0.0

    @property
    def padding(self) -> float:
        """The share of what the budget counts that would be padding."""
        return 1 - self.cost / self.padded if self.padded else 0.0

    @property
    def retries(self) -> int:
        return max(0, self.calls - 1)


class ModelClock:
    """How long the model of a process had less to do than it could, while the chain ran.

    Counted is the time from the first mini-batch begun to the last one done, as long as a bundle is open;
    what a runner takes between two bundles is not. A moment with fewer mini-batches inside the model than it
    takes to fill the device counts as idle in proportion: with one of two cores at work, by half.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Of a bundle that fails nobody tells the end: it is over when its DoFn is gone.
        self._bundles: weakref.WeakSet[object] = weakref.WeakSet()
        self._inside, self._fills = 0, 1
        self._since: float | None = None
        self._span = self._idle = 0.0

    def open(self, bundle: object, fills: int) -> None:
        """A bundle has begun; so many mini-batches at once fill the device."""
        with self._lock:
            self._pass()
            self._bundles.add(bundle)
            self._fills = fills

    def close(self, bundle: object) -> None:
        with self._lock:
            self._pass()
            self._bundles.discard(bundle)

    def begin(self) -> None:
        """A mini-batch enters the model."""
        with self._lock:
            self._since = self._since or time.monotonic()
            self._pass()
            self._inside += 1

    def end(self) -> tuple[float, float]:
        """A mini-batch leaves the model. Returns span and idle, in seconds, since the one before it did."""
        with self._lock:
            self._pass()
            self._inside -= 1
            found = self._span, self._idle
            self._span = self._idle = 0.0
            return found

    def _pass(self) -> None:
        if self._since is None:
            return
        now = time.monotonic()
        if self._bundles or self._inside:
            seconds = now - self._since
            self._span += seconds
            self._idle += seconds * max(0.0, 1 - self._inside / self._fills)
        self._since = now


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """Documents have reached the writer, as rows or as dead letters (counted among the documents)."""

    documents: int
    dead_letters: int


@dataclasses.dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard was committed, or it failed on a bad file."""

    failed: bool = False


Event = Read | Chunked | MiniBatchBegun | MiniBatchDone | Written | ShardDone
_observers: tuple[Callable[[Event], None], ...] = ()


def observe(observer: Callable[[Event], None]) -> Callable[[], None]:
    """Tells an observer of every event of this process, in whichever thread it happens.

    Returns:
      The function that ends it.
    """
    global _observers
    _observers = (*_observers, observer)

    def end() -> None:
        global _observers
        _observers = tuple(one for one in _observers if one is not observer)

    return end


def tell(event: Event) -> None:
    """Hands an event to all observers."""
    for observer in _observers:
        observer(event)
