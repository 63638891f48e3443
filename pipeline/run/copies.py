"""Documents that a job's input says more than once: found before the first is embedded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.build import PipelineConfig
from pipeline.duplicates.find import Duplicates, find_duplicates
from pipeline.duplicates.names import Names, left_out
from pipeline.duplicates.read import Column, mapped
from pipeline.job import Job
from pipeline.run.screen import Screen
from transforms.blocks import FINGERPRINT, DocumentBlock
from transforms.elements import Shard
from transforms.output import layout, plan_file
from transforms.output.buckets import begins
from transforms.output.copies import SCHEMA, write_copies
from transforms.output.fingerprints import halves
from transforms.output.folder import Folder
from transforms.output.pending import temporary_folder
from transforms.steps.copies import CopiesConfig
from transforms.steps.join import buckets_for
from transforms.steps.reuse import Earlier, ReuseConfig
from transforms.steps.shards import ReadConfig

_DONE = f"{layout.COPIES}/done.json"  # all shards were looked at


def with_copies(
    config: PipelineConfig, job: Job, shards: Sequence[Shard], screen: Screen, *, joined: bool
) -> PipelineConfig:
    """The steps of a job whose input may say documents more than once; what they need goes into its output.

    Args:
      joined: whether the runner finds exact copies, not this process. Near ones are always found here.

    Raises:
      BadFileError: a file cannot be read, and those are not skipped.
    """
    if job.duplicates == "each":
        return config
    folder, find, near = Folder(config.read.output), 0, job.near_duplicates
    if joined and near is None:
        find = _buckets(job)
    elif not _noted(folder, shards, config.read, near, screen):
        return config
    copies = CopiesConfig(config.read.output, job.duplicates == "keep-first")
    config = dataclasses.replace(config, copies=copies, find_copies=find)
    return config if copies.keep_first else _with_shared(config, job, shards, joined=joined)


def _buckets(job: Job) -> int:
    """How many documents there are nobody knows yet: a hundred bytes each, to be on the safe side."""
    return buckets_for(job.input_bytes // 100)


def _with_shared(
    config: PipelineConfig, job: Job, shards: Sequence[Shard], *, joined: bool
) -> PipelineConfig:
    """What has copies is embedded first, into an output of its own, which is reused like an earlier one."""
    path = f"{config.read.output}/{layout.SHARED}"
    head = {**dataclasses.asdict(job), "shared_for": job.identity}
    plan = plan_file.to_bytes(head, shards)
    Folder(path).create_new(layout.PLAN, plan)
    identity = plan_file.job_in(plan) or ""
    shared = dataclasses.replace(
        config,
        read=dataclasses.replace(config.read, output=path, job=identity, heard=False),
        write=dataclasses.replace(config.write, output=path, job=identity, trace=False, heard=False),
        find_copies=0,
    )
    reuse = config.reuse or ReuseConfig((), job.keep_text, joined=joined)
    buckets = max(reuse.buckets, _buckets(job)) if joined else 0
    outputs = (*reuse.outputs, Earlier(path, identity))
    return dataclasses.replace(
        config, shared=shared, reuse=dataclasses.replace(reuse, outputs=outputs, shared=True, buckets=buckets)
    )


def _noted(
    folder: Folder, shards: Sequence[Shard], config: ReadConfig, near: float | None, screen: Screen
) -> bool:
    """Notes for each shard which of its documents are copies; returns whether any is."""
    if (done := folder.read(_DONE)) is not None:
        record = json.loads(done)
        if record["job"] == config.job:
            return bool(record["copies"])
    with screen.telling("looking for duplicates") as told, temporary_folder("duplicates") as temporary:
        names = Names(f"{temporary}/names")
        high, low = (Column(f"{temporary}/{name}", np.uint64) for name in ("high", "low"))

        def hear(ordinals: np.ndarray, block: DocumentBlock) -> None:
            names.hear(ordinals, block)
            for column, values in zip((high, low), halves(block.columns.column(FINGERPRINT)), strict=True):
                column.add(ordinals, values)

        found = find_duplicates(shards, config, temporary, near=near, told=told, hear=hear)
        names.done()
        count = found.corpus.count
        prints = [column.done(count) for column in (high, low)]
        owns = mapped(f"{temporary}/owns", np.bool_, count, fill=0)
        for ordinals in left_out(found):
            owns[found.owners[ordinals]] = True
        ids = np.array([int(shard.shard_id, 16) for shard in shards], np.uint64)
        copies = sum(_write(folder, number, ids, found, owns, prints, names) for number in range(len(ids)))
    folder.write(_DONE, json.dumps({"job": config.job, "copies": copies}).encode())
    return bool(copies)


def _write(
    folder: Folder,
    number: int,
    ids: np.ndarray,
    found: Duplicates,
    owns: np.ndarray,
    prints: Sequence[np.ndarray],
    names: Names,
) -> int:
    """Writes a shard's notes: of each fingerprint that is there more than once the document that is kept.

    Args:
      ids: uint64 [shards], of the plan.

    Returns:
      How many of its documents are copies.
    """
    low, high = found.corpus.offsets[number : number + 2]
    owners, own = np.asarray(found.owners[low:high]), np.arange(low, high)
    copy = (owners >= 0) & (owners != own)
    chosen = np.flatnonzero(copy | owns[low:high])
    if not len(chosen):
        return 0
    its = np.stack([half[low:high][chosen] for half in prints])
    order = np.lexsort(its[::-1])
    chosen = chosen[order[begins(*its[:, order])]]
    of = owners[chosen]
    at = np.searchsorted(found.corpus.offsets, of, side="right") - 1
    columns = [
        *(half[low + chosen] for half in prints),
        *(half[of] for half in prints),
        ids[at],
        of - found.corpus.offsets[at],
        names.take(of)["doc_id"].combine_chunks(),
        found.similarity[low + chosen],
    ]
    write_copies(folder, f"{ids[number]:016x}", pa.table(list(map(pa.array, columns)), schema=SCHEMA))
    return int(copy.sum())
