"""Mini-batches through the model, a few in flight, results in order."""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np

from transforms.elements import Chunk, DeadLetter, EmbeddedBatch
from transforms.encoder import policy
from transforms.encoder.device import available_cores
from transforms.encoder.robust import RobustEncoder
from transforms.observer import MiniBatchBegun, MiniBatchDone, tell
from transforms.output.schema import FLOAT16_MAX
from transforms.steps.chunk import dead_letter
from transforms.steps.shared import SharedEncoder
from transforms.steps.windowed import at_origin


def embed_mini_batch(
    encoder: RobustEncoder, chunks: tuple[Chunk, ...], vector_dtype: str = "float32"
) -> list[EmbeddedBatch | DeadLetter]:
    """Embeds a mini-batch: the chunks that worked with their vectors, then a dead letter for each other.

    Raises:
      ModelError: the model itself is at fault.
    """
    tell(MiniBatchBegun())
    began = time.monotonic()
    costs = [chunk.cost for chunk in chunks]
    try:
        vectors, failures = encoder.embed([chunk.text for chunk in chunks], costs)
    finally:
        tokens, seconds = sum(chunk.tokens or 0 for chunk in chunks), time.monotonic() - began
        padded = max(costs) * len(costs)
        tell(MiniBatchDone(len(chunks), tokens, sum(costs), padded, seconds, waited=0.0, calls=1))
    if vector_dtype == "float16":
        reason = f"beyond float16: a number above {FLOAT16_MAX:.0f}; use --vector-dtype float32"
        failures |= dict.fromkeys(
            np.flatnonzero((np.abs(vectors) > FLOAT16_MAX).any(axis=1)).tolist(), reason
        )
    if not failures:
        return [EmbeddedBatch(chunks, vectors)]
    good = [i for i in range(len(chunks)) if i not in failures]
    results: list[EmbeddedBatch | DeadLetter] = []
    if good:
        results.append(EmbeddedBatch(tuple(chunks[i] for i in good), vectors[good]))
    return results + [dead_letter(chunks[i].document, "embed", reason) for i, reason in failures.items()]


@functools.cache
def _model_threads(count: int) -> ThreadPoolExecutor:
    """The process's threads for the model: a runner may run many DoFn instances beside each other."""
    return ThreadPoolExecutor(count, thread_name_prefix="embed")


class _EmbedFn(beam.DoFn):
    """Gives mini-batches to a few threads and takes their results in order.

    While the model works, this thread reads, tokenizes and writes. One mini-batch more than the threads can
    work on is queued, so that none of them waits for this thread.
    """

    def __init__(self, encoder: SharedEncoder, vector_dtype: str):
        self._shared = encoder
        self._vector_dtype = vector_dtype

    def setup(self) -> None:
        self._encoder = self._shared.acquire()
        device = getattr(self._encoder.encoder, "device", "CPU")
        self._in_flight = policy.threads(cores=available_cores(), device=device).in_flight
        self._threads = _model_threads(self._in_flight)
        self._queue: collections.deque[Any] = collections.deque()

    def start_bundle(self) -> None:
        for entry in self._queue:  # left by a bundle that failed
            if isinstance(entry, Future):
                entry.cancel()
        self._queue.clear()

    def process(self, batch: list[Any]) -> Iterator[Any]:
        chunks = tuple(element for element in batch if isinstance(element, Chunk))
        if chunks:
            self._queue.append(
                self._threads.submit(embed_mini_batch, self._encoder, chunks, self._vector_dtype)
            )
        # Dead letters and markers wait their turn: a marker must come after its shard's vectors.
        self._queue.extend(element for element in batch if not isinstance(element, Chunk))
        yield from self._results(leave=self._in_flight + 1)

    def finish_bundle(self) -> Iterator[Any]:
        for element in self._results(leave=0):
            first = element.chunks[0] if isinstance(element, EmbeddedBatch) else element
            yield at_origin(element, first)

    def teardown(self) -> None:
        for entry in getattr(self, "_queue", ()):  # there is none if the model could not be loaded
            if isinstance(entry, Future):
                entry.cancel()

    def _results(self, *, leave: int) -> Iterator[Any]:
        """Yields what is ready at the head of the queue; waits only while more than `leave` are at work."""
        queue = self._queue
        while queue:
            head = queue[0]
            if not isinstance(head, Future):
                yield queue.popleft()
                continue
            if not head.done() and sum(isinstance(entry, Future) for entry in queue) <= leave:
                return
            queue.popleft()
            yield from head.result()


@dataclasses.dataclass(eq=False)
class EmbedMiniBatches(beam.PTransform):
    """Mini-batches of chunks -> EmbeddedBatch; dead letters and end-of-shard markers pass, in order."""

    encoder: SharedEncoder
    vector_dtype: str = "float32"

    def expand(self, mini_batches: beam.PCollection) -> beam.PCollection:
        return mini_batches | beam.ParDo(_EmbedFn(self.encoder, self.vector_dtype))
