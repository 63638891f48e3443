"""One trial: a sample of the user's documents through the job's own chain, timed, in a process of trials."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import statistics
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.options.options import Options
from pipeline.plan.kept import take_sample
from pipeline.plan.plan import make_plan, read_options
from pipeline.tune.search import Setting, Trial
from transforms.blocks import DocumentBlock
from transforms.elements import Element, EndOfShard, Slice
from transforms.encoder.config import ModelConfig
from transforms.encoder.policy import Threads
from transforms.errors import BadFileError, UsageError
from transforms.formats.slices import read_slice
from transforms.modality import Modality
from transforms.observer import Event, MiniBatchBegun, MiniBatchDone, observe
from transforms.steps.chain import EmbedBlocks
from transforms.steps.config import EmbedConfig
from transforms.steps.documents import Gathered, document_columns
from transforms.steps.encoder import SharedEncoder

if TYPE_CHECKING:
    from transforms.encoder.hub import HubEncoder

_SEED = 20
# A sample comes from so many places of the input, if there are so many; and is held in memory.
_PLACES, _MOST_BYTES = 64, 256 << 20
_sample: list[DocumentBlock] = []  # of this process; what a pipeline is made of is pickled


class _Times:
    """Hears of the mini-batches of one trial."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.first = self.last = 0.0
        self.done: list[MiniBatchDone] = []

    def hear(self, event: Event) -> None:
        now = time.monotonic()
        with self._lock:
            if isinstance(event, MiniBatchBegun):
                self.first = self.first or now
            elif isinstance(event, MiniBatchDone):
                self.last = now
                self.done.append(event)


def draw_sample(options: Options, of: Modality, wanted: int) -> int:
    """Reads about so many documents from all over the input, the same in every process.

    Returns:
      How many there are.

    Raises:
      UsageError: none can be read.
    """
    plan = make_plan(options, of)
    slices = [piece for shard in plan.shards for piece in shard.slices]
    random.Random(_SEED).shuffle(slices)
    most = -(-wanted // _PLACES)
    while True:
        _sample[:] = _read(slices, options, of, wanted, most)
        found = sum(block.columns.num_rows for block in _sample)
        if found >= wanted or most >= wanted:
            break
        # Some places are short. The others give as much more as is needed, so that it comes from all of them.
        most = min(wanted, max(-(-most * wanted // max(1, found)), most + most // 2 + 1))
    if not found:
        take_sample(plan, options, of)  # which says it where a field is not there
        raise UsageError(f"input {' '.join(options.input)}: no document to try", argument="input")
    return found


def _read(
    slices: list[Slice], options: Options, of: Modality, wanted: int, most: int
) -> Iterator[DocumentBlock]:
    """Blocks of the first `most` records of slices, until there are enough; bad files are left out."""
    gathered, reading = Gathered("sample"), dataclasses.replace(read_options(options, of), keep_fields=())
    found = size = 0
    for piece in slices:
        limit = min(filter(None, (most, piece.limit, wanted - found)))
        with contextlib.suppress(BadFileError):
            for raw in read_slice(dataclasses.replace(piece, limit=limit), reading):
                batch, _ = document_columns(raw, piece, reading, of, index=found, key=b"")
                yield from gathered.add(batch, raw.size)
                found += batch.num_rows
                size += raw.size
        if found >= wanted or size >= _MOST_BYTES:
            break
    yield from gathered.rest()


def _documents(_: Any) -> Iterator[Element]:
    yield from _sample
    yield EndOfShard("sample", sum(block.columns.num_rows for block in _sample))


def run_trial(options: Options, loaded: HubEncoder, setting: Setting) -> Trial:
    """Sends the sample through the chain.

    Raises:
      EmbedbeamError: the model is at fault, or has refused every document.
    """
    loaded.threads = Threads(setting.in_flight, setting.intra_op)
    encoder = SharedEncoder(ModelConfig(options.model))
    encoder.keep(loaded)
    config = EmbedConfig(
        mode=options.long_documents,
        overlap=options.chunk_overlap,
        max_tokens=options.max_tokens,
        batch_tokens=setting.batch_tokens,
    )
    times = _Times()
    end = observe(times.hear)
    reset_peak(loaded.device)
    try:
        with beam.Pipeline(runner=FnApiRunner()) as root:
            _ = (
                root
                | beam.Impulse()
                | "Sample" >> beam.FlatMap(_documents).with_output_types(Element)
                | EmbedBlocks(encoder, config)
                | "Forget" >> beam.Filter(lambda _: False)
            )
    finally:
        end()
    if not times.done:
        raise UsageError(f"input {' '.join(options.input)}: no document to try", argument="input")
    seconds = sorted(one.seconds for one in times.done)
    span = sum(one.span for one in times.done)
    return Trial(
        seconds=max(times.last - times.first, 1e-9),
        tokens=sum(one.tokens for one in times.done) or sum(one.cost for one in times.done),
        documents=sum(block.columns.num_rows for block in _sample),
        mini_batches=len(seconds),
        median=statistics.median(seconds),
        p95=seconds[-(-95 * len(seconds) // 100) - 1],
        waited=sum(one.idle for one in times.done) / span if span else 0.0,
        peak_bytes=peak(loaded.device),
        ran_out=encoder.acquire().ran_out,
    )


def reset_peak(device: str) -> None:
    """From here on `peak` is counted."""
    if device == "GPU":
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as f:
        f.write("5")


def peak(device: str) -> int:
    """Bytes that were held at most: of a GPU, or of this process."""
    if device == "GPU":
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    try:
        with open("/proc/self/status") as f:
            found = re.search(r"VmHWM:\s+(\d+) kB", f.read())
    except OSError:
        found = None
    if found:
        return int(found[1]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
