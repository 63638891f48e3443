"""Which earlier outputs have vectors that a job can use."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.job import Job, job_of, vector_choices
from pipeline.run.screen import Screen
from transforms.errors import UsageError
from transforms.output.folder import Folder
from transforms.output.pointer import followed
from transforms.output.reader import Output, open_output
from transforms.steps.reuse import ReuseConfig
from transforms.storage.files import full_path


def reusable(paths: Sequence[str], job: Job, output: str, screen: Screen) -> ReuseConfig | None:
    """The earlier outputs that fit; None where none does. What differs in the others is said.

    Of an output that has not finished the committed shards serve.

    Raises:
      UsageError: one is no output, or the job's own.
    """
    found = []
    for path in paths:
        try:
            here = followed(Folder(full_path(path))).path  # workers stay with the one that is current now
            if here == followed(Folder(full_path(output))).path:
                raise UsageError(f"{path}: is the job's own output; expected an earlier one")
            previous = open_output(here)
        except UsageError as e:
            raise UsageError(f"reuse {e}", argument="reuse") from e
        if differs := _differing(previous, job):
            screen.say(f"reuse {path}: none of its vectors fit: it has {'; '.join(differs)}")
            continue
        if not previous.complete:
            there = len(previous.receipts)
            screen.say(f"reuse {path}: has not finished; its {there:,} committed shards serve")
        found.append((here, previous.plan.job))
    return ReuseConfig(tuple(found), job.keep_text) if found else None


def _differing(previous: Output, job: Job) -> list[str]:
    """What keeps its vectors from being this job's."""
    try:
        there = job_of(previous.plan, previous.folder)
    except UsageError:
        return ["a plan of another version"]
    mine, its = ({"modality": one.modality or "text", **vector_choices(one)} for one in (job, there))
    names = sorted(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))
    if not names and job.long_documents == "chunks" and job.keep_text and not there.keep_text:
        return ["no text of its chunks, which this job keeps"]
    return [f"{name} {_shown(its.get(name))}, not {_shown(mine.get(name))}" for name in names]


def _shown(value: object) -> str:
    text = str(value)
    return f"{text[:16]}…" if len(text) == 64 else text
