"""Takes documents out of an output for good: rows, dead letters, and what was made of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.forget.traces import delete_derived, in_plan, unknown
from pipeline.report.write import write_at_end
from pipeline.run.finish import balance, totals
from pipeline.run.output import output_lock
from pipeline.version import installed
from transforms.elements import ShardReceipt
from transforms.errors import JobFailed, LedgerError, UsageError
from transforms.output import forgotten, layout, ledger, manifest
from transforms.output.folder import Folder
from transforms.output.forgotten import Forgetting, Gone, by_hashes, by_ids, digest
from transforms.output.reader import Output, open_output
from transforms.output.rewrite import left_out_of_dead, left_out_rows, letter_blocks, rewrite

_BLOCK = 65_536
_FIRST = 3  # of ids that are not there, those that are named
_Told = Callable[[str], None]


def forget(path: str, ids: Sequence[str] | None, told: _Told) -> dict[str, Any]:
    """Takes documents out of the output of a finished job, after ending what an earlier call has begun.

    Args:
      path: of the output.
      ids: of the documents; None: of those that were forgotten before, should they be there again.
      told: hears what is being done.

    Returns:
      ids: how many were given; documents, rows, dead_letters, shards: how many were taken out, and
      rewritten; already: ids that were forgotten before; not_found, not_found_first: that are not there;
      resumed: whether an earlier call was ended; deleted, made_anew: what was made of the rows; unreadable:
      dead letters of records whose ids nobody could read; in_plan: ids that are names of input files, which
      the plan keeps; unknown: files in the folder that embedbeam does not know, and did not look into.

    Raises:
      UsageError: there is no job, it has not finished, or there is nothing to do.
      EmbedbeamError: a file is damaged, or the books do not balance.
    """
    folder = open_output(path).folder
    done: dict[str, Any] = dict.fromkeys(("documents", "rows", "dead_letters", "shards"), 0)
    done |= {"deleted": [], "made_anew": []}
    with output_lock(folder):
        output = open_output(folder.path)
        job, before, begun = output.plan.job, output.forgotten, forgotten.begun(folder, output.plan.job)
        if begun is None and not output.complete:
            raise UsageError(
                f"{path}: the job has not finished, and what is left of it may embed the documents later: "
                "take them out of the input, run the job to its end, then forget them"
            )
        if ids is None and begun is None and not before:
            raise UsageError(f"{path}: nothing was forgotten so far; give --ids FILE", argument="ids")
        if begun is not None:
            _add(done, _carry_out(output, begun, by_hashes(job, set(begun.hashes)), told, resumed=True))
            output = open_output(folder.path)
        try:
            balance(folder, job, output.plan.shards, output.receipts)
        except LedgerError as e:
            raise LedgerError(f"nothing was changed, since the books of the job do not balance: {e}") from e
        gone = by_hashes(job, before) if ids is None else by_ids(ids)
        holding, unreadable = _find(output, gone, told)
        found = {one for some in holding.values() for one in some}
        if found:
            new = _begin(output, found, [r for r in output.receipts if r.shard_id in holding])
            _add(done, _carry_out(output, new, by_ids(found), told))
        output = open_output(folder.path)
        stray = unknown(output)
    given, ended = ids or [], set(begun.hashes) if begun else set()
    missing = [one for one in given if one not in found and digest(job, one) not in ended]
    new_to_us = [one for one in missing if digest(job, one) not in before]
    return {
        "output": folder.path,
        "ids": len(given),
        **done,
        "already": len(missing) - len(new_to_us),
        "not_found": len(new_to_us),
        "not_found_first": new_to_us[:_FIRST],
        "resumed": begun is not None,
        "unreadable": unreadable,
        "in_plan": in_plan(output, given),
        "unknown": stray,
    }


def _add(done: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        done[name] = [*dict.fromkeys(done[name] + value)] if isinstance(value, list) else done[name] + value


def _find(output: Output, gone: Gone, told: _Told) -> tuple[dict[str, set[str]], int]:
    """Ids that are to be forgotten, by the shard that holds them; and how many letters are unreadable."""
    receipts, holding, unreadable = output.receipts, dict[str, set[str]](), 0
    # A store answers slowly, and many at once; a disk is as fast as one reader.
    with ThreadPoolExecutor(1 if output.folder.local else 16) as threads:
        looked = threads.map(lambda receipt: _look(output, receipt, gone), receipts)
        for number, (receipt, (ids, letters)) in enumerate(zip(receipts, looked, strict=True), 1):
            told(f"looking for the documents: {number:,} of {len(receipts):,} shards")
            unreadable += letters
            if ids:
                holding[receipt.shard_id] = ids
    return holding, unreadable


def _look(output: Output, receipt: ShardReceipt, gone: Gone) -> tuple[set[str], int]:
    """Of one shard the same.

    Raises:
      LedgerError: its part is damaged.
    """
    import pyarrow as pa

    ids, unreadable = set[str](), 0
    try:
        for block in output.part(receipt.part, ["doc_id"], block_rows=_BLOCK) if receipt.part else ():
            ids.update(block.column(0).filter(gone(block.column(0))).to_pylist())
    except pa.ArrowException as e:
        reason = str(e).splitlines()[0]
        verify = f"`embedbeam verify {output.folder.path}` tells more"
        raise LedgerError(f"{receipt.part}: cannot be read: {reason}; {verify}") from e
    if receipt.left_out:
        table = left_out_rows(output, receipt)
        for column in (table["doc_id"].combine_chunks(), table["of"].combine_chunks()):
            ids.update(column.filter(gone(column)).drop_null().to_pylist())
    for _, letters, doc_ids in letter_blocks(output, receipt):
        out = gone(doc_ids)
        ids.update(doc_ids.filter(out).to_pylist())
        if output.job.get("id_field") is not None:
            rest = (letter for letter, yes in zip(letters, out.to_pylist(), strict=True) if not yes)
            unreadable += sum(one["doc_id"] == f"{one['source']}:{one['position']}" for one in rest)
    return ids, unreadable


def _begin(output: Output, ids: Collection[str], receipts: Sequence[ShardReceipt]) -> Forgetting:
    """Notes what is to be done with these shards.

    Raises:
      LedgerError: one of them is damaged: what is written anew would hide that.
    """
    folder = output.folder
    for receipt in receipts:
        if not ledger.is_paired(folder, receipt):
            raise LedgerError(
                f"shard {receipt.shard_id}: its files are not what its receipt says; nothing was changed. "
                f"`embedbeam verify {folder.path}` tells more"
            )
    new = Forgetting(
        job=output.plan.job,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        embedbeam=installed("embedbeam"),
        hashes=sorted(digest(output.plan.job, one) for one in ids),
        shards=sorted(receipt.shard_id for receipt in receipts),
        report=folder.read(layout.REPORT, 1) is not None,
        **_counts(output.receipts),
    )
    forgotten.begin(folder, new)
    return new


def _counts(receipts: Sequence[ShardReceipt]) -> dict[str, int]:
    return {
        "rows": sum(r.rows for r in receipts),
        "dead_letters": sum(sum(r.dead_letters.values()) for r in receipts),
        "forgotten": sum(r.forgotten for r in receipts),
    }


def _carry_out(
    output: Output, begun: Forgetting, gone: Gone, told: _Told, *, resumed: bool = False
) -> dict[str, Any]:
    """Does what was begun; when it is `resumed`, some may be done.

    What was made of the rows goes first, for it would give away what is no more. _SUCCESS comes back when the
    books balance; the note of what was begun goes last of all.
    """
    folder, job, shards = output.folder, output.plan.job, set(begun.shards)
    folder.delete(layout.SUCCESS)
    told("deleting what was made of the rows")
    deleted = delete_derived(folder)
    receipts = [receipt for receipt in output.receipts if receipt.shard_id in shards]
    for number, receipt in enumerate(receipts, 1):
        told(f"taking documents out of shards: {number:,} of {len(shards):,}")
        if not resumed or _look(output, receipt, gone)[0] or not ledger.is_paired(folder, receipt):
            rewrite(output, receipt, gone)
            continue
        if not receipt.dead_letters:  # of those that were the file may be there still
            folder.delete(layout.dead_letters(receipt.shard_id))
        if not receipt.left_out:
            folder.delete(layout.duplicates(receipt.shard_id))
    after = open_output(folder.path).receipts
    now = _counts(after)
    counts = {
        "documents": now["forgotten"] - begun.forgotten,
        "rows": begun.rows - now["rows"],
        "dead_letters": begun.dead_letters - now["dead_letters"],
        "shards": len(shards),
    }
    forgotten.log(folder, begun, **counts)
    try:
        told("balancing the books")
        balance(folder, job, output.plan.shards, after)
        _finish(folder, job, after, begun, told)
    except (JobFailed, LedgerError):  # the documents are gone; the job has to mend what else is wrong
        folder.delete(layout.FORGET)
        raise
    folder.delete(layout.FORGET)
    anew = [layout.REPORT] if folder.read(layout.REPORT, 1) is not None else []
    return counts | {"deleted": deleted, "made_anew": anew}


def _finish(
    folder: Folder, job: str, receipts: Sequence[ShardReceipt], begun: Forgetting, told: _Told
) -> None:
    """As the job's end: the manifest, the report, _SUCCESS."""
    made = manifest.read(folder, job)
    if made is None:
        raise LedgerError(f"{folder.join(layout.MANIFEST)}: is gone; `embedbeam finish` makes it anew")
    orphans = left_out_of_dead(open_output(folder.path))
    made = dataclasses.replace(made, **totals(receipts), left_out_of_dead=orphans)
    folder.write(layout.MANIFEST, made.to_json())
    if begun.report:
        told("making the report anew")
        write_at_end(lambda: open_output(folder.path), made, receipts)
    folder.write(layout.SUCCESS, b"")
