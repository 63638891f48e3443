"""Every defect of an output folder, found by reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.elements import ShardReceipt
from transforms.errors import DamagedPart, LedgerError
from transforms.output import layout, ledger
from transforms.output.forgotten import begun, digest, under_way
from transforms.output.manifest import read as read_manifest
from transforms.output.reader import Output
from transforms.storage.files import open_read

if TYPE_CHECKING:
    import pyarrow as pa

Checked = tuple[list[str], np.ndarray]


def find_defects(
    output: Output, check: Callable[[Output, Sequence[ShardReceipt]], Iterator[Checked]] | None = None
) -> Iterator[str]:
    """Yields defects: bytes that changed, counts that differ, ids twice, vectors that are no numbers, strays.

    Documents that were forgotten and are there again, too. While some are being forgotten, that alone.

    Files are read in blocks; what grows with the output are eight bytes a row.

    Args:
      check: gives check_part of each of these shards, in their order, wherever it is done; None: here.
    """
    if begun(output.folder, output.plan.job) is not None:
        yield f"{layout.FORGET}: {under_way(output.folder)}"
        return
    receipts: dict[str, ShardReceipt] = {}
    broken: set[str] = set()  # receipts that cannot be read, or are another job's
    for shard_id in sorted(output.folder.shards(layout.RECEIPTS)):
        try:
            receipt = ledger.read_receipt(output.folder, shard_id)
            if receipt is not None and receipt.job != output.plan.job:
                name = layout.receipt(shard_id)
                raise LedgerError(f"{name}: is of another job ({receipt.job}); run the job again")
        except LedgerError as e:
            broken.add(shard_id)
            yield str(e)
            continue
        if receipt is not None:
            receipts[shard_id] = receipt
    planned = {shard.shard_id for shard in output.plan.shards}
    if missing := sorted(planned - receipts.keys() - broken):
        count = f"{len(missing)} of {len(planned)} shards"
        yield f"{count} are not committed, e.g. no {layout.receipt(missing[0])}; run the job again"
    for shard_id in sorted(receipts.keys() - planned):
        yield f"receipt {shard_id}: its shard is not in the plan"
    if not missing and not broken:
        yield from _unfinished(output, sum(receipt.rows for receipt in receipts.values()))
    yield from _strays(output, receipts.values(), (planned | broken) - receipts.keys())
    with_part = []
    for receipt in receipts.values():
        yield from _check_letters(output, receipt)
        if receipt.left_out:
            name, holds = (
                layout.duplicates(receipt.shard_id),
                f"{receipt.left_out} documents that are left out",
            )
            if defect := _defect(output, name, receipt.left_out_sha256, holds):
                yield defect
        if receipt.part is not None:
            with_part.append(receipt)
        elif receipt.rows:
            yield f"receipt {receipt.shard_id}: {receipt.rows} rows, but no part file"
    keys: dict[str, np.ndarray] = {}
    here = (check_part(output, receipt) for receipt in with_part)
    checked = here if check is None else check(output, with_part)
    for receipt, (defects, found) in zip(with_part, checked, strict=True):
        yield from defects
        if len(found):
            keys[receipt.part or ""] = found
    yield from _duplicates(output, keys)


def _unfinished(output: Output, rows: int) -> Iterator[str]:
    """What is wrong with the end of a job whose shards are all committed."""
    manifest = read_manifest(output.folder)
    if output.folder.read(layout.SUCCESS) is None:
        yield "no _SUCCESS: the job has not finished"
    elif manifest is None:
        yield f"{layout.MANIFEST}: missing or unreadable, though there is _SUCCESS"
    elif manifest.job != output.plan.job:
        yield f"{layout.MANIFEST}: is of another job ({manifest.job}); run the job again"
    elif manifest.rows != rows:
        yield f"manifest: {manifest.rows} rows, receipts: {rows}"


def _strays(output: Output, receipts: Collection[ShardReceipt], uncommitted: set[str]) -> Iterator[str]:
    """Files that no receipt knows; those of a shard without a receipt go with that one defect."""
    known = {r.part for r in receipts} | {layout.dead_letters(r.shard_id) for r in receipts if r.dead_letters}
    known |= {layout.duplicates(r.shard_id) for r in receipts if r.left_out}
    folder = output.folder
    letters = (f"{layout.DEAD_LETTERS}/{name}" for name in folder.names(layout.DEAD_LETTERS))
    left_out = (f"{layout.DUPLICATES}/{name}" for name in folder.names(layout.DUPLICATES))
    for name in sorted({*folder.names(), *letters, *left_out} - known - {layout.SUCCESS, layout.REPORT}):
        if layout.shard_of_part(name.rsplit("/", 1)[-1]) not in uncommitted:
            yield f"{name}: no receipt knows this file"


def _check_letters(output: Output, receipt: ShardReceipt) -> Iterator[str]:
    if count := sum(receipt.dead_letters.values()):
        name = layout.dead_letters(receipt.shard_id)
        if defect := _defect(output, name, receipt.dead_letters_sha256, f"{count} dead letters"):
            yield defect
        elif (lines := _lines(output.folder.join(name))) != count:
            yield f"{name}: {lines} lines, the receipt says {count}"
        elif output.forgotten:
            yield from _back(output, name, (letter.doc_id for letter in output.dead_letters([receipt])))


def _back(output: Output, name: str, doc_ids: Iterable[str]) -> Iterator[str]:
    """What is wrong where a document is there that was forgotten."""
    if any(digest(output.plan.job, one) in output.forgotten for one in doc_ids):
        yield (
            f"{name}: holds documents that were forgotten, since its shard was embedded anew; run `embedbeam "
            f"forget {output.folder.path}`"
        )


def _defect(output: Output, name: str, sha256: str | None, holds: str, size: int | None = None) -> str | None:
    """How a file's bytes differ from what its receipt says."""
    found = output.folder.sha256(name)
    if found is None:
        return f"{name}: missing; the receipt says {holds}"
    if size not in (None, found[1]):
        return f"{name}: {found[1]} bytes, the receipt says {size}"
    return None if found[0] == sha256 else f"{name}: checksum differs from the receipt's"


