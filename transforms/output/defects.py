"""Every defect of an output folder, found by reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transforms.elements import ShardReceipt
from transforms.errors import LedgerError
from transforms.output import layout, ledger
from transforms.output.manifest import read as read_manifest
from transforms.output.reader import Output, as_matrix
from transforms.storage.files import open_read

if TYPE_CHECKING:
    import pyarrow as pa


def find_defects(output: Output) -> Iterator[str]:
    """Yields defects: bytes that changed, counts that differ, ids twice, vectors that are no numbers, strays.

    Files are read in blocks; what grows with the output are eight bytes a row.
    """
    receipts: dict[str, ShardReceipt] = {}
    broken: set[str] = set()  # receipts that cannot be read, or are another job's
    for shard_id in sorted(output.folder.shards(layout.RECEIPTS)):
        try:
            receipt = ledger.read_receipt(output.folder, shard_id)
        except LedgerError as e:
            broken.add(shard_id)
            yield str(e)
            continue
        if receipt is not None and receipt.job == output.plan.job:
            receipts[shard_id] = receipt
        elif receipt is not None:
            broken.add(shard_id)
            yield f"{layout.receipt(shard_id)}: is of another job ({receipt.job}); run the job again"
    planned = {shard.shard_id for shard in output.plan.shards}
    yield from _unfinished(output, planned, receipts, broken)
    yield from _strays(output, receipts.values(), (planned | broken) - receipts.keys())
    keys: list[np.ndarray] = []
    sound: list[ShardReceipt] = []
    for receipt in receipts.values():
        yield from _check_letters(output, receipt)
        if receipt.part is None:
            if receipt.rows:
                yield f"receipt {receipt.shard_id}: {receipt.rows} rows, but no part file"
            continue
        try:
            if (yield from _check_part(output, receipt, keys)):
                sound.append(receipt)
        except LedgerError as e:
            yield str(e)
        except Exception as e:  # a part that no reader can open is a defect, whatever it raises
            yield f"{receipt.part}: cannot be read: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
    yield from _duplicates(output, sound, keys)


def _unfinished(
    output: Output, planned: set[str], receipts: dict[str, ShardReceipt], broken: set[str]
) -> Iterator[str]:
    missing = sorted(planned - receipts.keys() - broken)
    if missing:
        count = f"{len(missing)} of {len(planned)} shards"
        yield f"{count} are not committed, e.g. no {layout.receipt(missing[0])}; run the job again"
    for shard_id in sorted(receipts.keys() - planned):
        yield f"receipt {shard_id}: its shard is not in the plan"
    if missing or broken:
        return  # neither _SUCCESS nor the manifest can be right
    manifest = read_manifest(output.folder)
    if output.folder.read(layout.SUCCESS) is None:
        yield "no _SUCCESS: the job has not finished"
    elif manifest is None:
        yield f"{layout.MANIFEST}: missing or unreadable, though there is _SUCCESS"
    elif manifest.job != output.plan.job:
        yield f"{layout.MANIFEST}: is of another job ({manifest.job}); run the job again"
    elif manifest.rows != sum(r.rows for r in receipts.values()):
        yield f"manifest: {manifest.rows} rows, receipts: {sum(r.rows for r in receipts.values())}"


def _strays(output: Output, receipts: Iterable[ShardReceipt], uncommitted: set[str]) -> Iterator[str]:
    """Files that no receipt knows; those of a shard without a receipt go with that one defect."""
    receipts = list(receipts)
    known = {r.part for r in receipts} | {layout.dead_letters(r.shard_id) for r in receipts if r.dead_letters}
    folder = output.folder
    letters = (f"{layout.DEAD_LETTERS}/{name}" for name in folder.names(layout.DEAD_LETTERS))
    for name in sorted({*folder.names(), *letters} - known - {layout.SUCCESS}):
        if layout.shard_of_part(name.rsplit("/", 1)[-1]) not in uncommitted:
            yield f"{name}: no receipt knows this file"


def _check_letters(output: Output, receipt: ShardReceipt) -> Iterator[str]:
    count = sum(receipt.dead_letters.values())
    if not count:
        return
    name = layout.dead_letters(receipt.shard_id)
    found = output.folder.sha256(name)
    if found is None:
        yield f"{name}: missing; the receipt says {count} dead letters"
    elif found[0] != receipt.dead_letters_sha256:
        yield f"{name}: checksum differs from the receipt's"
    elif (lines := _lines(output.folder.join(name))) != count:
        yield f"{name}: {lines} lines, the receipt says {count}"


def _lines(path: str) -> int:
    with open_read(path) as f:
        return sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))


def _check_part(output: Output, receipt: ShardReceipt, keys: list[np.ndarray]) -> Generator[str, None, bool]:
    """Yields a part's defects and returns whether its rows can be read; collects the keys of its rows."""
    name = receipt.part or ""
    found = output.folder.sha256(name)
    if found is None:
        yield f"{name}: missing; the receipt says {receipt.rows} rows"
        return False
    if found[1] != receipt.part_bytes:
        yield f"{name}: {found[1]} bytes, the receipt says {receipt.part_bytes}"
        return False
    if found[0] != receipt.part_sha256:
        yield f"{name}: checksum differs from the receipt's"
        return False
    rows = 0
    for block in output.part(name, [*_id_columns(output), "embedding"]):
        rows += block.num_rows
        keys.append(_keys(block))
        vectors = as_matrix(block.column("embedding"))
        if vectors.shape[1] != output.dim:
            yield f"{name}: vectors of {list(vectors.shape[1:])} numbers, the plan says {output.dim}"
            return False
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            doc_id = block.column("doc_id")[int(bad[0])].as_py()
            yield f"{name}: {len(bad)} vectors with NaN or infinity, e.g. of {doc_id!r}"
    if rows != receipt.rows:
        yield f"{name}: {rows} rows, the receipt says {receipt.rows}"
    return True


def _id_columns(output: Output) -> list[str]:
    return ["doc_id", "chunk"] if output.schema.chunks else ["doc_id"]


def _ids(block: pa.RecordBatch) -> list[tuple[str, int]]:
    """(doc_id, chunk) of each row."""
    ids = block.column("doc_id").to_pylist()
    chunks = block.column("chunk").to_pylist() if "chunk" in block.schema.names else [0] * len(ids)
    return list(zip(ids, chunks, strict=True))


def _keys(block: pa.RecordBatch) -> np.ndarray:
    """Eight bytes for the id of each row."""
    keys = [_key(row) for row in _ids(block)]
    return np.frombuffer(b"".join(keys), np.uint64)


def _key(row: tuple[str, int]) -> bytes:
    return hashlib.blake2b(f"{row[0]}\0{row[1]}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _duplicates(
    output: Output, receipts: Sequence[ShardReceipt], keys: Sequence[np.ndarray]
) -> Iterator[str]:
    """Rows whose id is there twice: first by hash, eight bytes a row, then by the ids themselves."""
    if not keys:
        return
    values, counts = np.unique(np.concatenate(keys), return_counts=True)
    suspects = values[counts > 1]
    if not len(suspects):
        return
    seen: dict[tuple[str, int], str] = {}
    for receipt in receipts:
        for block in output.part(receipt.part or "", _id_columns(output)):
            ids = _ids(block)
            for at in np.flatnonzero(np.isin(_keys(block), suspects)).tolist():
                row = ids[at]
                if row in seen:
                    chunk = f" chunk {row[1]}" if output.schema.chunks else ""
                    yield f"{receipt.part}: id {row[0]!r}{chunk} is in {seen[row]} already"
                seen.setdefault(row, receipt.part or "")
