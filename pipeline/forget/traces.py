"""What else in an output folder may tell of its documents."""

from __future__ import annotations

import os
from collections.abc import Sequence

from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.reader import Output

# These hold nothing of a document; save that the plan has the names of the input's files.
_SILENT = (
    layout.PLAN,
    layout.MANIFEST,
    layout.RUN,
    layout.LOCK,
    layout.RECEIPTS,
    layout.TRACE,
    layout.TEMPORARY,  # is empty by then
    layout.FAILURES,
    layout.ATTEMPTS,
    layout.FORGOTTEN,
)


def delete_derived(folder: Folder) -> list[str]:
    """Deletes what was made of the rows, and what killed processes left. Returns names, the report's not."""
    folder.sweep()
    folder.delete(layout.REPORT)
    indexes = [f"{layout.STATE}/{name}" for name in folder.names(layout.STATE)]
    indexes = [name for name in indexes if name.startswith(layout.FINGERPRINTS)]
    for name in indexes:
        folder.delete(name)
    subs = [sub for sub in layout.OF_DOCUMENTS if folder.holds(sub)]
    for sub in subs:
        folder.delete_folder(sub)
    return [*subs, *indexes]


def in_plan(output: Output, ids: Sequence[str]) -> int:
    """How many of the ids are names of input files; a plan keeps these, or it would be another job's."""
    names = {name for shard in output.plan.shards for one in shard.slices for name in (one.source, one.path)}
    return len(names.intersection(ids))


def unknown(output: Output) -> list[str]:
    """Names in the folder that embedbeam did not write: nobody looks into them."""
    folder = output.folder
    known = {layout.STATE, layout.DEAD_LETTERS, layout.SUCCESS, layout.REPORT, *layout.MADE_LATER, *_SILENT}
    known |= {receipt.part or "" for receipt in output.receipts}
    known |= {layout.dead_letters(r.shard_id) for r in output.receipts if r.dead_letters}
    known |= {layout.DUPLICATES, *(layout.duplicates(r.shard_id) for r in output.receipts if r.left_out)}
    found = set()
    for sub in ("", layout.STATE, layout.DEAD_LETTERS, layout.DUPLICATES):
        here = folder.join(sub)
        names = os.listdir(here) if folder.local and os.path.isdir(here) else folder.names(sub)
        found |= {f"{sub}/{name}".lstrip("/") for name in names}
    return sorted(name for name in found - known if not name.startswith(layout.FINGERPRINTS))
