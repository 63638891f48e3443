"""What makes a job this job: every choice that changes bytes, recorded at the head of its plan."""

from __future__ import annotations

import dataclasses
import hashlib
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
    PayloadOptions,
)
from pipeline.plan.plan import Plan
from pipeline.version import installed
from transforms import modality
from transforms.encoder import policy
from transforms.encoder.model.handle import at_revision, pin, redact, revision
from transforms.errors import UsageError
from transforms.modality import Modality
from transforms.output import layout
from transforms.output import plan_file as plans
from transforms.output.folder import Folder
from transforms.output.pending import process_token
from transforms.storage.files import full_path


@group
class Job(InputOptions, ModelOptions, PayloadOptions, ChunkingOptions, OutputOptions):
    """The head of plan.jsonl. Options that the user left open stand here as they were chosen.

    A resume on another machine takes them from here, so it makes the same mini-batches.

    Attributes:
      intra_op: threads of one of TensorFlow's ops on a CPU; None: by the device.
      model_dim: length of the model's own vectors; None in plans of earlier versions, where it is `dim`.
      payload: what the modality is told, as the fields of its dataclass.
      identity: of the job, as in its plan file; "" before that is made.
      model_revision, preprocessor_revision: the commit or the version that a hub's handle meant; None for
        other handles.
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
    model_dim: int | None = None
    batch_tokens: int
    window_chunks: int
    shard_bytes: int
    intra_op: int | None = None
    payload: dict[str, Any] = dataclasses.field(default_factory=dict)
    identity: str = ""
    model_revision: str | None = None
    preprocessor_revision: str | None = None

    def __post_init__(self) -> None:
        convert(self, stated(*RECORDED))


def recorded(options: Options) -> dict[str, Any]:
    """The options that the plan records, by name: absolute paths, no secrets."""
    values = {one.name: getattr(options, one.name) for one in stated(*RECORDED)}
    return values | {
        "input": tuple(redact(full_path(pattern)) for pattern in options.input),
        "model": redact(options.model),
        "preprocessor": options.preprocessor and redact(full_path(options.preprocessor)),
    }


def new_job(
    options: Options, plan: Plan, kept: tuple[tuple[str, str], ...], encoder: Any, *, near: bool = True
) -> Job:
    """The record of a new job, with everything that was left open chosen.

    `near` is whether this process embeds: what was tuned for its machine is not for others.
    """
    from transforms.steps.config import WINDOW_CHUNKS

    # Workers' GPUs are of a memory that is not known here.
    device = ("GPU",) if options.worker_gpus else (encoder.device, encoder.device_memory)
    tuned = encoder.tuned if near else None
    threads = encoder.threads if near else policy.threads(cores=1, device="CPU")
    if options.prompt is not None and encoder.can_count:
        windows = [n for n in (encoder.window, options.max_tokens) if n is not None]
        taken = int(encoder.count_tokens([""])[0])
        if windows and taken >= min(windows):
            reason = f"takes {taken} tokens of the {min(windows)} that the model embeds at once"
            raise UsageError(f"prompt {options.prompt}: {reason}; shorten it", argument="prompt")
    if options.vector_dtype == "ubinary" and encoder.dim % 8:
        reason = f"has eight numbers in a byte, and the vectors have {encoder.dim}; expected a multiple of 8"
        raise UsageError(f"vector_dtype ubinary: {reason}", argument="vector_dtype")
    budget = options.batch_tokens or (tuned.batch_tokens if tuned else policy.default_batch_tokens(*device))
    return Job(
        **recorded(options) | {"batch_tokens": budget, "shard_bytes": plan.shard_bytes, "dim": encoder.dim},
        embedbeam=installed("embedbeam"),
        root=redact(plan.root),
        files=plan.files,
        input_bytes=plan.input_bytes,
        shards=len(plan.shards),
        kept=[list(pair) for pair in kept],
        model_digest=encoder.digest,
        model_dtype=encoder.dtype,
        model_dim=encoder.model_dim,
        window_chunks=WINDOW_CHUNKS,
        intra_op=threads.intra_op,
        payload=dataclasses.asdict(encoder.modality),
        model_revision=revision(encoder.handle),
        preprocessor_revision=encoder.preprocessor and revision(encoder.preprocessor),
    )


def modality_of(job: Job) -> Modality:
    """What the job's documents are."""
    return modality.get(job.modality or "text", **job.payload)


