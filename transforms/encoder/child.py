"""Processes that do one thing for this one, and do not outlive it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


def end_with_parent(clean_up: Callable[[], object] = lambda: None) -> None:
    """Ends this process once nobody holds the other end of its standard input: its parent has ended.

    Args:
      clean_up: is done before.
    """

    def wait() -> None:
        os.read(0, 1)  # not through sys.stdin, whose lock would break the end of this process
        clean_up()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
