"""What receipts, traces and dead letters tell of how a job went."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from transforms.elements import DeadLetter, ShardReceipt
from transforms.output import layout
from transforms.output.reader import Output
from transforms.storage.files import open_read

_BINS = 60
_EXAMPLES = 3
_SHARDS = 24  # whose dead letters, and whose traces, are read at most
_MEASURED = ["chunks", "tokens", "cost", "seconds", "padding"]
_LETTERS = 500  # lines of a shard's dead letters that are read at most: each holds its whole record
_SHOWN = 1000  # characters of a record


@dataclasses.dataclass(frozen=True)
class Throughput:
    """How many rows (and tokens) a second, over time.

    Attributes:
      start, seconds: of the first bin, since the epoch; of a bin.
      rows, tokens: a second, of each bin; tokens are None where the model cannot count.
    """

    start: float
    seconds: float
    rows: np.ndarray
    tokens: np.ndarray | None


def throughput(receipts: Sequence[ShardReceipt]) -> Throughput | None:
    """Of each shard its rows are spread evenly over the time that the model worked on it."""
    done = [receipt for receipt in receipts if receipt.rows]
    if not done:
        return None
    ends = np.array([receipt.finished for receipt in done])
    begins = np.array([min(r.started, r.finished - r.model_span) for r in done])
    start, end = float(begins.min()), float(ends.max())
    count = max(1, min(_BINS, 2 * len(done)))
    edges = np.linspace(start, max(end, start + 1e-3), count + 1)
    width = float(edges[1] - edges[0])
    # Share of each shard's time that lies in each bin.
    inside = np.minimum(ends[:, None], edges[None, 1:]) - np.maximum(begins[:, None], edges[None, :-1])
    shares = np.clip(inside, 0, None) / np.maximum(ends - begins, 1e-9)[:, None]
    rows = np.array([receipt.rows for receipt in done], np.float64) @ shares / width
    known = [receipt.tokens for receipt in done if receipt.tokens is not None]
    tokens = np.array(known, np.float64) @ shares / width if len(known) == len(done) else None
    return Throughput(start, width, rows, tokens)


@dataclasses.dataclass(frozen=True)
class MiniBatches:
    """Of the mini-batches of some shards that were traced.

    Attributes:
      chunks, tokens, seconds: arrays [n].
      padding: share of all tokens given to the model that were padding, were each chunk as long as the
        longest of its mini-batch.
    """

    chunks: np.ndarray
    tokens: np.ndarray
    seconds: np.ndarray
    padding: float


def mini_batches(output: Output, receipts: Sequence[ShardReceipt]) -> MiniBatches | None:
    """Those that `embed --trace` noted; None where it was not given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    there = output.folder.names(layout.TRACE)
    names = [name for r in receipts if (name := layout.trace(r.shard_id)).rpartition("/")[2] in there]
    tables = []
    for name in names[:: max(1, len(names) // _SHARDS)][:_SHARDS]:
        with open_read(output.folder.join(name)) as f:
            tables.append(pq.read_table(f, columns=_MEASURED))
    if not tables:
        return None
    table = pa.concat_tables(tables)
    chunks, tokens, cost, seconds, padding = (column.to_numpy() for column in table.columns)
    if not len(chunks):
        return None
    tokens = np.where(tokens > 0, tokens, cost)
    given = tokens / np.clip(1 - padding, 1e-6, 1)
    return MiniBatches(chunks, tokens, seconds, float(1 - tokens.sum() / max(1.0, given.sum())))


def examples(output: Output, receipts: Sequence[ShardReceipt]) -> dict[str, list[DeadLetter]]:
    """Some dead letters of each reason, out of a few shards' files."""
    chosen: list[ShardReceipt] = []
    promised: dict[str, int] = {}
    for receipt in receipts:
        if len(chosen) < _SHARDS and any(promised.get(one, 0) < _EXAMPLES for one in receipt.dead_letters):
            chosen.append(receipt)
            for reason, count in receipt.dead_letters.items():
                promised[reason] = promised.get(reason, 0) + count
    found: dict[str, list[DeadLetter]] = {}
    for receipt in chosen:
        for letter in itertools.islice(output.dead_letters([receipt]), _LETTERS):
            listed = found.setdefault(letter.kind, [])
            if len(listed) < _EXAMPLES:
                listed.append(dataclasses.replace(letter, payload=(letter.payload or "")[:_SHOWN]))
            if all(len(found.get(reason, ())) >= _EXAMPLES for reason in receipt.dead_letters):
                break
    return found
