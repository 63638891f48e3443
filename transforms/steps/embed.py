"""Mini-batches through the model, a few in flight, results in order."""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import observer
from transforms.blocks import DeadLetters, EmbeddedBatch, Run
from transforms.elements import Element
from transforms.encoder import policy
from transforms.encoder.device import available_cores
from transforms.encoder.robust import RobustEncoder
from transforms.steps.encoder import SharedEncoder
from transforms.steps.windowed import at_origin

FLOAT16_MAX = 65504.0  # the largest finite float16
_BEYOND = ("beyond float16", f"a number above {FLOAT16_MAX:.0f}; use vector_dtype=float32")


def embed_mini_batch(
    encoder: RobustEncoder, runs: Sequence[Run], vector_dtype: str = "float32", handed_over: float = 0.0
) -> EmbeddedBatch:
    """Embeds a mini-batch.

    Args:
      handed_over: when it was ready, in seconds of time.monotonic(), for observers.

    Raises:
      ModelError: the model itself is at fault.
    """
    begun = time.monotonic()
    payloads = [value for run in runs for value in run.window.payloads.take(pa.array(run.chunks)).to_pylist()]
    costs = np.concatenate([run.window.costs[run.chunks] for run in runs])
    observer.tell(observer.MiniBatchBegun())
    calls = 0
    try:
        vectors, failures, calls = encoder.embed(payloads, costs.tolist())
    finally:
        tokens = [run.window.tokens[run.chunks].sum() for run in runs if run.window.tokens is not None]
        observer.tell(
            observer.MiniBatchDone(
                chunks=len(payloads),
                tokens=int(sum(tokens)),
                cost=int(costs.sum()),
                padded=int(costs.max()) * len(costs),
                seconds=time.monotonic() - begun,
                waited=begun - handed_over,
                calls=calls,
            )
        )
    if vector_dtype == "float16":
        beyond = np.flatnonzero((np.abs(vectors) > FLOAT16_MAX).any(axis=1)).tolist()
        failures |= dict.fromkeys(beyond, _BEYOND)
    return EmbeddedBatch(tuple(runs), vectors, failures)


@functools.cache
def _model_threads(count: int) -> ThreadPoolExecutor:
    """The process's threads for the model: a runner may run many DoFn instances beside each other."""
    return ThreadPoolExecutor(count, thread_name_prefix="embed")


class _EmbedFn(beam.DoFn):
    """Gives mini-batches to a few threads and takes their results in order.

    While the model works, this thread reads, tokenizes and merges. One mini-batch more than the threads can
    work on is queued, so that none of them waits for this thread.
    """

    def __init__(self, encoder: SharedEncoder, vector_dtype: str):
        self._shared = encoder
        self._vector_dtype = vector_dtype

    def setup(self) -> None:
        self._encoder = self._shared.acquire()
        device = self._encoder.encoder.device
        self._in_flight = policy.threads(cores=available_cores(), device=device).in_flight
        self._threads = _model_threads(self._in_flight)
        self._queue: collections.deque[Any] = collections.deque()
        self._waiting = 0  # mini-batches in the queue, and batches of nothing but dead letters

    def start_bundle(self) -> None:
        self._give_up()  # what a bundle that failed has left

    def process(self, batch: list[Any]) -> Iterator[Any]:
        runs = [element for element in batch if isinstance(element, Run)]
        if runs:
            work = (self._encoder, runs, self._vector_dtype, time.monotonic())
            self._queue.append(self._threads.submit(embed_mini_batch, *work))
            self._waiting += 1
        # Dead letters and markers wait their turn: a marker must come after its shard's vectors.
        others = [element for element in batch if not isinstance(element, Run)]
        if runs or not isinstance(batch[0], DeadLetters):
            self._queue.extend(others)
        else:  # nothing else bounds how many wait behind a mini-batch that takes long
            self._queue.append(others)
            self._waiting += 1
        yield from self._results(leave=self._in_flight + 1)

    def finish_bundle(self) -> Iterator[Any]:
        for element in self._results(leave=0):
            yield at_origin(element)

    def teardown(self) -> None:
        if hasattr(self, "_queue"):  # there is none if the model could not be loaded
            self._give_up()

    def _give_up(self) -> None:
        for entry in self._queue:
            if isinstance(entry, Future):
                entry.cancel()
        self._queue.clear()
        self._waiting = 0

    def _results(self, *, leave: int) -> Iterator[Any]:
        """Yields what is ready at the head of the queue; waits only while more than `leave` are at work."""
        queue = self._queue
        while queue:
            head = queue[0]
            if isinstance(head, Future):
                if not head.done() and self._waiting <= leave:
                    return
                self._waiting -= 1
                queue.popleft()
                yield head.result()
            elif isinstance(head, list):
                self._waiting -= 1
                queue.popleft()
                yield from head
            else:
                yield queue.popleft()


@dataclasses.dataclass(eq=False)
class EmbedMiniBatches(beam.PTransform):
    """Mini-batches of runs -> EmbeddedBatch; dead letters and end-of-shard markers pass, in order."""

    encoder: SharedEncoder
    vector_dtype: str = "float32"

    def expand(self, mini_batches: beam.PCollection) -> beam.PCollection:
        return mini_batches | beam.ParDo(_EmbedFn(self.encoder, self.vector_dtype)).with_output_types(Element)
