"""What the duplicates of a plan are, in numbers, in words, and as a Parquet file."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.duplicates.find import Duplicates, find_duplicates
from pipeline.duplicates.names import Names, left_out, write_rows
from pipeline.duplicates.read import Column, mapped
from transforms.blocks import DocumentBlock
from transforms.elements import Shard
from transforms.errors import UsageError
from transforms.steps.shards import ReadConfig

_GROUPS, _MEMBERS = 10, 3  # the largest groups that are told, and how many copies of each
_EXCERPT = 80  # characters
_CHUNK = 1 << 20


def report(
    shards: Sequence[Shard],
    config: ReadConfig,
    folder: str,
    *,
    near: float | None,
    to: str | None,
    told: Callable[[str], None],
) -> dict[str, Any]:
    """Finds the duplicates of a plan and tells of them.

    Args:
      folder: for what is spilled; it exists and is the caller's to delete.
      near: least Jaccard similarity of near duplicates; None: exact copies alone.
      to: path or URL of a Parquet file with a row for each document that is left out; see `write_rows`.
      told: hears what is being done.

    Returns:
      documents, dead_letters, distinct (payloads), kept, exact and near (documents that are left out), groups
      (of two documents at least), bytes (of payloads), bytes_left_out; largest: of the largest groups the
      kept document, its excerpt, how many there are, and the first of the others.

    Raises:
      UsageError: there is no document.
      BadFileError: a file cannot be read, and those are not skipped.
    """
    weights = Column(f"{folder}/bytes")
    names = None if to is None else Names(f"{folder}/names")

    def hear(ordinals: np.ndarray, block: DocumentBlock) -> None:
        weights.add(ordinals, config.modality.weight(block.payloads))
        if names is not None:
            names.hear(ordinals, block)

    found = find_duplicates(shards, config, folder, near=near, told=told, hear=hear)
    count, dead = found.corpus.count, found.corpus.letters
    if dead == count:
        why = f": all {dead:,} records are dead letters, the first: {_why(found)}" if dead else ""
        raise UsageError(f"input: no documents{why}", argument="input")
    told("counting groups")
    sizes = mapped(f"{folder}/groups", np.int64, count, fill=0)
    size = weights.done(count)
    made = {"exact": 0, "near": 0, "bytes_left_out": 0}
    for at in range(0, count, _CHUNK):
        owners = np.asarray(found.owners[at : at + _CHUNK])
        np.add.at(sizes, owners[owners >= 0], 1)
    for ordinals in left_out(found):
        exact = int((found.exact[ordinals] == found.owners[ordinals]).sum())
        made["exact"] += exact
        made["near"] += len(ordinals) - exact
        made["bytes_left_out"] += int(size[ordinals].sum())
    distinct = sum(
        int((found.exact[at : at + _CHUNK] == np.arange(at, min(count, at + _CHUNK))).sum())
        for at in range(0, count, _CHUNK)
    )
    if names is not None and to is not None:
        told(f"writing {to}")
        names.done()
        write_rows(found, sizes, names, to)
    return {
        "documents": count - dead,
        "dead_letters": dead,
        "distinct": distinct,
        "kept": count - dead - made["exact"] - made["near"],
        **made,
        "bytes": int(size.sum()),
        "groups": sum(int((sizes[at : at + _CHUNK] > 1).sum()) for at in range(0, count, _CHUNK)),
        "largest": _largest(found, sizes, config),
        **({} if near is None else {"near_duplicates": near}),
        **({} if to is None else {"rows": to}),
    }


def _why(found: Duplicates) -> str:
    letter = found.corpus.first_letter
    return f"{letter.source} at {letter.position}: {letter.reason}" if letter else ""


def _largest(found: Duplicates, sizes: np.ndarray, config: ReadConfig) -> list[dict[str, Any]]:
    """The largest groups, of those of one size the first."""
    best: list[tuple[int, int]] = []  # smallest key first: minus the size, ordinal
    for at in range(0, len(sizes), _CHUNK):
        some = np.asarray(sizes[at : at + _CHUNK])
        order = np.argsort(-some, kind="stable")[:_GROUPS]
        best += [(-int(some[i]), at + int(i)) for i in order if some[i] > 1]
        best = sorted(best)[:_GROUPS]
    members: dict[int, list[int]] = {owner: [] for _, owner in best}
    for ordinals in left_out(found):
        owners = found.owners[ordinals]
        for owner, its in members.items():
            its.extend(ordinals[owners == owner][: _MEMBERS - len(its)].tolist())
    wanted = sorted({*members, *(one for its in members.values() for one in its)})
    seen = dict(_look(found, wanted, config))
    return [
        {
            **seen[owner],
            "group_size": -size,
            "others": [
                {name: seen[one][name] for name in ("doc_id", "source", "position")}
                | {"similarity": round(float(found.similarity[one]), 4)}
                for one in members[owner]
            ],
        }
        for size, owner in best
    ]


def _look(found: Duplicates, wanted: list[int], config: ReadConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """Documents of these ordinals: their shards are read once more."""
    for shard in sorted({bisect.bisect(found.corpus.offsets, one) - 1 for one in wanted}):
        for ordinals, block in found.corpus.shard(shard):
            for row in np.flatnonzero(np.isin(ordinals, wanted)).tolist():
                doc_id, source, position = (block.columns.column(i)[row].as_py() for i in range(3))
                text = " ".join(config.modality.shown(block.payloads[row].as_py())[: 10 * _EXCERPT].split())
                about = {"doc_id": doc_id, "source": source, "position": position}
                yield int(ordinals[row]), about | {"excerpt": text[:_EXCERPT]}


def words(made: dict[str, Any]) -> Iterator[str]:
    """The same in words."""

    def line(name: str, what: str) -> str:
        return f"{made[name]:>12,}  {what}"

    yield line(
        "documents",
        "documents" + (f", and {made['dead_letters']:,} dead letters" if made["dead_letters"] else ""),
    )
    yield line("exact", f"exact copies of others ({made['distinct']:,} payloads are distinct)")
    if "near_duplicates" in made:
        yield line(
            "near", f"near duplicates of others (Jaccard similarity of {made['near_duplicates']} or more)"
        )
    yield line("kept", "are left")
    share = made["bytes_left_out"] / max(1, made["bytes"])
    yield f"bytes of payloads: {made['bytes']:,}; without duplicates {share:.1%} less"
    if made["largest"]:
        yield f"the largest of {made['groups']:,} groups:"
    for group in made["largest"]:
        yield f"{group['group_size']:>12,}  {group['doc_id']}  {group['excerpt']!r}"
        others = ", ".join(f"{one['doc_id']} ({one['similarity']:g})" for one in group["others"])
        more = ", ..." if group["group_size"] - 1 > len(group["others"]) else ""
        yield f"{'':>14}{others}{more}"
    if "rows" in made:
        yield f"wrote {made['rows']}"
