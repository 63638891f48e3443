"""Mini-batches through the model, a few in flight, results in order."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import observer
from transforms.blocks import Aside, EmbeddedBatch, Run
from transforms.elements import Element
from transforms.encoder import policy
from transforms.encoder.device import available_cores
from transforms.encoder.robust import Prepared, RobustEncoder
from transforms.modality import Modality
from transforms.modality.tokens import lists
from transforms.output.schema import FLOAT16_MAX
from transforms.steps.behind import Behind
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder
from transforms.steps.step import at_origin
from transforms.steps.timing import Timing

_BEYOND = ("beyond float16", f"a number above {FLOAT16_MAX:.0f}; use vector_dtype=float32")


def payloads_of(runs: Sequence[Run], modality: Modality) -> Sequence[Any]:
    """What is embedded of some runs, one by one: payloads, or their token ids where those are known.

    An Arrow array where payloads are columns.
    """
    if modality.columnar:
        return pa.concat_arrays([run.window.payloads.take(pa.array(run.chunks)) for run in runs])
    if not modality.cuts_late:
        return [value for run in runs for value in _values(run, modality)]
    made = []
    for run in runs:
        window, documents = run.window, run.window.documents.payloads
        spans = np.stack([window.owners, window.starts, window.ends])[:, run.chunks].T.tolist()
        made += [modality.cut(documents[owner].as_buffer(), start, end) for owner, start, end in spans]
    return made


def _values(run: Run, modality: Modality) -> Sequence[Any]:
    window, chunks = run.window, pa.array(run.chunks)
    if window.ids is None:
        return modality.values(window.payloads.take(chunks))
    ids = window.ids.take(chunks)
    values: list[Any] = lists(ids)
    if ids.null_count:
        unknown = np.flatnonzero(ids.is_null())
        texts = modality.values(window.payloads.take(pa.array(run.chunks[unknown])))
        for place, text in zip(unknown.tolist(), texts, strict=True):
            values[place] = text
    return values


def embed_mini_batch(
    encoder: RobustEncoder,
    runs: Sequence[Run],
    config: EmbedConfig = EmbedConfig(),  # noqa: B008  frozen
    *,
    prepared: Prepared | None = None,
    handed_over: float = 0.0,
) -> EmbeddedBatch:
    """Embeds a mini-batch.

    Args:
      runs: of one or two windows, a run a window.
      prepared: its payloads, where that was done beforehand.
      handed_over: when it was ready, in seconds of time.monotonic(), for observers.

    Raises:
      ModelError: the model itself is at fault.
    """
    if prepared is None:
        prepared = encoder.prepare(payloads_of(runs, encoder.encoder.modality))
    begun = time.monotonic()
    costs = np.concatenate([run.window.costs[run.chunks] for run in runs])
    observer.tell(observer.MiniBatchBegun())
    encoder.clock.begin()
    calls, clock = 0, time.time_ns()
    try:
        vectors, failures, calls = encoder.embed(prepared, costs.tolist())
    finally:
        tokens = [run.window.tokens[run.chunks].sum() for run in runs if run.window.tokens is not None]
        span, idle = encoder.clock.end()
        done = observer.MiniBatchDone(
            chunks=len(costs),
            tokens=int(sum(tokens)),
            cost=int(costs.sum()),
            padded=int(costs.max()) * len(costs),
            seconds=time.monotonic() - begun,
            waited=begun - handed_over,
            calls=calls,
            begun=clock,
            thread=threading.current_thread().name,
            device=encoder.encoder.device_name,
            span=span,
            idle=idle,
        )
        observer.tell(done)
    if config.vector_dtype == "float16":
        beyond = np.flatnonzero((np.abs(vectors) > FLOAT16_MAX).any(axis=1)).tolist()
        failures |= dict.fromkeys(beyond, _BEYOND)
    return EmbeddedBatch(tuple(runs), vectors, failures, done)


def together(runs: Sequence[Run]) -> list[Run]:
    """The runs of each window as one: their payloads are looked up, and their vectors placed, together."""
    windows = [list(same) for _, same in itertools.groupby(runs, key=lambda run: id(run.window))]
    return [
        Run(same[0].window, np.concatenate([run.chunks for run in same]), sum(run.cost for run in same))
        for same in windows
    ]


@functools.cache
def _threads(count: int, name: str) -> ThreadPoolExecutor:
    """The process's threads for the model: a runner may run many DoFn instances beside each other."""
    return ThreadPoolExecutor(count, thread_name_prefix=name)


@dataclasses.dataclass(eq=False)
class _EmbedFn(beam.DoFn):
    """Gives mini-batches to a few threads: while the model works, this thread reads, tokenizes and merges.

    One mini-batch more than the threads can work on is queued, so that none of them waits for this thread.
    """

    encoder: SharedEncoder
    config: EmbedConfig

    def setup(self) -> None:
        self._robust = self.encoder.acquire()
        cores, device = available_cores(), self._robust.encoder.device
        threads = self._robust.encoder.threads or policy.threads(cores=cores, device=device)
        self._fills = threads.fills(cores=cores, device=device)
        self._behind = Behind(_threads(threads.in_flight, "embed"), threads.in_flight + 1)
        self._timing = Timing(trace=self.config.trace)
        # Decoding goes on while the model works, and never waits behind it for a thread.
        self._preparing = (
            _threads(threads.in_flight + 1, "prepare") if self._robust.encoder.prepares else None
        )

    def start_bundle(self) -> None:
        self._behind.drop()  # what a bundle that failed has left
        self._timing.drop()
        self._robust.clock.open(self, self._fills)

    def process(self, batch: list[Any]) -> Iterator[Any]:
        runs = [element for element in batch if isinstance(element, Run)]
        others = [element for element in batch if not isinstance(element, Run)]
        if not runs:
            # Dead letters count as a mini-batch: nothing else bounds how many wait. A marker is alone.
            weight = int(isinstance(batch[0], Aside))
            return self._timing.follow(self._behind.put(others, weight=weight))
        return self._timing.follow(self._behind.do(self._work(together(runs), others), weight=1))

    def _work(self, runs: list[Run], others: list[Any]) -> Callable[[], list[Any]]:
        now, robust, config = time.monotonic(), self._robust, self.config
        if self._preparing is None:
            return lambda: [*others, embed_mini_batch(robust, runs, config, handed_over=now)]

        def prepare() -> tuple[Prepared, float]:
            return robust.prepare(payloads_of(runs, robust.encoder.modality)), time.monotonic()

        ready = self._preparing.submit(prepare)

        def work() -> list[Any]:
            prepared, since = ready.result()
            return [*others, embed_mini_batch(robust, runs, config, prepared=prepared, handed_over=since)]

        return work

    def finish_bundle(self) -> Iterator[Any]:
        yield from map(at_origin, self._timing.follow(self._behind.finish()))
        self._robust.clock.close(self)

    def teardown(self) -> None:
        if hasattr(self, "_behind"):  # there is none if the model could not be loaded
            self._behind.drop()


@dataclasses.dataclass(eq=False)
class EmbedMiniBatches(beam.PTransform):
    """Mini-batches of runs -> EmbeddedBatch; dead letters and end-of-shard markers pass, in order."""

    encoder: SharedEncoder
    config: EmbedConfig

    def expand(self, mini_batches: beam.PCollection) -> beam.PCollection:
        return mini_batches | beam.ParDo(_EmbedFn(self.encoder, self.config)).with_output_types(Element)