def _lines(path: str) -> int:
    with open_read(path) as f:
        return sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))


def check_part(output: Output, receipt: ShardReceipt) -> Checked:
    """A part's defects, and a key of eight bytes for each of its rows: none if they cannot be read."""
    name, none = receipt.part or "", np.empty(0, np.uint64)
    if defect := _defect(output, name, receipt.part_sha256, f"{receipt.rows} rows", receipt.part_bytes):
        return [defect], none
    found, defects, back = [none], list[str](), list[str]()
    try:
        for block in output.part(name, [*_id_columns(output), *output.vector_columns]):
            found.append(_keys(_ids(output, block)))
            if output.forgotten:
                back += _back(output, name, block.column("doc_id").to_pylist())
            vectors = output.matrix(block)
            if vectors.shape[1] != output.dim:
                wrong = f"vectors of {list(vectors.shape[1:])} numbers, the plan says {output.dim}"
                return [*defects, f"{name}: {wrong}"], none
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(bad):
                doc_id = block.column("doc_id")[int(bad[0])].as_py()
                defects.append(f"{name}: {len(bad)} vectors with NaN or infinity, e.g. of {doc_id!r}")
    except DamagedPart as e:
        return [*defects, f"{name}: cannot be read: {e.reason}"], none
    except LedgerError as e:
        return [*defects, str(e)], none
    except Exception as e:  # what the rows hold cannot be made vectors of
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        return [*defects, f"{name}: cannot be read: {reason}"], none
    keys, defects = np.concatenate(found), [*defects, *back[:1]]
    if len(keys) != receipt.rows:
        defects.append(f"{name}: {len(keys)} rows, the receipt says {receipt.rows}")
    return defects, keys


def _id_columns(output: Output) -> list[str]:
    return ["doc_id", "chunk"] if output.schema.chunks else ["doc_id"]


def _ids(output: Output, block: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """What each row is called: (doc_id,) or (doc_id, chunk)."""
    return list(zip(*(block.column(name).to_pylist() for name in _id_columns(output)), strict=True))


def _keys(ids: list[tuple[Any, ...]]) -> np.ndarray:
    """Eight bytes for each."""
    texts = ("\0".join(map(str, row)).encode("utf-8", "surrogatepass") for row in ids)
    return np.frombuffer(b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts), np.uint64)


def _duplicates(output: Output, keys: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Rows whose id is there twice: first by hash, eight bytes a row, then by the ids themselves."""
    values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *keys.values()]), return_counts=True)
    suspects = values[counts > 1]
    seen: dict[tuple[Any, ...], str] = {}
    for part in keys if len(suspects) else ():
        for block in output.part(part, _id_columns(output)):
            ids = _ids(output, block)
            for at in np.flatnonzero(np.isin(_keys(ids), suspects)).tolist():
                row = ids[at]
                if row in seen:
                    chunk = "".join(f" chunk {number}" for number in row[1:])
                    yield f"{part}: id {row[0]!r}{chunk} is in {seen[row]} already"
                seen.setdefault(row, part)
