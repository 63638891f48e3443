"""What has become of the input since the plan was made: a rerun embeds what was planned, and says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from pipeline.options.options import Options
from pipeline.plan.plan import find_files
from transforms.elements import Shard, Slice
from transforms.errors import UsageError
from transforms.formats import registry
from transforms.formats.slices import change_of
from transforms.storage.files import is_local, local_path


def notes(options: Options, shards: Sequence[Shard]) -> Iterator[str]:
    """A line each about files that came, changed or went since the plan was made."""
    try:
        found = {file.path: file for file in find_files(options, options.modality)[1]}
    except UsageError:
        return  # the input is gone; shards that still need it will say so
    new, changed, gone = compared(slices_of(shards), found)
    if new and options.limit is None:
        yield (
            f"{len(new):,} files came after the plan was made and are not embedded, e.g. {new[0]}; "
            "give them an output folder of their own"
        )
    for paths, what in ((changed, "have changed"), (gone, "are gone")):
        if paths:
            yield (
                f"{len(paths):,} input files {what} since the plan was made, e.g. {paths[0]}; rows that are "
                "committed stay as they are, --overwrite embeds anew"
            )


def slices_of(shards: Sequence[Shard]) -> dict[str, Slice]:
    """A slice of each file, by its path."""
    return {piece.path: piece for shard in shards for piece in shard.slices}


def compared(
    planned: Mapping[str, Slice], found: Mapping[str, Slice]
) -> tuple[list[str], list[str], list[str]]:
    """Paths of files that came, of those that changed, and of those that went."""
    holds = {"", *(registry.get(piece.format).holds for piece in planned.values())}
    new = [path for path in found if path not in planned and registry.get(found[path].format).holds in holds]
    there = ((path, piece, found[path]) for path, piece in planned.items() if path in found)
    changed = [path for path, piece, now in there if change_of(piece, now.size, now.mtime)]
    return new, changed, [path for path in planned if path not in found and not _is_there(path)]


def _is_there(path: str) -> bool:
    """Whether a file is still there that is now listed under another of its links."""
    return is_local(path) and os.path.exists(local_path(path))
