"""What makes a job this job: every choice that changes bytes, recorded at the head of its plan."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.options.options import Options
from pipeline.plan.plan import Plan
from transforms.elements import Shard
from transforms.encoder import policy
from transforms.encoder.model.handle import redact
from transforms.errors import UsageError
from transforms.output.schema import RowSchema
from transforms.storage.files import full_path


@dataclasses.dataclass(frozen=True)
class Job:
    """The head of plan.jsonl. Options that the user left open stand here as they were chosen.

    A resume on another machine takes them from here, so it makes the same mini-batches.
    """

    embedbeam: str
    input: list[str]
    root: str
    files: int
    input_bytes: int
    shards: int
    input_format: str
    text_field: str
    id_field: str | None
    keep_field: list[str]
    kept: list[list[str]]
    keep_text: bool
    limit: int | None
    model: str
    model_digest: str
    signature: str | None
    model_output: str | None
    dim: int
    max_tokens: int | None
    model_dtype: str
    long_documents: str
    chunk_overlap: int
    batch_tokens: int
    window_chunks: int
    shard_bytes: int
    output_format: str
    vector_dtype: str
    tfrecord_gzip: bool


# Options that change rows, in the order in which a difference is reported.
_ROW_OPTIONS = (
    "input",
    "input_format",
    "text_field",
    "id_field",
    "keep_field",
    "keep_text",
    "limit",
    "signature",
    "model_output",
    "long_documents",
    "chunk_overlap",
    "output_format",
    "vector_dtype",
    "tfrecord_gzip",
)
# Options that may be left open; then the plan's values hold.
_CHOSEN_OPTIONS = ("max_tokens", "batch_tokens", "shard_bytes")


def embedbeam_version() -> str:
    try:
        return version("embedbeam")
    except PackageNotFoundError:  # run from a checkout
        return "0+unknown"


def recorded(options: Options, name: str) -> Any:
    """An option's value as the plan records it: absolute paths, no secrets."""
    value = getattr(options, name)
    if name == "input":
        return [redact(full_path(pattern)) for pattern in value]
    return list(value) if isinstance(value, tuple) else value


def new_job(options: Options, plan: Plan, kept: tuple[tuple[str, str], ...], encoder: Any) -> Job:
    """The record of a new job, with everything that was left open chosen."""
    from transforms.steps.batch import WINDOW_CHUNKS

    if options.worker_gpus:  # the workers', of a memory that is not known here
        budget = policy.default_batch_tokens("GPU")
    else:
        budget = policy.default_batch_tokens(encoder.device, encoder.device_memory)
    return Job(
        **{name: recorded(options, name) for name in _ROW_OPTIONS},
        embedbeam=embedbeam_version(),
        root=redact(plan.root),
        files=plan.files,
        input_bytes=plan.input_bytes,
        shards=len(plan.shards),
        kept=[list(pair) for pair in kept],
        model=redact(options.model),
        model_digest=encoder.digest,
        dim=encoder.dim,
        max_tokens=options.max_tokens,
        model_dtype=encoder.dtype,
        batch_tokens=options.batch_tokens or budget,
        window_chunks=WINDOW_CHUNKS,
        shard_bytes=plan.shard_bytes,
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
    for name in (*_ROW_OPTIONS, *_CHOSEN_OPTIONS):
        here, there = recorded(options, name), getattr(job, name)
        if here != there and not (here is None and name in _CHOSEN_OPTIONS):
            found.append(f"--{name.replace('_', '-')}: {_show(there)} there, {_show(here)} here")
    return found


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def check_same_job(job: Job, options: Options, model_digest: str) -> None:
    found = differences(job, options, model_digest)
    if found:
        raise UsageError(
            f"--output {options.output}: belongs to another job: {'; '.join(found)}. Use another folder, or "
            "--overwrite to start anew"
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
            "or --overwrite"
        ) from e
