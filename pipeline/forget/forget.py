"""Takes documents out of an output for good: rows, dead letters, and what was made of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.forget.here import Hands, Here
from pipeline.forget.traces import delete_derived, in_plan, unknown
from pipeline.report.write import write_at_end
from pipeline.run.finish import balance, totals
from pipeline.run.output import output_lock
from pipeline.run.screen import Told
from pipeline.version import installed
from transforms.elements import ShardReceipt
from transforms.errors import JobFailed, LedgerError, UsageError
from transforms.output import forgotten, layout, manifest
from transforms.output.folder import Folder
from transforms.output.forgotten import Forgetting, digest
from transforms.output.reader import Output, open_output
from transforms.output.rewrite import left_out_of_dead

_FIRST = 3  # of ids that are not there, those that are named


def forget(path: str, ids: Sequence[str] | None, told: Told, hands: Hands | None = None) -> dict[str, Any]:
    """Takes documents out of the output of a finished job, after ending what an earlier call has begun.

    Args:
      path: of the output.
      ids: of the documents; None: of those that were forgotten before, should they be there again.
      told: hears what is being done.
      hands: who reads and writes the shards' files; None: this process.

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
    folder, hands = open_output(path).folder, hands or Here()
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
            _add(done, _carry_out(output, begun, hands, told, resumed=True))
            output = open_output(folder.path)
        try:
            balance(folder, job, output.plan.shards, output.receipts)
        except LedgerError as e:
            raise LedgerError(f"nothing was changed, since the books of the job do not balance: {e}") from e
        holding, unreadable = hands.find(output, ids, told)
        found = {one for some in holding.values() for one in some}
        if found:
            _add(done, _carry_out(output, _begin(output, found, holding), hands, told))
        folder.delete_folder(layout.ERRANDS)  # what workers of killed commands have left
        folder.sweep()
        output = open_output(folder.path)
        stray = unknown(output)
    given, ended = ids or [], set(begun.hashes) if begun else set()
    digests, gone = {one: digest(job, one) for one in given}, found | ended
    missing = [one for one in given if digests[one] not in gone]
    new_to_us = [one for one in missing if digests[one] not in before]
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


def _begin(output: Output, hashes: Iterable[str], shards: Iterable[str]) -> Forgetting:
    """Notes what is to be done."""
    new = Forgetting(
        job=output.plan.job,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        embedbeam=installed("embedbeam"),
        hashes=sorted(hashes),
        shards=sorted(shards),
        report=output.folder.read(layout.REPORT, 1) is not None,
        **_counts(output.receipts),
    )
    forgotten.begin(output.folder, new)
    return new


def _counts(receipts: Sequence[ShardReceipt]) -> dict[str, int]:
    return {
        "rows": sum(r.rows for r in receipts),
        "dead_letters": sum(sum(r.dead_letters.values()) for r in receipts),
        "forgotten": sum(r.forgotten for r in receipts),
    }


def _carry_out(
    output: Output, begun: Forgetting, hands: Hands, told: Told, *, resumed: bool = False
) -> dict[str, Any]:
    """Does what was begun; when it is `resumed`, some may be done.

    What was made of the rows goes first, for it would give away what is no more. _SUCCESS comes back when the
    books balance; the note of what was begun goes last of all.
    """
    folder, job = output.folder, output.plan.job
    folder.delete(layout.SUCCESS)
    told("deleting what was made of the rows")
    deleted = delete_derived(folder)
    hands.take_out(output, begun, told, resumed=resumed)
    after = open_output(folder.path).receipts
    now = _counts(after)
    counts = {
        "documents": now["forgotten"] - begun.forgotten,
        "rows": begun.rows - now["rows"],
        "dead_letters": begun.dead_letters - now["dead_letters"],
        "shards": len(begun.shards),
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
    folder: Folder, job: str, receipts: Sequence[ShardReceipt], begun: Forgetting, told: Told
) -> None:
    """As the job's end: the manifest, the report, _SUCCESS."""
    made = manifest.read(folder, job)
    if made is None:
        raise LedgerError(f"{folder.join(layout.MANIFEST)}: is gone; `embedbeam finish` makes it anew")
    orphans = left_out_of_dead(folder.path, receipts)
    made = dataclasses.replace(made, **totals(receipts), left_out_of_dead=orphans)
    folder.write(layout.MANIFEST, made.to_json())
    if begun.report:
        told("making the report anew")
        write_at_end(lambda: open_output(folder.path), made, receipts)
    folder.write(layout.SUCCESS, b"")
