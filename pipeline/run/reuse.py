"""Which earlier outputs have vectors that a job can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.job import Job, job_of, vector_choices
from pipeline.run.screen import Screen
from transforms.errors import UsageError
from transforms.output.folder import Folder
from transforms.output.reader import Output, open_output
from transforms.steps.join import buckets_for
from transforms.steps.reuse import Earlier, ReuseConfig
from transforms.storage.files import full_path

# Of two jobs with the same vectors these say nothing of a shard's rows that the shard does not say itself.
_NOT_OF_ROWS = {
    *("input", "root", "files", "input_bytes", "shards", "shard_bytes", "limit", "identity"),
    *("batch_tokens", "window_chunks", "intra_op"),
    *("model", "model_revision", "preprocessor", "preprocessor_revision"),
}


class Opened(NamedTuple):
    """An earlier output as it was named, and its job; None for one of another version."""

    given: str
    output: Output
    job: Job | None


def open_earlier(paths: Sequence[str], output: str) -> list[Opened]:
    """Opens the outputs that are to be reused.

    Raises:
      UsageError: one is no output, or the job's own.
    """
    found = []
    for path in paths:
        here = full_path(path)
        if Folder(here).path == Folder(full_path(output)).path:
            raise UsageError(
                f"reuse {path}: is the job's own output; expected an earlier one", argument="reuse"
            )
        try:
            opened = open_output(here)
        except UsageError as e:
            raise UsageError(f"reuse {e}", argument="reuse") from e
        try:
            job = job_of(opened.plan, opened.folder)
        except UsageError:
            job = None
        found.append(Opened(path, opened, job))
    return found


def reusable(earlier: Sequence[Opened], job: Job, screen: Screen, *, joined: bool) -> ReuseConfig | None:
    """The earlier outputs that fit; None where none does. What differs in the others is said.

    Of an output that has not finished the committed shards serve.

    Args:
      joined: whether the runner finds the known documents, not each process by itself.
    """
    found, rows = [], 0
    for path, output, its in earlier:
        if differs := _differing(its, job):
            screen.say(f"reuse {path}: none of its vectors fit: it has {'; '.join(differs)}")
            continue
        if not output.complete:
            there = len(output.receipts)
            screen.say(f"reuse {path}: has not finished; its {there:,} committed shards serve")
        rows += output.manifest.rows if output.manifest else output.count
        found.append(Earlier(output.folder.path, output.plan.job, its is not None and _same_rows(its, job)))
    if not found:
        return None
    # The new documents may be as many again.
    return ReuseConfig(tuple(found), job.keep_text, joined, buckets_for(2 * rows) if joined else 0)


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
    """Whether a shard that both have has the same rows in both."""
    mine, there = (dataclasses.asdict(one) for one in (job, its))
    return all(mine[name] == there[name] for name in mine.keys() - _NOT_OF_ROWS)


def _shown(value: object) -> str:
    text = str(value)
    return f"{text[:16]}…" if len(text) == 64 else text
