"""Which earlier outputs have vectors that a job can use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.job import Job, job_of, recorded, vector_choices
from pipeline.options.options import Options
from pipeline.plan.plan import Plan
from pipeline.run.output import same_folder
from pipeline.run.screen import Screen
from pipeline.version import installed
from transforms import modality
from transforms.elements import Shard
from transforms.encoder.model.handle import digest, resolve
from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.pointer import followed
from transforms.output.reader import Output, open_output
from transforms.steps.join import buckets_for
from transforms.steps.reuse import Earlier, ReuseConfig, previous
from transforms.storage.files import full_path, is_local

# Of two jobs with the same vectors these say nothing of a shard's rows that the shard does not say itself.
_NOT_OF_ROWS = {
    *("input", "root", "files", "input_bytes", "shards", "shard_bytes", "limit", "identity"),
    *("batch_tokens", "window_chunks", "intra_op"),
    *("model", "model_revision", "preprocessor", "preprocessor_revision"),
}


class _Opened(NamedTuple):
    """An earlier output as it was named, and its job; None for one of another version."""

    given: str
    output: Output
    job: Job | None


class Reusing:
    """The outputs that are to be reused, opened.

    Raises:
      UsageError: one is no output, or the job's own.
    """

    def __init__(self, paths: Sequence[str], output: str):
        self._opened: list[_Opened] = []
        self._config: ReuseConfig | None = None
        for path in paths:
            try:
                here = followed(Folder(full_path(path))).path  # workers stay with the one that is current now
                if same_folder(here, followed(Folder(full_path(output))).path):
                    raise UsageError(f"{path}: is the job's own output; expected an earlier one")
                opened = open_output(here, lenient=True)
            except (UsageError, NotADirectoryError) as e:
                told = (
                    str(e) if isinstance(e, UsageError) else f"{path}: is a file; expected an output folder"
                )
                raise UsageError(f"reuse {told}", argument="reuse") from e
            try:
                job = job_of(opened.plan, opened.folder)
            except UsageError:
                job = None
            self._opened.append(_Opened(path, opened, job))

    @property
    def shard_bytes(self) -> int | None:
        """Input bytes of a shard of the first one."""
        return self._opened[0].job.shard_bytes if self._opened[0].job else None

    def config(self, job: Job, screen: Screen, *, joined: bool) -> ReuseConfig | None:
        """Those whose vectors a job can use; None where none fits. What differs in the others is said, once.

        Of an output that has not finished the committed shards serve.

        Args:
          joined: whether the runner finds the known documents, not each process by itself.
        """
        self._config = self._config or self._fitting(job, screen, joined)
        return self._config if self._config.outputs else None

    def foreseen(self, options: Options, plan: Plan, kept: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """Whether each fits, and what of a plan it has as it is; no model is loaded and no document is read.

        Args:
          kept: types of the kept fields.

        Returns:
          previous (as it was named), fits (None where nobody knows before the model is loaded), differing
          (what keeps it from that), shards and documents (of the plan, that would be taken over whole),
          unreadable (how many receipts are).
        """
        told, left = [], {shard.shard_id: shard for shard in plan.shards}
        for path, output, its in self._opened:
            known = job = None
            if its is not None:
                known = _known_digest(its, options)
                job = _expected(its, options, plan, kept, known or its.model_digest)
            differs = _differing(its, job) if job is not None else ["a plan of another version"]
            whole = []
            if its is not None and job is not None and not differs and _same_rows(its, job):
                receipts = {receipt.shard_id: receipt for receipt in output.receipts}
                same = [shard.shard_id for shard in output.plan.shards if _is_same(shard, left)]
                found = [receipts.get(left.pop(shard_id).shard_id) for shard_id in same]
                whole = [one for one in found if one and one.part and not (one.dead_letters or one.forgotten)]
            told.append(
                {
                    "previous": path,
                    "fits": False if differs else True if known else None,
                    "differing": differs,
                    "shards": len(whole),
                    "documents": sum(one.documents for one in whole),
                    "unreadable": 0 if differs else len(output.unreadable),
                }
            )
        return told

    def _fitting(self, job: Job, screen: Screen, joined: bool) -> ReuseConfig:
        previous.cache_clear()  # what an earlier job of this process has opened may have changed since
        found, rows = [], 0
        for path, output, its in self._opened:
            if differs := _differing(its, job):
                screen.say(f"reuse {path}: none of its vectors fit: it has {'; '.join(differs)}")
                continue
            if lost := output.unreadable:
                first = output.folder.join(layout.receipt(lost[0]))
                screen.say(
                    f"reuse {path}: {len(lost):,} receipts cannot be read, e.g. {first}; what these shards "
                    "have is embedded anew"
                )
            elif not output.complete:
                there = len(output.receipts)
                screen.say(f"reuse {path}: has not finished; its {there:,} committed shards serve")
            rows += output.manifest.rows if output.manifest else output.count
            whole = its is not None and _same_rows(its, job)
            found.append(Earlier(output.folder.path, output.plan.job, whole, _contents(output)))
        # The new documents may be as many again, or a hundred bytes each.
        buckets = buckets_for(max(2 * rows, rows + job.input_bytes // 100)) if joined else 0
        return ReuseConfig(tuple(found), job.keep_text, joined=joined, buckets=buckets)


def _known_digest(its: Job, options: Options) -> str | None:
    """The digest of the models that the options name; None where it takes a download to know it.

    Of handles that are the earlier job's own it is taken to be the same.
    """
    handles = [handle for handle in (options.model, options.preprocessor) if handle is not None]
    if all(is_local(handle) and os.path.isdir(os.path.expanduser(handle)) for handle in handles):
        return digest(*map(resolve, handles))
    said = recorded(options)
    return (
        its.model_digest if (its.model, its.preprocessor) == (said["model"], said["preprocessor"]) else None
    )


def _expected(its: Job, options: Options, plan: Plan, kept: Sequence[tuple[str, str]], model: str) -> Job:
    """The job that the options would make, were its model of this digest; what a model tells is as there."""
    of = modality.get(options.modality or its.modality or "text")
    options = dataclasses.replace(options, modality=of.name, text_field=options.text_field or of.field)
    chosen = {"batch_tokens": its.batch_tokens, "shard_bytes": plan.shard_bytes, "model_digest": model}
    chosen |= {"dim": options.dim or its.model_dim or its.dim, "embedbeam": installed("embedbeam")}
    return dataclasses.replace(its, **recorded(options) | chosen, kept=[list(pair) for pair in kept])


def _is_same(shard: Shard, others: Mapping[str, Shard]) -> bool:
    """Whether a shard is among others, of files that say when they were changed."""
    return others.get(shard.shard_id) == shard and all(piece.mtime is not None for piece in shard.slices)


def _contents(output: Output) -> str:
    """Another one when shards were committed, or documents forgotten, since."""
    if output.manifest is not None:
        told = output.manifest.to_json()
    else:
        told = json.dumps(sorted(output.folder.shards(layout.RECEIPTS))).encode()
    return hashlib.sha256(told).hexdigest()[:16]


def _differing(its: Job | None, job: Job) -> list[str]:
    """What keeps an earlier job's vectors from being this job's."""
    if its is None:
        return ["a plan of another version"]
    mine, there = ({"modality": one.modality or "text", **vector_choices(one)} for one in (job, its))
    names = sorted(name for name in mine.keys() | there.keys() if mine.get(name) != there.get(name))
    if not names and job.long_documents == "chunks" and job.keep_text and not its.keep_text:
        return ["no text of its chunks, which this job keeps"]
    return [f"{name} {_shown(there.get(name))}, not {_shown(mine.get(name))}" for name in names]


def _same_rows(its: Job, job: Job) -> bool:
    """Whether a shard that both have has the same rows in both: those of copies depend on other shards."""
    if job.duplicates == "keep-first" or job.near_duplicates is not None:
        return False
    mine, there = (dataclasses.asdict(one) for one in (job, its))
    return all(mine[name] == there[name] for name in mine.keys() - _NOT_OF_ROWS)


def _shown(value: object) -> str:
    text = str(value)
    return f"{text[:16]}…" if len(text) == 64 else text
