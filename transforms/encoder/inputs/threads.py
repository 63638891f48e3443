"""The process's threads for decoding: payloads of a mini-batch beside each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from transforms.encoder.device import available_cores

_T = TypeVar("_T")


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")


def side_by_side(work: Callable[[bytes], _T], payloads: Sequence[bytes]) -> list[_T]:
    """What the work makes of each payload, in order; it must not wait for such work itself."""
    return list(_threads().map(work, payloads))
