"""How far a run is: what the steps tell in this process, and what receipts tell of workers elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from pipeline.run.screen import duration
from transforms.elements import Shard
from transforms.errors import EmbedbeamError
from transforms.observer import Chunked, Event, MiniBatchBegun, MiniBatchDone, Read, ShardDone, Written
from transforms.output import attempts, layout, ledger
from transforms.output.folder import Folder

_FAR_SECONDS = 5.0  # between two looks at a folder that may be an object store
_IDLE_SECONDS = 60.0


class Progress:
    """Counts of one run, thread-safe: `hear` takes the events of this process.

    Attributes:
      documents: that came to the writer, as rows or as dead letters (dead_letters).
      tokens: as the model counts them, of what it has embedded.
      mini_batches, retries: mini-batches done, and calls of the model beyond one for each of them.
      model_seconds: in which at least one thread was inside the model.
      model_span, model_idle: seconds of the processes' ModelClocks, and of those in which the model waited.
      run_seconds: from `begin` to `end`.
      shards, failed_shards: committed, and failed on a bad file.
      first_mini_batch: when the model was entered first (monotonic clock).
      replaced: what has become of an earlier job's output that this job is to replace; empty where none is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.documents = self.dead_letters = self.shards = self.failed_shards = 0
        self.tokens = self.mini_batches = self.retries = 0
        self.model_seconds = self.run_seconds = self.model_span = self.model_idle = 0.0
        self.first_mini_batch: float | None = None
        self.replaced = ""
        self._read = self._bytes = self._chunked = self._embedded = self._padded = 0
        self._inside, self._entered = 0, 0.0
        self._shown, self._done = 0, 0.0  # never less than they were
        self._begun = self._since = 0.0
        self._open: dict[str, int] = {}
        self._folder: Folder | None = None
        self._job = ""
        self._looked = self._look_seconds = 0.0
        self._idle: str | None = None

    def hear(self, event: Event) -> None:
        """Takes an event, in whichever thread it happens."""
        with self._lock:
            match event:
                case Read():
                    self._read += event.documents
                    self._bytes += event.bytes
                case Chunked():
                    self._chunked += event.cost
                case MiniBatchBegun():
                    now = time.monotonic()
                    self.first_mini_batch = self.first_mini_batch or now
                    if not self._inside:
                        self._entered = now
                    self._inside += 1
                case MiniBatchDone():
                    self._inside -= 1
                    if not self._inside:
                        self.model_seconds += time.monotonic() - self._entered
                    self.mini_batches += 1
                    self.retries += event.retries
                    self.model_span += event.span
                    self.model_idle += event.idle
                    self.tokens += event.tokens
                    self._embedded += event.cost
                    self._padded += event.padded
                case Written():
                    self.documents += event.documents
                    self.dead_letters += event.dead_letters
                case ShardDone(failed=True):
                    self.failed_shards += 1
                case ShardDone():
                    self.shards += 1

    @property
    def padding(self) -> float:
        """The share of what went through the model that was padding."""
        return 1 - self._embedded / self._padded if self._padded else 0.0

    @property
    def waited(self) -> float | None:
        """The share of the model's time in which it waited for mini-batches; None before there is any."""
        return self.model_idle / self.model_span if self.model_span else None

    def begin(self, folder: Folder, job: str, shards: Sequence[Shard], *, near: bool) -> None:
        """From here on the run is timed and can be described.

        Args:
          folder: the output folder; shards that it has receipts of are not this run's work.
          job: the job's identity.
          shards: of the plan.
          near: whether the work is done in this process; elsewhere only receipts tell of it.
        """
        self._seen = folder.shards(layout.RECEIPTS)
        sizes = {shard.shard_id: shard.bytes for shard in shards}
        self._open = {i: size for i, size in sizes.items() if i not in self._seen}
        self._of, self._folder, self._job = len(shards), None if near else folder, job
        self._begun, self._since = time.monotonic(), time.time()

    def end(self) -> None:
        self.run_seconds = time.monotonic() - self._begun
        if self._folder is not None:
            self._look(self._folder)

    def embedded_documents(self) -> int:
        """How many documents are through the model: of those that wait for a row of their file, too."""
        self._shown = max(self._shown, self.documents, int(self._read * self._share()))
        return self._shown

    def _share(self) -> float:
        """How much of what was read is through the model."""
        with self._lock:
            if self._chunked:
                return min(1.0, self._embedded / self._chunked)
            # Nothing but dead letters so far, or workers elsewhere.
            return min(1.0, self.documents / self._read) if self._read else 0.0

    def fraction(self) -> float | None:
        """The share of this run's input that is done; None before anything is."""
        planned = sum(self._open.values())
        done = self._bytes * self._share() / planned if planned else 0.0
        self._done = max(self._done, min(1.0, done))  # what is read next may be dearer than what was
        return self._done or None

    def seconds_left(self) -> float | None:
        done = self.fraction()
        if done is None or self.first_mini_batch is None:
            return None
        return (time.monotonic() - self.first_mini_batch) * (1 - done) / done

    def line(self) -> str:
        """Documents, rates, share of the input, shards, dead letters and time left, in words."""
        now = time.monotonic()
        # Looks at a large job's receipts take a while: a tenth of the time at most goes into them.
        if self._folder is not None and now - self._looked >= max(_FAR_SECONDS, 10 * self._look_seconds):
            with contextlib.suppress(EmbedbeamError, OSError):  # a store stumbles: no reason to stop
                self._look(self._folder)
        if self._idle is not None:
            return self._idle
        elapsed = max(1e-9, now - (self.first_mini_batch or now))
        documents = self.embedded_documents()
        parts = [f"{documents:,} documents"]
        if documents:
            parts.append(f"{documents / elapsed:,.1f} documents/s")
        if self.tokens:
            parts.append(f"{self.tokens / elapsed:,.0f} tokens/s")
        done, left = self.fraction(), self.seconds_left()
        parts.append(f"{done or 0:.0%} of the input")
        parts.append(f"{self._of - len(self._open) + self.shards}/{self._of} shards")
        parts.append(f"{self.dead_letters:,} dead letters")
        if self.failed_shards:
            parts.append(f"{self.failed_shards} shards failed")
        parts.append("time left unknown yet" if left is None else f"{duration(left)} left")
        return ", ".join(parts)

    def numbers(self) -> dict[str, Any]:
        """The run in numbers, for `--json`."""
        counts = ("documents", "dead_letters", "tokens", "shards", "failed_shards", "mini_batches", "retries")
        rounded = {"padding": 4, "model_seconds": 3, "run_seconds": 3}
        return (
            {name: getattr(self, name) for name in counts}
            | {name: round(getattr(self, name), digits) for name, digits in rounded.items()}
            | {"model_waited": None if self.waited is None else round(self.waited, 4)}
        )

    def _look(self, folder: Folder) -> None:
        """Hears what workers elsewhere have committed since the last look."""
        began = time.monotonic()
        new = folder.shards(layout.RECEIPTS) - self._seen
        receipts = ledger.read_receipts(folder, self._job, new)
        self._seen |= new
        self.first_mini_batch = self.first_mini_batch or (self._begun if new else None)
        for receipt in receipts:
            self.hear(Read(receipt.documents, self._open.get(receipt.shard_id, 0)))
            self.hear(Written(receipt.documents, sum(receipt.dead_letters.values())))
            self.hear(ShardDone())
            self.tokens += receipt.tokens or 0
            self.mini_batches += receipt.mini_batches
            self.retries += receipt.retries
            self.model_span += receipt.model_span
            self.model_idle += receipt.model_idle
        self._idle, waited = None, began - self._begun
        if not self.shards and waited > _IDLE_SECONDS and not self._at_work(folder):
            self._idle = (
                f"no worker has begun a shard for {duration(waited)}: look at the cluster for free slots, "
                "and at the logs of its workers"
            )
        self._looked = time.monotonic()
        self._look_seconds = self._looked - began

    def _at_work(self, folder: Folder) -> bool:
        """Whether a worker has begun a shard in this run; dead ones of earlier runs leave their notes."""
        notes = (attempts.read(folder, shard_id, self._job) for shard_id in folder.shards(layout.ATTEMPTS))
        return any(note is not None and note.started >= self._since for note in notes)
