"""What a job made: manifest.json, written when the books balance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transforms.output import layout
from transforms.output.folder import Folder, to_json


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a job made; also manifest.json.

    Attributes:
      output: the folder.
      job: the job's identity, as in its plan.
      documents: read; each is a row (or rows, where rows are chunks), a dead letter, left out, or forgotten.
      dead_letters: by reason.
      tokens, tokens_dropped: of the embedded documents; None where the model cannot count.
      wall_seconds: of the run that finished the job; earlier, interrupted ones not counted.
      feature_spec: how to parse TFRecord output; None for Parquet.
      skipped: records of the input that are no documents, by what they are.
      model_revision: the commit or the version that a hub's handle meant; None for other handles.
      mini_batches, retries: of all committed shards; calls of the model beyond one for each.
      reused: documents whose vectors an earlier output had.
      embedded: documents that went through the model.
      copied: documents that have the vectors of another one of the job, with which they are duplicates.
      left_out: documents that are no rows, since another one says the same.
      left_out_of_dead: those of them whose other one is a dead letter: no row says what they say.
      forgotten: documents that were taken out of the output after the job, by `embedbeam forget`.
      model_waited: how much the model waited for mini-batches, as `ledger.waiting` has it.
    """

    output: str
    job: str
    options: Mapping[str, Any]
    model: str
    model_digest: str
    dim: int
    dtype: str
    documents: int
    rows: int
    dead_letters: Mapping[str, int]
    tokens: int | None
    tokens_dropped: int | None
    shards: int
    parts: int
    output_bytes: int
    wall_seconds: float
    device: str
    host: str
    finished: str
    versions: Mapping[str, str]
    feature_spec: Mapping[str, Any] | None = None
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    model_revision: str | None = None
    mini_batches: int = 0
    retries: int = 0
    reused: int = 0
    embedded: int | None = None
    copied: int = 0
    left_out: int = 0
    left_out_of_dead: int = 0
    forgotten: int = 0
    model_waited: Mapping[str, float] | None = None

    def to_json(self) -> bytes:
        return to_json(self)


def read(folder: Folder, job: str | None = None) -> Manifest | None:
    """The manifest of this job (of any, if None); None if there is none that can be read."""
    return folder.record(layout.MANIFEST, Manifest, job)
