"""Reads an output folder back and names every defect."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np

from pipeline.job import Job, parse_plan
from pipeline.run import finish
from transforms.elements import ShardReceipt
from transforms.errors import LedgerError, UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.storage.files import open_read

_BLOCK = 1 << 20


def find_defects(output: str) -> Iterator[str]:
    """Yields defects: bytes that changed, counts that differ, ids twice, vectors that are no numbers, strays.

    Raises:
      UsageError: there is no job in the folder.
    """
    folder = Folder(output)
    data = folder.read(layout.PLAN)
    if data is None:
        raise UsageError(f"{output}: no job here: expected the output folder of `embedbeam embed`")
    job, shards = parse_plan(data, folder.join(layout.PLAN))
    receipts: dict[str, ShardReceipt] = {}
    unreadable: set[str] = set()
    for name in sorted(folder.names(layout.RECEIPTS)):
        try:
            receipts[name.removesuffix(".json")] = finish.read_receipt(folder, name)
        except LedgerError as e:
            unreadable.add(name.removesuffix(".json"))
            yield str(e)
    planned = {s.shard_id for s in shards}
    yield from _unfinished(folder, planned, receipts, unreadable)
    yield from _strays(folder, receipts.values(), (planned | unreadable) - receipts.keys())
    keys: list[np.ndarray] = []
    sound: list[ShardReceipt] = []
    for receipt in receipts.values():
        yield from _check_letters(folder, receipt)
        if receipt.part is None:
            if receipt.rows:
                yield f"receipt {receipt.shard_id}: {receipt.rows} rows, but no part file"
            continue
        try:
            if (yield from _check_part(folder, job, receipt, keys)):
                sound.append(receipt)
        except Exception as e:  # a part that no reader can open is a defect, whatever it raises
            yield f"{receipt.part}: cannot be read: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
    yield from _duplicates(folder, job, sound, keys)


def _unfinished(
    folder: Folder, planned: set[str], receipts: dict[str, ShardReceipt], unreadable: set[str]
) -> Iterator[str]:
    missing = sorted(planned - receipts.keys() - unreadable)
    if missing:
        count = f"{len(missing)} of {len(planned)} shards"
        yield f"{count} are not committed, e.g. no {layout.receipt(missing[0])}; run the job again"
    for shard_id in sorted(receipts.keys() - planned):
        yield f"receipt {shard_id}: its shard is not in the plan"
    if missing or unreadable:
        return  # neither _SUCCESS nor the manifest can be right
    manifest = finish.read_manifest(folder)
    if folder.read(layout.SUCCESS) is None:
        yield "no _SUCCESS: the job has not finished"
    elif manifest is None:
        yield f"{layout.MANIFEST}: missing or unreadable, though there is _SUCCESS"
    elif manifest.rows != sum(r.rows for r in receipts.values()):
        yield f"manifest: {manifest.rows} rows, receipts: {sum(r.rows for r in receipts.values())}"


def _strays(folder: Folder, receipts: Iterable[ShardReceipt], uncommitted: set[str]) -> Iterator[str]:
    """Files that no receipt knows; those of a shard without a receipt go with that one defect."""
    receipts = list(receipts)
    known = {r.part for r in receipts} | {layout.dead_letters(r.shard_id) for r in receipts if r.dead_letters}
    letters = (f"{layout.DEAD_LETTERS}/{name}" for name in folder.names(layout.DEAD_LETTERS))
    names = [*folder.names(), *letters]
    for name in sorted(set(names) - known - {layout.SUCCESS}):
        shard_id = name.rsplit("/", 1)[-1].removeprefix("part-").split(".", 1)[0]
        if shard_id not in uncommitted:
            yield f"{name}: no receipt knows this file"


def _check_letters(folder: Folder, receipt: ShardReceipt) -> Iterator[str]:
    count = sum(receipt.dead_letters.values())
    if not count:
        return
    name = layout.dead_letters(receipt.shard_id)
    data = folder.read(name)
    if data is None:
        yield f"{name}: missing; the receipt says {count} dead letters"
    elif hashlib.sha256(data).hexdigest() != receipt.dead_letters_sha256:
        yield f"{name}: checksum differs from the receipt's"
    elif len(data.splitlines()) != count:
        yield f"{name}: {len(data.splitlines())} lines, the receipt says {count}"


def _check_part(
    folder: Folder, job: Job, receipt: ShardReceipt, keys: list[np.ndarray]
) -> Generator[str, None, bool]:
    """Yields a part's defects and returns whether its rows can be read; collects the keys of its rows."""
    name = receipt.part or ""
    try:
        sha, size = _checksum(folder.join(name))
    except FileNotFoundError:
        yield f"{name}: missing; the receipt says {receipt.rows} rows"
        return False
    if size != receipt.part_bytes:
        yield f"{name}: {size} bytes, the receipt says {receipt.part_bytes}"
        return False
    if sha != receipt.part_sha256:
        yield f"{name}: checksum differs from the receipt's"
        return False
    rows = 0
    for ids, vectors in read_part(folder, job, name):
        rows += len(ids)
        keys.append(np.fromiter(map(_key, ids), np.uint64, len(ids)))
        if vectors.ndim != 2 or vectors.shape[1] != job.dim:
            yield f"{name}: vectors of {list(vectors.shape[1:])} numbers, the plan says {job.dim}"
            return False
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            yield f"{name}: {len(bad)} vectors with NaN or infinity, e.g. of {ids[bad[0]][0]!r}"
    if rows != receipt.rows:
        yield f"{name}: {rows} rows, the receipt says {receipt.rows}"
    return True


