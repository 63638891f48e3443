"""Which documents of a job are copies of which: a file for each shard, committed before any is embedded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from transforms.output import layout
from transforms.output.folder import Folder

# Of a document's fingerprint both halves; of the one that is kept the same, its shard, place and id; and how
# alike they are.
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.uint64()) for name in ("high", "low", "of_high", "of_low", "of_shard")),
        pa.field("of_index", pa.int64()),
        pa.field("of", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)


def write_copies(folder: Folder, shard_id: str, copies: pa.Table) -> None:
    """Notes which documents of a shard are copies, or have copies, by their fingerprints: rows of SCHEMA."""
    copies = copies.cast(SCHEMA).sort_by([("high", "ascending"), ("low", "ascending")])
    folder.write(layout.copies(shard_id), to_bytes(copies))


def read_copies(folder: Folder, shard_id: str) -> pa.Table:
    """What is noted of a shard, sorted by fingerprint; no rows where nothing is."""
    data = folder.read(layout.copies(shard_id))
    return SCHEMA.empty_table() if data is None else from_bytes(data).combine_chunks()


def to_bytes(rows: pa.Table) -> bytes:
    """Rows in Arrow's stream format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """The inverse of `to_bytes`."""
    return pa.ipc.open_stream(data).read_all()


def keys(copies: pa.Table) -> np.ndarray:
    """The fingerprints, uint64 [2, n], as an index has them."""
    return np.stack([copies[name].to_numpy() for name in ("high", "low")])
