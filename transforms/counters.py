"""Counts of the running process, for the live progress line.

Beam's own metrics can be asked for only once, after a run; these can be read at any moment.
"""

from __future__ import annotations

import threading
import time


class Counters:
    """Thread-safe counts of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.documents = self.dead_letters = self.tokens = self.shards = self.failed_shards = 0
            self.mini_batches = 0
            self.run_seconds = 0.0
            self.model_seconds = 0.0
            self.first_mini_batch: float | None = None
            self.last_commit: float | None = None
            self._since = time.monotonic()  # threads of a failed run may still be inside

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
            if "shards" in counts:
                self.last_commit = time.monotonic()

    def enter_model(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = time.monotonic()
            if self.first_mini_batch is None:
                self.first_mini_batch = time.monotonic()
            self._inside += 1

    def leave_model(self) -> None:
        """model_seconds counts time in which at least one thread was inside the model."""
        with self._lock:
            self._inside -= 1
            self.mini_batches += 1
            if not self._inside:
                self.model_seconds += time.monotonic() - self._since


COUNTERS = Counters()
