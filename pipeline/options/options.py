"""What a user may ask of `embed`: one frozen, checked object, made from the command line or from Python."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypedDict

from transforms.errors import UsageError
from transforms.storage.files import is_local

FORMATS = ("auto", "lines", "txt", "jsonl", "csv", "tsv", "parquet", "tfrecord")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `embed`; `embedbeam embed --help` explains each.

    None means: chosen for this job, and recorded in its plan.
    """

    input: tuple[str, ...]
    output: str
    input_format: str = "auto"
    text_field: str = "text"
    id_field: str | None = None
    keep_field: tuple[str, ...] = ()
    keep_text: bool = False
    limit: int | None = None
    skip_bad_files: bool = False
    model: str = "minilm"
    signature: str | None = None
    model_output: str | None = None
    max_tokens: int | None = None
    long_documents: str = "mean"
    chunk_overlap: int = 32
    batch_tokens: int | None = None
    output_format: str = "parquet"
    vector_dtype: str = "float32"
    tfrecord_gzip: bool = False
    shard_bytes: int | None = None
    max_dead_letters: str = "1%"
    overwrite: bool = False
    dry_run: bool = False
    runner: str = "DirectRunner"
    worker_gpus: int | None = None
    shared_filesystem: bool = False
    quiet: bool = False
    verbose: bool = False
    beam_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("input", "keep_field", "beam_args"):
            value = getattr(self, name)
            values = (value,) if isinstance(value, (str, os.PathLike)) else value
            object.__setattr__(self, name, tuple(map(str, values)))
        object.__setattr__(self, "model", str(self.model))
        output = str(self.output)
        object.__setattr__(self, "output", os.path.expanduser(output) if is_local(output) else output)
        object.__setattr__(self, "max_dead_letters", str(self.max_dead_letters))
        if not self.input or not all(self.input):
            raise UsageError("--input is empty: expected a path, a glob, a folder or a URL")
        if not self.output:
            raise UsageError("--output is empty: expected a folder")
        _check_choice("--input-format", self.input_format, FORMATS)
        _check_choice("--output-format", self.output_format, ("parquet", "tfrecord"))
        _check_choice("--vector-dtype", self.vector_dtype, ("float32", "float16"))
        _check_choice("--long-documents", self.long_documents, ("mean", "truncate", "chunks"))
        for name in ("limit", "max_tokens", "batch_tokens", "shard_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} {value}: expected a number of 1 or more")
        if self.worker_gpus is not None and self.worker_gpus < 0:
            raise UsageError(f"--worker-gpus {self.worker_gpus}: expected 0 or more")
        if self.chunk_overlap < 0:
            raise UsageError(f"--chunk-overlap {self.chunk_overlap}: expected 0 or more tokens")
        if self.tfrecord_gzip and self.output_format != "tfrecord":
            raise UsageError("--tfrecord-gzip needs --output-format tfrecord; Parquet is compressed already")
        for name in sorted({n for n in self.keep_field if self.keep_field.count(n) > 1}):
            raise UsageError(f"--keep-field {name} is given twice")
        most_dead_letters(self.max_dead_letters, 0)

    @classmethod
    def fields(cls) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)}


class OptionsDict(TypedDict, total=False):
    """Keyword arguments of `pipeline.embed` beside input and output: the fields of Options."""

    input_format: str
    text_field: str
    id_field: str | None
    keep_field: Sequence[str]
    keep_text: bool
    limit: int | None
    skip_bad_files: bool
    model: str | os.PathLike[str]
    signature: str | None
    model_output: str | None
    max_tokens: int | None
    long_documents: str
    chunk_overlap: int
    batch_tokens: int | None
    output_format: str
    vector_dtype: str
    tfrecord_gzip: bool
    shard_bytes: int | None
    max_dead_letters: str | int
    overwrite: bool
    dry_run: bool
    runner: str
    worker_gpus: int | None
    shared_filesystem: bool
    quiet: bool
    verbose: bool
    beam_args: Sequence[str]


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{option} {value}: expected one of {', '.join(choices)}")


