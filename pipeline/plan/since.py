"""What has become of the input since a job's plan was made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from pipeline.options.options import Options
from pipeline.plan.plan import find_files
from transforms.elements import Shard, Slice
from transforms.errors import UsageError
from transforms.formats.slices import change_of
from transforms.storage.files import FoundFile, is_local, local_path


def input_since(options: Options, shards: Iterable[Shard]) -> list[str]:
    """Lines for a rerun: files that came after the plan, and planned ones that changed or are gone.

    One listing of the input tells; no file is opened.
    """
    try:
        _, files, _ = find_files(options)
    except UsageError:
        files = []  # all of it is gone
    planned = {piece.path: piece for shard in shards for piece in shard.slices}
    found = {file.path: file for file, _ in files}
    new = [] if options.limit is not None else [path for path in found if path not in planned]
    lines = []
    if new:
        lines.append(
            f"{len(new):,} files came after the plan was made and are not embedded, e.g. {new[0]}; "
            "give them an output folder of their own"
        )
    changed = _changed(planned.values(), found)
    if changed:
        lines.append(
            f"{len(changed):,} input files have changed since the plan was made, e.g. {changed[0]}; "
            "committed rows are of what they held then: --overwrite to embed them as they are now"
        )
    return lines


def _changed(planned: Iterable[Slice], found: dict[str, FoundFile]) -> Sequence[str]:
    changed = []
    for piece in planned:
        file = found.get(piece.path)
        if file is not None:
            change = change_of(piece, file.size, file.mtime)
        else:  # gone, or listed under another of its links now
            there = is_local(piece.path) and os.path.exists(local_path(piece.path))
            change = "" if there else " (gone)"
        if change:
            changed.append(piece.path + change)
    return changed
