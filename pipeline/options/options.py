"""What a user may ask of `embed`. Each option is stated here and nowhere else.

The command line, the signature of `pipeline.embed`, the record at the head of a plan, docs/options.md and the
parameters of the Dataflow template are made from these fields.
"""

from __future__ import annotations

import dataclasses
import os
from typing import ClassVar

from pipeline.options.fields import Group, Text, Texts, check, convert, group, option, stated
from pipeline.options.payload import PayloadOptions
from pipeline.options.values import most_dead_letters, similarity, size
from transforms.errors import UsageError


def _formats() -> tuple[str, ...]:
    from transforms.formats import registry

    return ("auto", *registry.names())


def _modalities() -> tuple[str, ...]:
    from transforms import modality

    return modality.NAMES


def _folder(path: str | os.PathLike[str]) -> str:
    return os.path.expanduser(path) if "://" not in str(path) else str(path)


@group
class InputOptions(Group):
    """What is read."""

    title: ClassVar[str] = "input"
    input: Texts = option("file, glob, folder or URL to read; may be given several times", metavar="PATTERN")
    input_format: str = option(
        "how files are read; auto goes by their names", default="auto", choices=_formats
    )
    text_field: str | None = option(
        "field or column that is embedded", default=None, unset="text, image, audio or input_ids", chosen=True
    )
    id_field: str | None = option(
        "field or column that holds the document id", default=None, unset="file and position"
    )
    keep_field: Texts = option(
        "field or column carried to the output; may be given several times", default=()
    )
    keep_text: bool = option("carry the text to the output, too", default=False)
    limit: int | None = option("only the first N documents, to try things", default=None, least=1)


@group
class ModelOptions(Group):
    """What embeds."""

    title: ClassVar[str] = "model"
    model: Text = option(
        "TF Hub handle: folder, .tar.gz, URL, hf://, kaggle://, or the name minilm",
        default="minilm",
        metavar="HANDLE",
        compared=False,  # its digest is
    )
    modality: str | None = option(
        "what documents are",
        default=None,
        choices=_modalities,
        unset="by the model's signature",
        chosen=True,
    )
    signature: str | None = option(
        "signature of the SavedModel", default=None, unset="serving_default, or the model's call"
    )
    model_output: str | None = option("which output of the signature, where there are several", default=None)
    dim: int | None = option(
        "how many of a vector's numbers are kept, from the first, of models that were trained for it",
        default=None,
        least=1,
        unset="all",
        chosen=True,
    )
    max_tokens: int | None = option(
        "window in tokens: a smaller one than the model's, or that of a model that states none",
        default=None,
        least=1,
        chosen=True,
    )


@group
class ChunkingOptions(Group):
    """What becomes a vector, and which of them go through the model together."""

    title: ClassVar[str] = "chunking"
    long_documents: str = option(
        "documents longer than the window: mean of the chunks' vectors, truncate to the first window, or "
        "chunks for a row each",
        default="mean",
        choices=("mean", "truncate", "chunks"),
    )
    chunk_overlap: int = option("tokens that a chunk repeats of the one before", default=32, least=0)
    batch_tokens: int | None = option(
        "token budget of a mini-batch", default=None, least=1, unset="by device", chosen=True
    )


@group
class OutputOptions(Group):
    """What is written."""

    title: ClassVar[str] = "output"
    output_format: str = option("file format of the rows", default="parquet", choices=("parquet", "tfrecord"))
    vector_dtype: str = option(
        "type of the vectors' numbers", default="float32", choices=("float32", "float16", "int8", "ubinary")
    )
    tfrecord_gzip: bool = option("compress TFRecord files", default=False)
    duplicates: str = option(
        "documents that are said more than once: embed each, embed-once for all, or keep-first alone",
        default="each",
        choices=("each", "embed-once", "keep-first"),
    )
    near_duplicates: float | None = option(
        "texts whose words are as alike as this (Jaccard similarity, e.g. 0.9) are duplicates, too",
        default=None,
        metavar="SIMILARITY",
        parse=similarity,
    )
    shard_bytes: int | None = option(
        "input bytes of a shard, e.g. 8MiB",
        default=None,
        metavar="BYTES",
        least=1,
        parse=size,
        unset="by size and workers",
        chosen=True,
    )


