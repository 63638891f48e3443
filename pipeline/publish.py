"""Which of several outputs is the current one: made so at once for all who read, and taken back."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Any

from transforms.errors import JobFailed, LedgerError, UsageError
from transforms.output import forgotten, layout, pointer
from transforms.output.folder import Folder
from transforms.output.pointer import Pointer, Published
from transforms.output.reader import Output, open_output
from transforms.storage.files import is_local
from transforms.storage.objects import is_object


def publish(path: str, to: str, keep: int) -> dict[str, Any]:
    """Makes an output the current one of a name; nothing is done where it is that already.

    Args:
      to: the name, a path or a URL.
      keep: so many outputs are remembered for `rollback`, the current one among them; from 2.

    Returns:
      current (the name), output (its folder now), job, rows, changed (whether it was not), previous (the
      folder that was current before this one, or None), and remembered (the folders that `rollback` goes back
      to, the latest first).

    Raises:
      UsageError: there is no finished job, or the name stands for something else.
      LedgerError: files of the output are not as they were committed.
      JobFailed: another publish or rollback was faster.
    """
    _check_name(to)
    old = pointer.read(to)
    if pointer.place(path) == old.path:
        raise UsageError(f"{path}: is the very name to publish under; expected the output folder of a job")
    # A link is made to the real folder, not to another link that may move.
    output = open_output(os.path.realpath(Folder(path).path) if is_local(path) else path)
    _check_places(output.folder, old.path, path, to)
    check(output, path)
    new = Published(old.name(output.folder), output.plan.job, datetime.datetime.now(datetime.UTC).isoformat())
    if _is_current(old, new):
        return _told(to, output, old, old.history)
    # The same folder with another job in it: what was there before is gone.
    before = old.history[:-1] if old.history and old.history[-1].output == new.output else old.history
    history = (*before, new)[-keep:]
    if not pointer.swap(old, history):
        raise _beaten(to)
    return _told(to, output, old, history)


def rollback(current: str) -> dict[str, Any]:
    """Makes the output the current one that was before; what is current now is forgotten, not deleted.

    Outputs that were deleted since are passed over, and forgotten as well.

    Returns and raises as `publish`; previous is the folder that was current until now, and passed_over are
    those that are gone, the latest first.
    """
    _check_name(current)
    old = pointer.read(current)
    folders = [old.folder(one) for one in old.history]
    if len(folders) < 2:
        what = f"only {folders[0].path} is remembered" if folders else "nothing was published under this name"
        raise UsageError(f"{current}: {what}; there is nothing to go back to")
    instead = f"publish one that is there: `embedbeam publish OUT --to {current}`"
    # Behind one that is gone the current one may stand again: that is no way back.
    earlier = [i for i in reversed(range(len(folders) - 1)) if folders[i].path != folders[-1].path]
    at = next((i for i in earlier if folders[i].read(layout.PLAN) is not None), None)
    if at is None:
        gone = ", ".join(dict.fromkeys(folders[i].path for i in earlier))
        raise UsageError(f"{current}: what was current before is gone: {gone}; {instead}")
    before, folder = old.history[at], folders[at]
    output = open_output(folder.path)
    if output.plan.job != before.job:
        raise UsageError(
            f"{folder.path}: was written anew since it was current: by job {before.job} then, by "
            f"{output.plan.job} now; {instead}"
        )
    check(output, folder.path)
    history = old.history[: at + 1]
    if not pointer.swap(old, history):
        raise _beaten(current)
    passed_over = list(dict.fromkeys(folders[i].path for i in earlier if i > at))
    return _told(current, output, old, history) | {"previous": folders[-1].path, "passed_over": passed_over}


def check(output: Output, path: str) -> None:
    """Whether an output can be the current one, by its receipts and the sizes of its files.

    Raises:
      UsageError: its job has not finished, or it has no rows.
      LedgerError: a file is missing, or is longer or shorter than it was.
    """
    forgotten.check_ended(output.folder, output.plan.job)
    if not output.complete:
        missing = f"{len(output.missing)} of its {len(output.plan.shards)} shards are missing"
        lacks = missing if output.missing else "it has no _SUCCESS"
        raise UsageError(f"{path}: the job has not finished, {lacks}; run it again, then publish it")
    if not output.count:
        raise UsageError(f"{path}: no rows: all documents are dead letters, or there were none")
    sizes, letters = output.folder.names(), output.folder.names(layout.DEAD_LETTERS)
    left_out = output.folder.names(layout.DUPLICATES)
    for receipt in output.receipts:
        if receipt.part and sizes.get(receipt.part) != receipt.part_bytes:
            found = f"has {sizes[receipt.part]:,} bytes" if receipt.part in sizes else "is missing"
            damage = f"{receipt.part} {found}, its receipt says {receipt.part_bytes:,} bytes"
        elif receipt.dead_letters and f"part-{receipt.shard_id}.jsonl" not in letters:
            damage = f"{layout.dead_letters(receipt.shard_id)} is missing"
        elif receipt.left_out and f"part-{receipt.shard_id}.parquet" not in left_out:
            damage = f"{layout.duplicates(receipt.shard_id)} is missing"
        else:
            continue
        raise LedgerError(f"{path}: is damaged: {damage}; `embedbeam verify {path}` tells all of it")


def _check_name(to: str) -> None:
    problem = ""
    if is_local(to):
        if not os.path.basename(pointer.place(to)):
            problem = "expected a name beside the output folders"
    elif not is_object(to):
        problem = "expected a local path, or a URL that begins with s3, gs or az"
    elif not to.partition("://")[2].strip("/").partition("/")[2]:
        problem = "is a whole bucket; expected a name in it"
    elif Folder(to).read(layout.PLAN) is not None:
        problem = "is the output folder of a job; expected a name beside it"
    elif others := sorted(Folder(to).names().keys() - {layout.POINTER}):
        problem = f"holds {others[0]}, which `embedbeam publish` did not write; expected a new name"
    if problem:
        raise UsageError(f"{to}: nothing can be published there: {problem}")


def _check_places(output: Folder, current: str, path: str, to: str) -> None:
    if output.local != is_local(
        current
    ):  # no link leads into a store, and no reader elsewhere onto this disk
        mine, its = (
            "on this machine" if local else "in a store" for local in (output.local, is_local(current))
        )
        raise UsageError(f"{path} is {mine}, --to {to} {its}; expected both in the same place")
    if current.startswith(f"{output.path}/"):
        raise UsageError(f"{to}: lies in the output folder {path}; expected a name beside it")


def _is_current(there: Pointer, new: Published) -> bool:
    return bool(there.history) and (there.history[-1].output, there.history[-1].job) == (new.output, new.job)


def _beaten(name: str) -> JobFailed:
    return JobFailed(
        f"{name}: another publish or rollback was faster, or is at it; look at what is current now, and run "
        "the command again if it is still wanted"
    )


def _told(name: str, output: Output, old: Pointer, history: Sequence[Published]) -> dict[str, Any]:
    remembered = [old.folder(one).path for one in reversed(history[:-1])]
    return {
        "current": name,
        "output": output.folder.path,
        "job": output.plan.job,
        "rows": output.count,
        "changed": history != old.history,
        "previous": remembered[0] if remembered else None,
        "remembered": remembered,
    }
