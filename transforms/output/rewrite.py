"""A shard's files without some of their documents: new files under the same names, and a receipt of them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transforms.elements import ShardReceipt
from transforms.output import layout
from transforms.output.damaged import reading
from transforms.output.folder import to_json
from transforms.output.forgotten import Gone
from transforms.output.pending import PendingFile
from transforms.output.reader import Output, open_output
from transforms.storage.files import open_read

if TYPE_CHECKING:
    import pyarrow as pa

_RECORDS = 1024  # of a TFRecord file at once: whole texts
_LETTER_BYTES = 1 << 22
_Create = Callable[[str], PendingFile]


def rewrite(
    output: Output, receipt: ShardReceipt, gone: Gone, still: Callable[[], bool] = lambda: True
) -> None:
    """Takes documents out of a committed shard: new dead letters, then a new part, then a receipt of all.

    What stays is as it was: the same rows in the same order, bit for bit, and the same lines. Each file is a
    new one that takes the old one's name at once; an old one that has other names (hard links) is left alone.
    A part without rows is a valid file. The new receipt's counts are those of what is there, `forgotten` what
    is missing. Where this was killed in its midst, doing it again ends it. Memory: a row group.

    Args:
      still: asked when all is written and nothing has its name yet; if it says no, nothing is changed.
    """
    folder = output.folder
    with contextlib.ExitStack() as stack:

        def create(name: str) -> PendingFile:
            pending = folder.create(name)
            stack.callback(pending.discard)
            return pending

        letters, dead = _letters(output, receipt, gone, create)
        left_out, kept_out = _left_out(output, receipt, gone, create)
        kept, part = _Kept(chunks=output.schema.chunks), None
        if receipt.part is not None:
            part = create(receipt.part)
            copy = _copy_parquet if output.format == "parquet" else _copy_tfrecord
            copy(output, receipt.part, gone, kept, part)
        made = dataclasses.replace(
            receipt,
            rows=kept.rows,
            dead_letters=dead,
            forgotten=receipt.documents - kept.documents - kept_out - sum(dead.values()),
            left_out=kept_out,
            left_out_sha256=left_out.sha256() if left_out and kept_out else None,
            tokens=None if receipt.tokens is None else kept.tokens,
            tokens_dropped=None if receipt.tokens_dropped is None else kept.dropped,
            part_bytes=part.bytes if part else 0,
            part_sha256=part.sha256() if part else None,
            dead_letters_sha256=letters.sha256() if letters and dead else None,
            reused=min(receipt.reused, kept.documents),  # which ones were is not known
            copied=min(receipt.copied, kept.documents),
        )
        new = create(layout.receipt(receipt.shard_id))
        new.write(to_json(made))
        if not still():
            return
        for pending in filter(None, (letters, left_out, part, new)):
            pending.commit()
    if not dead:  # only now: a reader that has the old receipt opens it
        folder.delete(layout.dead_letters(receipt.shard_id))
    if not kept_out:
        folder.delete(layout.duplicates(receipt.shard_id))


@dataclasses.dataclass
class _Kept:
    """Counts of the rows that stay."""

    chunks: bool
    rows: int = 0
    documents: int = 0
    tokens: int = 0
    dropped: int = 0

    @property
    def columns(self) -> list[str]:
        return ["doc_id", "tokens", "tokens_dropped", *(["chunk"] if self.chunks else [])]

    def add(self, rows: pa.RecordBatch) -> None:
        import pyarrow.compute as pc

        self.rows += len(rows)
        first = pc.sum(pc.equal(rows.column("chunk"), 0)).as_py() if self.chunks else len(rows)
        self.documents += first or 0
        self.tokens += pc.sum(rows.column("tokens")).as_py() or 0
        self.dropped += pc.sum(rows.column("tokens_dropped")).as_py() or 0


def _copy_parquet(output: Output, name: str, gone: Gone, kept: _Kept, file: Any) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from transforms.output.sinks.parquet import ParquetSink

    with open_read(output.folder.join(name)) as f:
        metadata = pq.read_schema(f).metadata or {}
    sink = ParquetSink(file, output.schema, {key.decode(): value.decode() for key, value in metadata.items()})
    for block in output.part(name):
        rows = block.filter(pc.invert(gone(block.column("doc_id"))))
        kept.add(rows)
        sink.write(rows)
    sink.close()


def _copy_tfrecord(output: Output, name: str, gone: Gone, kept: _Kept, file: Any) -> None:
    """Copies records as they are: what was lost when they were written is lost once."""
    import pyarrow.compute as pc

    from transforms.formats.tfrecord import frame, records
    from transforms.output.examples import columns_of

    # As the sink compresses them.
    packed = gzip.GzipFile("", "wb", 6, file, mtime=0) if name.endswith(".gz") else None
    target: Any = packed or file
    schema = output.arrow.empty_table().select(kept.columns).schema
    found = records(output.folder.join(name), name)
    while block := list(itertools.islice(found, _RECORDS)):
        rows = columns_of(block, schema)
        stays = pc.invert(gone(rows.column("doc_id")))
        kept.add(rows.filter(stays))
        target.write(b"".join(frame(one) for one, yes in zip(block, stays.to_pylist(), strict=True) if yes))
    if packed:
        packed.close()


def _letters(
    output: Output, receipt: ShardReceipt, gone: Gone, create: _Create
) -> tuple[PendingFile | None, dict[str, int]]:
    """Writes the dead letters that stay, if there were any. Returns their file, and counts by reason."""
    if not receipt.dead_letters:
        return None, {}
    pending, dead = create(layout.dead_letters(receipt.shard_id)), collections.Counter[str]()
    for lines, letters, doc_ids in letter_blocks(output, receipt):
        for line, letter, out in zip(lines, letters, gone(doc_ids).to_pylist(), strict=True):
            if not out:
                dead[_kind(letter["reason"], receipt.dead_letters)] += 1
                pending.write(line)
    return pending, dict(sorted(dead.items()))


def _left_out(
    output: Output, receipt: ShardReceipt, gone: Gone, create: _Create
) -> tuple[PendingFile | None, int]:
    """Writes what is left out and stays; of those whose kept document is gone nobody is told any more whose
    they are. Returns the file, and how many there are."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not receipt.left_out:
        return None, 0
    rows = left_out_rows(output, receipt)
    rows = rows.filter(pc.invert(gone(rows["doc_id"].combine_chunks())))
    of = rows["of"].combine_chunks()
    of = pc.if_else(gone(of), pa.scalar(None, pa.string()), of)
    pending = create(layout.duplicates(receipt.shard_id))
    pq.write_table(rows.set_column(rows.schema.get_field_index("of"), "of", of), pending, compression="zstd")
    return pending, len(rows)