def _checksum(path: str) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    with open_read(path) as f:
        while block := f.read(_BLOCK):
            sha.update(block)
            size += len(block)
    return sha.hexdigest(), size


def read_part(folder: Folder, job: Job, name: str) -> Iterator[tuple[list[tuple[str, int]], np.ndarray]]:
    """Yields ((doc_id, chunk) of each row, vectors [rows, dim]) of a part file, in blocks."""
    if job.output_format == "tfrecord":
        yield from _read_tfrecord(folder, job, name)
        return
    import pyarrow.parquet as pq

    chunked = job.long_documents == "chunks"
    with open_read(folder.join(name)) as f:
        columns = ["doc_id", "embedding"] + (["chunk"] if chunked else [])
        for block in pq.ParquetFile(f).iter_batches(8192, columns=columns):
            ids = block.column("doc_id").to_pylist()
            numbers = block.column("chunk").to_pylist() if chunked else [0] * len(ids)
            vectors = block.column("embedding")
            values = vectors.flatten().to_numpy(zero_copy_only=False)
            yield list(zip(ids, numbers, strict=True)), values.reshape(len(ids), -1)


def _read_tfrecord(folder: Folder, job: Job, name: str) -> Iterator[tuple[list[tuple[str, int]], np.ndarray]]:
    from transforms.formats.example_message import example_class
    from transforms.formats.tfrecord import records

    ids: list[tuple[str, int]] = []
    vectors: list[np.ndarray] = []
    make = example_class()
    for record in records(folder.join(name), name):
        features = make.FromString(record).features.feature
        chunk = features["chunk"].int64_list.value if "chunk" in features else (0,)
        ids.append((features["doc_id"].bytes_list.value[0].decode(), chunk[0]))
        if job.vector_dtype == "float16":
            vectors.append(np.frombuffer(features["embedding"].bytes_list.value[0], "<f2"))
        else:
            vectors.append(np.asarray(features["embedding"].float_list.value, np.float32))
        if len(ids) == 8192:
            yield ids, np.stack(vectors)
            ids, vectors = [], []
    if ids:
        yield ids, np.stack(vectors)


def _key(row: tuple[str, int]) -> int:
    data = f"{row[0]}\0{row[1]}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _duplicates(
    folder: Folder, job: Job, receipts: Iterable[ShardReceipt], keys: Sequence[np.ndarray]
) -> Iterator[str]:
    """Rows whose id is there twice: first by hash, eight bytes a row, then by the ids themselves."""
    if not keys:
        return
    values, counts = np.unique(np.concatenate(keys), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    if not suspects:
        return
    seen: dict[tuple[str, int], str] = {}
    for receipt in receipts:
        if receipt.part is None:
            continue
        for ids, _ in read_part(folder, job, receipt.part):
            for row in ids:
                if _key(row) not in suspects:
                    continue
                if row in seen:
                    chunk = f" chunk {row[1]}" if job.long_documents == "chunks" else ""
                    yield f"{receipt.part}: id {row[0]!r}{chunk} is in {seen[row]} already"
                seen.setdefault(row, receipt.part)
