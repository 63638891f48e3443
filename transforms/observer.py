"""What happens inside a process, told to whoever listens: progress, traces, tuning.

Beam's own metrics can be asked for only once, after a run; these events come as they happen.
"""

from __future__ import annotations

import dataclasses
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
    """

    chunks: int
    tokens: int
    cost: int
    padded: int
    seconds: float
    waited: float
    calls: int


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