def vector_choices(job: Job) -> dict[str, Any]:
    """What changes a document's vectors besides its payload, by name."""
    model = ("model_digest", "signature", "model_output", "max_tokens")
    what = {name: getattr(job, name) for name in (*model, "long_documents", "chunk_overlap", "vector_dtype")}
    # Options of later versions count where they are used: what was embedded before keeps its fingerprint.
    payload = [one for one in stated(PayloadOptions) if one.compared]
    values = {one.name: (getattr(job, one.name), one.default) for one in payload}
    what |= {name: value for name, (value, default) in values.items() if value != default}
    return what | ({"dim": job.dim} if job.model_dim not in (None, job.dim) else {})


def fingerprint_key(job: Job) -> bytes:
    """The same in 32 bytes, a part of every fingerprint."""
    return hashlib.sha256(json.dumps(vector_choices(job), sort_keys=True).encode()).digest()


def pinned(job: Job, options: Options) -> Options:
    """A rerun's models: the same handles mean what they meant to the job, whatever a hub has now."""
    found: dict[str, Any] = {}
    for name in ("model", "preprocessor"):
        handle, there = getattr(options, name), getattr(job, f"{name}_revision")
        if handle is not None:
            same = there and getattr(job, name) == recorded(options)[name]
            found[name] = at_revision(handle, there) if same else pin(handle)
    return dataclasses.replace(options, **found)


def with_choices(options: Options, job: Job) -> Options:
    """The options of a rerun, where it leaves them open as the job has them."""
    left_open = [one.name for one in stated(*RECORDED) if one.chosen and getattr(options, one.name) is None]
    values = {name: getattr(job, name) for name in left_open}
    if job.model_dim in (None, job.dim):  # the plan has what came of it
        values.pop("dim", None)
    return dataclasses.replace(options, **values)


def check_same_job(job: Job, options: Options, model_digest: str, model_revision: str | None) -> None:
    """Refuses a command that asks for otherwise than the plan: 'name: value there, value here'."""

    def show(value: Any) -> str:
        if value in (None, ()):
            return "not given"
        return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    def model(digest: str, handle: str, revision: str | None) -> str:
        return f"{digest[:16]}… ({redact(handle)}{f' at revision {revision}' if revision else ''})"

    found = []
    if job.model_digest != model_digest:
        there = model(job.model_digest, job.model, job.model_revision)
        here = model(model_digest, options.model, model_revision)
        found.append(f"model digest: {there} there, {here} here")
    values = recorded(options)
    if (job.preprocessor is None) != (options.preprocessor is None):
        found.append(f"`preprocessor`: {show(job.preprocessor)} there, {show(values['preprocessor'])} here")
    for one in stated(*RECORDED):
        here, there = values[one.name], getattr(job, one.name)
        left_open = here is None and one.chosen
        if one.compared and here != there and not left_open:
            found.append(f"`{one.name}`: {show(there)} there, {show(here)} here")
    if found:
        raise UsageError(
            f"output {options.output}: belongs to another job: {'; '.join(found)}. Use another folder, or "
            "`overwrite` to start anew",
            argument="output",
        )


def plan_file(job: Job, plan: Plan) -> bytes:
    """The plan file: the job on the first line, then a line a shard."""
    head = dataclasses.asdict(job)
    del head["identity"]
    return plans.to_bytes(head, plan.shards, launcher=process_token())


def job_of(plan: plans.PlanFile, folder: Folder) -> Job:
    """The job at the head of the plan of a folder.

    Raises:
      UsageError: the plan is not of this version.
    """
    try:
        return Job(**plan.head, identity=plan.job)
    except TypeError as e:
        raise plans.other_version(folder.join(layout.PLAN), e) from e