@group
class RunOptions(Group):
    """Where and how it runs. The plan does not record these: they change no row."""

    title: ClassVar[str] = "run"
    output: Text = option("folder to write to", metavar="FOLDER", convert=_folder, group="output")
    skip_bad_files: bool = option(
        "a truncated or corrupt file becomes one dead letter, not an error", default=False, group="input"
    )
    max_dead_letters: Text = option(
        "more than this, a number or a percentage, fails the job", default="1%", metavar="N", group="output"
    )
    reuse: Texts = option(
        "take the vectors of documents that this earlier output has from there; may be given several times",
        default=(),
        metavar="PREVIOUS",
        group="output",
    )
    overwrite: bool = option(
        "delete what an earlier job left in the output folder, and start anew", default=False, group="output"
    )
    dry_run: bool = option(
        "print the plan (files, shards, bytes, estimates) and write nothing", default=False
    )
    runner: str = option("Beam runner; its own options pass through", default="DirectRunner")
    trace: bool = option("write what each mini-batch cost into _embedbeam/trace/", default=False)
    worker_gpus: int | None = option(
        "GPUs of each worker machine of a cluster", default=None, least=0, unset="0"
    )
    shared_filesystem: bool = option(
        "local paths are mounted under the same names on every worker machine", default=False
    )
    quiet: bool = option("no progress and no summary", default=False)
    verbose: bool = option("show the warnings of TensorFlow and Beam, and tracebacks", default=False)
    beam_args: Texts = option("Beam's own options, as they are typed", default=(), typed=False)


# What makes a job the job it is: its plan records them, and a rerun must not ask for others.
RECORDED = (InputOptions, ModelOptions, PayloadOptions, ChunkingOptions, OutputOptions)
GROUPS = (*RECORDED, RunOptions)
# What documents are, and what becomes of them: another model's job over the same documents takes these. The
# model's own options, its mini-batches and the shards are chosen anew.
OF_DOCUMENTS = ("input", "input_format", "text_field", "id_field", "keep_field", "modality")
OF_ROWS = (
    *("limit", "keep_text", "long_documents", "chunk_overlap", "nulls"),
    *("output_format", "vector_dtype", "tfrecord_gzip", "duplicates", "near_duplicates"),
)


@group
class Options(InputOptions, ModelOptions, PayloadOptions, ChunkingOptions, OutputOptions, RunOptions):
    """Options of `embed`, checked. None means: chosen for this job, and recorded in its plan."""

    def __post_init__(self) -> None:
        options = stated(*GROUPS)
        convert(self, options)
        for name, expected in (("input", "a path, a glob, a folder or a URL"), ("output", "a folder")):
            value = getattr(self, name)
            if not value or not all(value):
                raise UsageError(f"{name} is empty: expected {expected}", argument=name)
        check(self, options)
        if self.tfrecord_gzip and self.output_format != "tfrecord":
            raise UsageError(
                "tfrecord_gzip needs `output_format` tfrecord; Parquet is compressed already",
                argument="tfrecord_gzip",
            )
        if not all(self.reuse):
            raise UsageError("reuse is empty: expected the output folder of a job", argument="reuse")
        if self.near_duplicates is not None and self.duplicates == "each":
            reason = "finds what `duplicates` each embeds anyway; give `duplicates` embed-once or keep-first"
            raise UsageError(f"near_duplicates {self.near_duplicates}: {reason}", argument="near_duplicates")
        if self.near_duplicates is not None and (self.duplicates, self.long_documents) == (
            "embed-once",
            "chunks",
        ):
            reason = "a chunk's place and text are its own document's; give `duplicates` keep-first"
            raise UsageError(f"near_duplicates {self.near_duplicates}: {reason}", argument="near_duplicates")
        if self.keep_text and self.modality not in (None, "text"):
            raise UsageError("keep_text needs documents that are text", argument="keep_text")
        if self.modality == "image":
            for name in ("long_documents", "max_tokens"):
                if (value := getattr(self, name)) not in ("mean", None):
                    raise UsageError(f"{name} {value}: an image is embedded as a whole", argument=name)
        for name in sorted({n for n in self.keep_field if self.keep_field.count(n) > 1}):
            raise UsageError(f"keep_field {name} is given twice", argument="keep_field")
        most_dead_letters(self.max_dead_letters, 0)

    @classmethod
    def fields(cls) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)}