def left_out_rows(output: Output, receipt: ShardReceipt) -> pa.Table:
    """A shard's documents that are left out: doc_id, source, position, of, similarity."""
    import pyarrow.parquet as pq

    name = layout.duplicates(receipt.shard_id)
    with reading(output.folder, name), open_read(output.folder.join(name)) as file:
        return pq.read_table(file)


def left_out_of_dead(path: str, receipts: Sequence[ShardReceipt]) -> int:
    """How many documents are left out for one that is a dead letter: no row says what they say."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with_copies = [receipt for receipt in receipts if receipt.left_out]
    if not with_copies or not any(receipt.dead_letters for receipt in receipts):
        return 0
    output = open_output(path)
    dead = pa.array([letter.doc_id for letter in output.dead_letters(receipts)], pa.string())
    owners = (left_out_rows(output, receipt)["of"] for receipt in with_copies)
    return sum(pc.sum(pc.is_in(of, dead, skip_nulls=True)).as_py() or 0 for of in owners)


def letter_blocks(
    output: Output, receipt: ShardReceipt
) -> Iterator[tuple[list[bytes], list[dict[str, Any]], pa.Array]]:
    """A shard's dead letters in blocks: their lines, what these say, and their documents' ids."""
    import pyarrow as pa

    if not receipt.dead_letters:
        return
    name = layout.dead_letters(receipt.shard_id)
    with reading(output.folder, name), open_read(output.folder.join(name)) as file:
        while lines := file.readlines(_LETTER_BYTES):
            letters = [json.loads(line) for line in lines]
            # The name of a file, which may be an id, need not be UTF-8.
            ids = (letter["doc_id"].encode("utf-8", "backslashreplace").decode() for letter in letters)
            yield lines, letters, pa.array(ids, pa.string())


def _kind(reason: str, kinds: Mapping[str, int]) -> str:
    """Which of a receipt's kinds a letter's reason begins with; a kind may hold a colon."""
    fitting = [kind for kind in kinds if reason == kind or reason.startswith(f"{kind}: ")]
    return max(fitting, key=len, default=reason.partition(": ")[0])
