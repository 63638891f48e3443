"""Where the fingerprints of an output are: a sorted index beside its receipts, mapped into memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from transforms.elements import ShardReceipt
from transforms.output import layout
from transforms.output.buckets import Buckets
from transforms.output.ledger import contents
from transforms.output.pending import committing, temporary_folder
from transforms.output.reader import Output
from transforms.storage.files import copy_here

if TYPE_CHECKING:
    import pyarrow as pa

# The rows of the index: two halves of a fingerprint, the id of the shard that has the document, and its span.
HIGH, LOW, SHARD, SPAN = range(4)
_ROWS = 24  # bits of a span for the number of rows; the others are the place of the first row in its part
_BLOCK = 65_536


def index_of(output: Output) -> np.ndarray:
    """Of each committed document its fingerprint and its rows, uint64 [4, documents], by fingerprint.

    Part files that are damaged are left out. It is made once and kept in the output, for the part files that
    are there: of others it has another name. Where one is damaged, or nothing can be written into the output,
    it is made for this process alone.
    """
    if not output.count:
        return np.zeros((4, 0), np.uint64)  # no file can be mapped that is empty
    name = f"{layout.FINGERPRINTS}-{contents(output.receipts)}.npy"
    if output.folder.local and os.path.exists(output.folder.join(name)):
        return _mapped(output.folder.join(name))
    with temporary_folder("fingerprints") as folder:
        path = f"{folder}/index.npy"
        try:
            if output.folder.local:
                raise FileNotFoundError
            copy_here(output.folder.join(name), path)
        except FileNotFoundError:
            if _build(output, path) == output.receipts:
                _keep(output, name, path)
        return _mapped(path)  # the file lives as long as its mapping


def find(index: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Columns of an index that have these fingerprints, int64 [n]; -1 where there is none.

    Of several documents with the same fingerprint, the first by id of its shard and place there.
    """
    count = index.shape[1]
    at = np.searchsorted(index[HIGH], high)
    while True:  # two fingerprints hardly ever share their first half
        inside = np.minimum(at, max(count - 1, 0))
        same = (at < count) & (index[HIGH][inside] == high) if count else np.zeros(len(at), bool)
        further = same & (index[LOW][inside] < low) if count else same
        if not further.any():
            break
        at[further] += 1
    found = same & (index[LOW][inside] == low) if count else same
    return np.where(found, at, -1)


def release(index: np.ndarray) -> None:
    """Gives back the pages of a mapped index that were looked at, which count as this process's memory.

    They come back from the page cache, at half a microsecond a document.
    """
    mapping = getattr(index.base, "base", None)
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def span(firsts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where documents lie in their part, uint64 [n]: place of the first row, and how many there are."""
    return firsts.astype(np.uint64) << np.uint64(_ROWS) | rows.astype(np.uint64)


def unspan(spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `span`, int64 [n] each."""
    return (spans >> np.uint64(_ROWS)).astype(np.int64), (spans & np.uint64((1 << _ROWS) - 1)).astype(
        np.int64
    )


def halves(fingerprints: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints as two numbers each, whose order is that of the bytes."""
    data = np.frombuffer(fingerprints.buffers()[1] or b"", np.uint8)
    begin, end = (16 * i for i in (fingerprints.offset, fingerprints.offset + len(fingerprints)))
    numbers = data[begin:end].view(">u8").astype(np.uint64).reshape(-1, 2)
    return numbers[:, 0].copy(), numbers[:, 1].copy()


def is_sound(output: Output, receipt: ShardReceipt) -> bool:
    """Whether there is a part file and it is, byte for byte, what the receipt says."""
    return receipt.part is not None and output.folder.sha256(receipt.part) == (
        receipt.part_sha256,
        receipt.part_bytes,
    )


def _mapped(path: str) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r"))


def _build(output: Output, path: str) -> tuple[ShardReceipt, ...]:
    """Writes the index; returns the receipts of what is in it. Memory: one bucket."""
    documents = Buckets(os.path.dirname(path), "documents", 4)
    whole = tuple(one for one in output.receipts if one.part is None or is_sound(output, one))
    for receipt in whole:
        for block in documents_of(output, receipt):
            documents.add(*block)
    made = np.lib.format.open_memmap(path, "w+", np.uint64, (4, documents.count))
    at = 0
    for some in documents.in_order():
        made[:, at : at + some.shape[1]] = some
        at += some.shape[1]
    made.flush()
    return whole


def documents_of(output: Output, receipt: ShardReceipt) -> Iterator[np.ndarray]:
    """The documents of a part in blocks, as columns of the index, in order."""
    columns = ["fingerprint", *(["chunk"] if output.schema.chunks else [])]
    shard, place = np.uint64(int(receipt.shard_id, 16)), 0
    held: list[tuple[np.ndarray, ...]] = []  # chunks of a document may lie in two blocks
    for rows in output.part(receipt.part, columns, block_rows=_BLOCK) if receipt.part else ():
        high, low = halves(rows.column(0))
        firsts = np.arange(place, place + len(rows))
        place += len(rows)
        if output.schema.chunks:
            begins = rows.column(1).to_numpy(zero_copy_only=False) == 0
            held.append((high[begins], low[begins], firsts[begins]))
        else:
            spans = span(firsts, np.ones(len(rows)))
            yield np.stack([high, low, np.full(len(rows), shard), spans])
    if held:
        high, low, firsts = (np.concatenate(column) for column in zip(*held, strict=True))
        spans = span(firsts, np.diff(firsts, append=place))
        yield np.stack([high, low, np.full(len(firsts), shard), spans])


def _keep(output: Output, name: str, path: str) -> None:
    """Puts the index into the output, if that can be written to; older ones go."""
    with contextlib.suppress(OSError):
        with open(path, "rb") as made, committing(output.folder.create(name)) as pending:
            shutil.copyfileobj(made, pending, 1 << 20)
        old = os.path.basename(layout.FINGERPRINTS)
        output.folder.delete_files(
            layout.STATE, lambda one: one.startswith(old) and f"{layout.STATE}/{one}" != name
        )