def most_dead_letters(limit: str, documents: int) -> int:
    """How many dead letters a job of so many documents may have.

    >>> most_dead_letters("1%", 250), most_dead_letters("7", 250)
    (2, 7)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", limit.strip())
    if not match or (not match[2] and "." in match[1]) or (match[2] and float(match[1]) > 100):
        raise UsageError(f"--max-dead-letters {limit}: expected a number like 10 or a percentage like 1%")
    return int(documents * Fraction(match[1]) / 100) if match[2] else int(match[1])


def size(text: str) -> int:
    """A number of bytes, with an optional unit.

    >>> size("64MiB"), size("10k"), size("123")
    (67108864, 10000, 123)
    """
    match = re.fullmatch(r"(\d+)\s*([kmg]i?|)b?", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes, like 1000000, 64MB or 64MiB")
    return int(match[1]) * _UNITS[match[2]]


def add_embed_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `embed`, in groups, with the defaults of Options."""
    defaults = {
        f.name: f.default for f in dataclasses.fields(Options) if f.default is not dataclasses.MISSING
    }

    def add(group: Any, flag: str, text: str, **kwargs: Any) -> None:
        default = defaults.get(flag[2:].replace("-", "_"))
        if kwargs.get("action") not in ("store_true", "append") and default is not None:
            text += f" (default: {default})"
        group.add_argument(flag, help=text.replace("%", "%%"), default=argparse.SUPPRESS, **kwargs)

    flag = {"action": "store_true"}
    g = parser.add_argument_group("input")
    add(
        g,
        "--input",
        "file, glob, folder or URL to read; may be given several times",
        action="append",
        required=True,
        metavar="PATTERN",
    )
    add(g, "--input-format", "how files are read; auto goes by their names", choices=FORMATS)
    add(g, "--text-field", "field or column that holds the text", metavar="NAME")
    add(
        g,
        "--id-field",
        "field or column that holds the document id (default: file and position)",
        metavar="NAME",
    )
    add(
        g,
        "--keep-field",
        "field or column carried to the output; may be given several times",
        action="append",
        metavar="NAME",
    )
    add(g, "--keep-text", "carry the text to the output, too", **flag)
    add(g, "--limit", "only the first N documents, to try things", type=int, metavar="N")
    add(g, "--skip-bad-files", "a truncated or corrupt file becomes one dead letter, not an error", **flag)
    g = parser.add_argument_group("model")
    add(g, "--model", "TF Hub handle: folder, .tar.gz, URL, or the name minilm", metavar="HANDLE")
    add(
        g,
        "--signature",
        "signature of the SavedModel (default: serving_default, or the model's call)",
        metavar="NAME",
    )
    add(g, "--model-output", "which output, where there are several", metavar="NAME")
    add(
        g,
        "--max-tokens",
        "window in tokens: a smaller one than the model's, or that of a model that states none",
        type=int,
        metavar="N",
    )
    add(
        g,
        "--long-documents",
        "documents longer than the window: mean of the chunks' vectors, first window, or a row a chunk",
        choices=("mean", "truncate", "chunks"),
    )
    add(g, "--chunk-overlap", "tokens that a chunk repeats of the one before", type=int, metavar="N")
    add(g, "--batch-tokens", "token budget of a mini-batch (default: by device)", type=int, metavar="N")
    g = parser.add_argument_group("output")
    add(g, "--output", "folder to write to", required=True, metavar="FOLDER")
    add(g, "--output-format", "file format", choices=("parquet", "tfrecord"))
    add(g, "--vector-dtype", "type of the vectors' numbers", choices=("float32", "float16"))
    add(g, "--tfrecord-gzip", "compress TFRecord files", **flag)
    add(
        g,
        "--shard-bytes",
        "input bytes of a shard, e.g. 8MiB (default: by size and workers)",
        type=size,
        metavar="BYTES",
    )
    add(g, "--max-dead-letters", "more than this, a number or a percentage, fails the job", metavar="N")
    add(g, "--overwrite", "delete what an earlier job left in the output folder, and start anew", **flag)
    g = parser.add_argument_group("run")
    add(g, "--dry-run", "print the plan (files, shards, bytes, estimates) and write nothing", **flag)
    add(g, "--runner", "Beam runner; its own options pass through", metavar="NAME")
    add(g, "--worker-gpus", "GPUs of each worker machine of a cluster (default: 0)", type=int, metavar="N")
    add(
        g,
        "--shared-filesystem",
        "local paths are mounted under the same names on every worker machine",
        **flag,
    )
    add(g, "--quiet", "no progress and no summary", **flag)
    add(g, "--verbose", "show the warnings of TensorFlow and Beam, and tracebacks", **flag)
