"""Live progress: one line on a terminal, a plain line every half minute elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any

from pipeline.run import finish
from transforms.counters import COUNTERS
from transforms.errors import EmbedbeamError
from transforms.output import attempts, layout
from transforms.output.folder import Folder

_PLAIN_SECONDS = 30.0
_LIVE_SECONDS = 0.5
_FAR_SECONDS = 5.0  # between two looks at a folder that may be an object store
_IDLE_SECONDS = 60.0


def duration(seconds: float) -> str:
    """A time span as people read it.

    >>> duration(5), duration(75), duration(7380), duration(200000)
    ('5s', '1m15s', '2h03m', '2d07h')
    """
    s = round(seconds)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 86400}d{s % 86400 // 3600:02d}h"


class Progress:
    """Shows how far the running job is on standard error until it is left.

    Work in this process is known from its counters; work elsewhere from the receipts, as they appear.
    """

    def __init__(self, shards: int, folder: Folder, *, quiet: bool, near: bool = True):
        self._seen = set(folder.names(layout.RECEIPTS))
        self._shards_before, self._shards = len(self._seen), shards
        self._folder, self._quiet, self._near = folder, quiet, near
        self._look_seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="progress")

    def __enter__(self) -> Progress:
        COUNTERS.reset()
        self._started, self._since = time.monotonic(), time.time()
        if not self._quiet:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        COUNTERS.run_seconds = time.monotonic() - self._started
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        if not self._near:
            with contextlib.suppress(Exception):  # for the summary only
                self._read_receipts()

    def line(self) -> str:
        """documents, rates, shards, dead letters and time left, in words."""
        if not self._near:
            self._read_receipts()
        elapsed = max(1e-9, time.monotonic() - (COUNTERS.first_mini_batch or time.monotonic()))
        documents, tokens = COUNTERS.documents, COUNTERS.tokens
        shards = self._shards_before + COUNTERS.shards
        parts = [f"{documents:,} documents"]
        if documents:
            parts.append(f"{documents / elapsed:,.1f} documents/s")
        if tokens:
            parts.append(f"{tokens / elapsed:,.0f} tokens/s")
        parts += [f"{shards}/{self._shards} shards", f"{COUNTERS.dead_letters:,} dead letters"]
        if COUNTERS.failed_shards:
            parts.append(f"{COUNTERS.failed_shards} shards failed")
        left = self._seconds_left()
        parts.append("time left unknown yet" if left is None else f"{duration(left)} left")
        return ", ".join(parts)

    def _read_receipts(self) -> None:
        """Counts what workers elsewhere have committed since the last look."""
        began = time.monotonic()
        new = set(self._folder.names(layout.RECEIPTS)) - self._seen
        self._seen |= new
        for receipt in finish.read_all(self._folder, sorted(new)):
            dead = sum(receipt.dead_letters.values())
            if COUNTERS.first_mini_batch is None:
                COUNTERS.first_mini_batch = self._started
            COUNTERS.add(documents=receipt.documents, dead_letters=dead, tokens=receipt.tokens or 0, shards=1)
        self._look_seconds = time.monotonic() - began

    def _waits(self) -> str | None:
        """What to look at when a cluster has not begun with any shard after a minute."""
        waited = time.monotonic() - self._started
        idle = not self._near and not COUNTERS.shards and waited > _IDLE_SECONDS
        if not idle or self._begun():
            return None
        return (
            f"no worker has begun a shard for {duration(waited)}: look at the cluster for free slots, and at "
            "the logs of its workers"
        )

    def _begun(self) -> bool:
        """Whether a worker has begun a shard in this run; dead ones of earlier runs leave their notes."""
        ids = [name.removesuffix(".json") for name in self._folder.names(layout.ATTEMPTS)]
        notes = [attempts.read(self._folder, shard_id) for shard_id in ids]
        return any(note is not None and note.started >= self._since for note in notes)

    def _seconds_left(self) -> float | None:
        """From the mean time of a committed shard; shards are of like size."""
        done = COUNTERS.shards + COUNTERS.failed_shards
        if not done or not COUNTERS.last_commit or COUNTERS.first_mini_batch is None:
            return None
        per_shard = (COUNTERS.last_commit - COUNTERS.first_mini_batch) / done
        since = time.monotonic() - COUNTERS.last_commit
        return max(0.0, per_shard * (self._shards - self._shards_before - done) - since)

    def _run(self) -> None:
        if sys.stderr.isatty():
            self._run_live()
            return
        while not self._stop.wait(_PLAIN_SECONDS):
            with contextlib.suppress(EmbedbeamError, OSError):  # a store that stumbles stops no progress
                print(f"embedbeam: {self._waits() or self.line()}", file=sys.stderr, flush=True)

    def _pause(self) -> float:
        """Looks at a large job's receipts take a while: a tenth of the time at most goes into them."""
        return _LIVE_SECONDS if self._near else max(_FAR_SECONDS, 10 * self._look_seconds)

    def _run_live(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        spinner = Spinner("dots", text=self.line())
        console: Any = Console(stderr=True)
        with Live(spinner, console=console, transient=True, refresh_per_second=4) as live:
            while not self._stop.wait(self._pause()):
                with contextlib.suppress(EmbedbeamError, OSError):
                    spinner.update(text=self._waits() or self.line())
                live.refresh()
