"""The books of an output folder: receipts of committed shards, and notes of those whose files are bad."""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from transforms.elements import ShardFailed, ShardReceipt
from transforms.errors import LedgerError
from transforms.output import layout
from transforms.output.folder import Folder, to_json


def read_receipt(folder: Folder, shard_id: str) -> ShardReceipt | None:
    """A shard's receipt, whosever it is; None where there is none.

    Raises:
      LedgerError: the file is none.
    """
    name = layout.receipt(shard_id)
    data = folder.read(name)
    if data is None:
        return None
    try:
        return ShardReceipt(**json.loads(data))
    except (ValueError, TypeError) as e:
        raise LedgerError(f"{folder.join(name)}: not a receipt ({e}); delete it and run the job again") from e


def committed(folder: Folder, shard_id: str, job: str) -> ShardReceipt | None:
    """The receipt of a shard that this job has committed; None for one of another job too."""
    receipt = read_receipt(folder, shard_id)
    return receipt if receipt is not None and receipt.job == job else None


def read_receipts(
    folder: Folder,
    job: str,
    shard_ids: Iterable[str] | None = None,
    *,
    unreadable: list[str] | None = None,
) -> list[ShardReceipt]:
    """A job's receipts of these shards (or of all that have one), in order of id; others' are left out.

    Args:
      unreadable: gets the ids of the shards whose receipts cannot be read, instead of an error.
    """

    def read_one(shard_id: str) -> ShardReceipt | None:
        try:
            return committed(folder, shard_id, job)
        except LedgerError:
            if unreadable is None:
                raise
            unreadable.append(shard_id)
            return None

    ids = sorted(folder.shards(layout.RECEIPTS) if shard_ids is None else shard_ids)
    count = 16 if folder.local else 64
    size = 1 + len(ids) // (4 * count)  # handing a single name to a thread costs more than a local read
    blocks = [ids[i : i + size] for i in range(0, len(ids), size)]
    with ThreadPoolExecutor(count) as threads:
        read = threads.map(lambda block: [*map(read_one, block)], blocks)
        return [receipt for block in read for receipt in block if receipt is not None]


def contents(receipts: Iterable[ShardReceipt]) -> str:
    """Of the rows that are there: a checksum of all part files' checksums, in order."""
    every = json.dumps([[one.shard_id, one.part_sha256] for one in receipts])
    return hashlib.sha256(every.encode()).hexdigest()[:16]


def drop_others(folder: Folder, own: Iterable[ShardReceipt]) -> int:
    """Deletes the receipts that are not among a job's own, and their files: the shards are embedded anew."""
    others = folder.shards(layout.RECEIPTS) - {receipt.shard_id for receipt in own}
    for sub in (layout.DEAD_LETTERS, layout.DUPLICATES, "") if others else ():
        folder.delete_files(sub, which=lambda name: layout.shard_of_part(name) in others)
    for shard_id in others:
        folder.delete(layout.receipt(shard_id))
    return len(others)


def write_receipt(folder: Folder, receipt: ShardReceipt) -> ShardReceipt:
    """Commits a shard whose files have their names already. Returns the receipt that stands.

    Two attempts may write at once, and other bytes (one halved a mini-batch). The first receipt stands if its
    files do; if the second attempt's files came last, its receipt takes the place. An attempt
    that dies between its part and its receipt leaves a note of itself, and `unpaired` looks at its shard.

    Raises:
      LedgerError: the files are of neither.
    """
    name, data = layout.receipt(receipt.shard_id), to_json(receipt)
    if folder.create_new(name, data):
        return receipt
    first = committed(folder, receipt.shard_id, receipt.job)
    if first is not None and (_files(first) == _files(receipt) or is_paired(folder, first)):
        return first
    if is_paired(folder, receipt):
        folder.write(name, data)
        return receipt
    folder.delete(name)
    raise LedgerError(f"shard {receipt.shard_id}: several attempts wrote it at once; none of them counts")


def _files(receipt: ShardReceipt) -> tuple[str | None, ...]:
    return receipt.part_sha256, receipt.dead_letters_sha256, receipt.left_out_sha256


def is_paired(folder: Folder, receipt: ShardReceipt) -> bool:
    """Whether the files under a shard's names are, byte for byte, those that its receipt was written for."""
    part = folder.sha256(receipt.part) if receipt.part else None
    letters = folder.sha256(layout.dead_letters(receipt.shard_id)) if receipt.dead_letters else None
    left_out = folder.sha256(layout.duplicates(receipt.shard_id)) if receipt.left_out else None
    return _files(receipt) == tuple(found and found[0] for found in (part, letters, left_out))


def unpaired(folder: Folder, receipts: Sequence[ShardReceipt]) -> ShardReceipt | None:
    """A receipt whose files another attempt has written over; None if there is none.

    Only shards that were begun more than once are read: the size is enough for the others.
    """
    begun = folder.shards(layout.ATTEMPTS)
    doubtful = [receipt for receipt in receipts if receipt.attempt > 1 or receipt.shard_id in begun]
    with ThreadPoolExecutor(16) as threads:
        paired = threads.map(lambda receipt: is_paired(folder, receipt), doubtful)
        return next((receipt for receipt, sound in zip(doubtful, paired, strict=True) if not sound), None)


def write_failure(folder: Folder, failed: ShardFailed, job: str) -> None:
    """Notes that a shard's file is bad, unless another attempt could read it and has committed the shard."""
    if committed(folder, failed.shard_id, job) is None:
        folder.write(layout.failure(failed.shard_id), to_json(failed, job=job))


def read_failures(folder: Folder, job: str) -> list[ShardFailed]:
    """A job's shards whose files could not be read, in order of source; without those committed since."""
    ids = sorted(folder.shards(layout.FAILURES))
    done = folder.shards(layout.RECEIPTS) if ids else set()
    failures = []
    for shard_id in ids:
        record = json.loads(folder.read(layout.failure(shard_id)) or b"{}")
        if record.pop("job", None) == job and shard_id not in done:
            failures.append(ShardFailed(**record))
    return sorted(failures, key=lambda failure: failure.source)


def total(values: Sequence[int | None]) -> int | None:
    """A sum that is unknown where one of its parts is."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def waiting(receipts: Iterable[ShardReceipt]) -> dict[str, float] | None:
    """How much the model waited for mini-batches, as a share of its time, in the processes that embedded.

    Returns:
      share: of all processes together; processes: how many; most: share of the one that waited most. None
      where nothing was embedded.
    """
    spans: collections.Counter[tuple[str, int]] = collections.Counter()
    idle: collections.Counter[tuple[str, int]] = collections.Counter()
    for receipt in receipts:
        process = receipt.host, receipt.pid
        spans[process] += receipt.model_span  # type: ignore[assignment]
        idle[process] += receipt.model_idle  # type: ignore[assignment]
    shares = {process: idle[process] / span for process, span in spans.items() if span}
    if not shares:
        return None
    share, most = sum(idle.values()) / sum(spans.values()), max(shares.values())
    return {"share": round(share, 4), "processes": len(shares), "most": round(most, 4)}


def by_reason(receipts: Iterable[ShardReceipt]) -> dict[str, int]:
    """Dead letters by reason, the most common first."""
    return _added(receipt.dead_letters for receipt in receipts)


def skipped(receipts: Iterable[ShardReceipt]) -> dict[str, int]:
    """Records that are no documents, by what they are, the most common first."""
    return _added(receipt.skipped for receipt in receipts)


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for one in counts:
        total.update(one)
    return dict(total.most_common())
