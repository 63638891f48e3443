"""What mini-batches cost: gathered on the way to the writer, and told to Beam's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.metrics import Metrics

from transforms.blocks import EmbeddedBatch, MiniBatches
from transforms.elements import EndOfShard, ShardFailed
from transforms.observer import MiniBatchDone

# Mini-batches whose cost travels together: a shard may have millions.
_AT_ONCE = 512
NAMESPACE = "embedbeam"


class MiniBatchMetrics:
    """A trace's numbers as Beam's metrics, which any runner shows; told in the thread of a DoFn.

    Distributions, of whole numbers: chunks, tokens, padding_permille, milliseconds in the model (model_ms)
    and before it (wait_ms). Counters: mini_batches, retries.
    """

    def __init__(self) -> None:
        names = ("chunks", "tokens", "padding_permille", "model_ms", "wait_ms")
        self._distributions = [Metrics.distribution(NAMESPACE, name) for name in names]
        self._mini_batches = Metrics.counter(NAMESPACE, "mini_batches")
        self._retries = Metrics.counter(NAMESPACE, "retries")

    def tell(self, done: MiniBatchDone) -> None:
        values = (
            done.chunks,
            done.tokens,
            round(1000 * done.padding),
            round(1000 * done.seconds),
            round(1000 * done.waited),
        )
        for distribution, value in zip(self._distributions, values, strict=True):
            distribution.update(value)
        self._mini_batches.inc()
        self._retries.inc(done.retries)


class Timing:
    """Follows the results of the embedding step, in their order."""

    def __init__(self, *, trace: bool):
        self._metrics = MiniBatchMetrics() if trace else None
        self._done: list[MiniBatchDone] = []

    def follow(self, results: Iterable[Any]) -> Iterator[Any]:
        """The results, and before a shard's marker what its mini-batches cost."""
        for element in results:
            if isinstance(element, EmbeddedBatch) and element.done is not None:
                yield from self._take(element, element.done)
            elif isinstance(element, EndOfShard):
                yield from self._release(element.shard_id)
            elif isinstance(element, ShardFailed):
                self.drop()
            yield element

    def drop(self) -> None:
        """Forgets what a bundle that failed has left."""
        self._done.clear()

    def _take(self, batch: EmbeddedBatch, done: MiniBatchDone) -> Iterator[MiniBatches]:
        if self._metrics is not None:
            self._metrics.tell(done)
        if shard_id := batch.runs[0].window.documents.shard_id:  # a user's own pipeline has no shards
            self._done.append(done)
            if len(self._done) == _AT_ONCE:
                yield from self._release(shard_id)

    def _release(self, shard_id: str) -> Iterator[MiniBatches]:
        if self._done:
            yield MiniBatches(shard_id, tuple(self._done))
            self._done.clear()
