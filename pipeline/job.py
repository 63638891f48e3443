"""What makes a job this job: every choice that changes bytes, recorded at the head of its plan."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pipeline.options.fields import convert, group, stated
from pipeline.options.options import (
    RECORDED,
    ChunkingOptions,
    InputOptions,
    ModelOptions,
    Options,
    OutputOptions,
)
from pipeline.plan.plan import Plan
from pipeline.version import embedbeam_version
from transforms.elements import Shard
from transforms.encoder import policy
from transforms.encoder.model.handle import redact
from transforms.errors import UsageError
from transforms.output.schema import RowSchema
from transforms.storage.files import full_path


@group
class Job(InputOptions, ModelOptions, ChunkingOptions, OutputOptions):
    """The head of plan.jsonl. Options that the user left open stand here as they were chosen.

    A resume on another machine takes them from here, so it makes the same mini-batches.
    """

    embedbeam: str
    root: str
    files: int
    input_bytes: int
    shards: int
    kept: list[list[str]]
    model_digest: str
    dim: int
    model_dtype: str
    batch_tokens: int
    window_chunks: int
    shard_bytes: int

    def __post_init__(self) -> None:
        convert(self)


def plain(job: Job) -> dict[str, Any]:
    """A job's record as JSON holds it."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(job)))
    return plain


def recorded(options: Options) -> dict[str, Any]:
    """The options that the plan records, by name: absolute paths, no secrets."""
    values = {one.name: getattr(options, one.name) for one in stated(*RECORDED)}
    return values | {
        "input": tuple(redact(full_path(pattern)) for pattern in options.input),
        "model": redact(options.model),
    }


def new_job(options: Options, plan: Plan, kept: tuple[tuple[str, str], ...], encoder: Any) -> Job:
    """The record of a new job, with everything that was left open chosen."""
    from transforms.steps.batch import WINDOW_CHUNKS

    if options.worker_gpus:  # the workers', of a memory that is not known here
        budget = policy.default_batch_tokens("GPU")
    else:
        budget = policy.default_batch_tokens(encoder.device, encoder.device_memory)
    return Job(
        **recorded(options)
        | {"batch_tokens": options.batch_tokens or budget, "shard_bytes": plan.shard_bytes},
        embedbeam=embedbeam_version(),
        root=redact(plan.root),
        files=plan.files,
        input_bytes=plan.input_bytes,
        shards=len(plan.shards),
        kept=[list(pair) for pair in kept],
        model_digest=encoder.digest,
        dim=encoder.dim,
        model_dtype=encoder.dtype,
        window_chunks=WINDOW_CHUNKS,
    )


def row_schema(job: Job) -> RowSchema:
    return RowSchema(
        dim=job.dim,
        vector_dtype=job.vector_dtype,  # type: ignore[arg-type]  # checked when the options were made
        chunks=job.long_documents == "chunks",
        keep_text=job.keep_text,
        kept=tuple((name, kind) for name, kind in job.kept),
    )


def differences(job: Job, options: Options, digest: str) -> list[str]:
    """What a command asks for otherwise than the plan: 'name: value there, value here'."""
    found = []
    if job.model_digest != digest:
        found.append(
            f"model digest: {job.model_digest[:16]}… ({job.model}) there, {digest[:16]}… "
            f"({redact(options.model)}) here"
        )
    values = recorded(options)
    for one in stated(*RECORDED):
        here, there = values[one.name], getattr(job, one.name)
        left_open = here is None and one.about.chosen
        if one.about.compared and here != there and not left_open:
            found.append(f"`{one.name}`: {_show(there)} there, {_show(here)} here")
    return found


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check_same_job(job: Job, options: Options, model_digest: str) -> None:
    found = differences(job, options, model_digest)
    if found:
        raise UsageError(
            f"output {options.output}: belongs to another job: {'; '.join(found)}. Use another folder, or "
            "`overwrite` to start anew",
            argument="output",
        )


def plan_file(job: Job, plan: Plan) -> bytes:
    """The plan file: the job on the first line, then a line a shard."""
    head = json.dumps(dataclasses.asdict(job), ensure_ascii=False)
    if not head.isprintable():  # a path may hold separators of lines, or bytes that are not UTF-8
        head = json.dumps(dataclasses.asdict(job))
    return "".join(f"{line}\n" for line in (head, *(s.to_line() for s in plan.shards))).encode()


def parse_plan(data: bytes, where: str) -> tuple[Job, list[Shard]]:
    """The inverse of plan_file.

    Raises:
      UsageError: the file is not a plan of this version.
    """
    try:
        # Not splitlines: names may hold U+2028, which is no end of a line here.
        head, *lines = data.decode().rstrip("\n").split("\n")
        return Job(**json.loads(head)), [Shard.from_line(line) for line in lines]
    except (ValueError, TypeError, KeyError) as e:
        raise UsageError(
            f"{where}: not a plan of this version of embedbeam ({e}); use another output folder, "
            "or `overwrite`"
        ) from e
