"""A look at the first records: do the named fields exist, and of which types are the kept ones?"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

from pipeline.options.options import Options
from pipeline.plan.plan import Plan, read_options
from transforms.elements import DeadLetter, Document, Slice
from transforms.errors import BadFileError, UsageError
from transforms.formats import read_slice
from transforms.formats.compression import compression_of
from transforms.output.schema import RowSchema

# Looked at: so many slices, spread over the plan, and so many records at the head of each.
_SLICES = 32
_RECORDS = 64
# Inputs of up to so many bytes are looked at as a whole where fields are kept, since every value has a say in
# its column's type.
_SMALL_INPUT = 64 << 20

_TYPES = {str: "string", bool: "bool", int: "int64", float: "double", bytes: "binary"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """Records from all over the input.

    Attributes:
      documents: those that could be read.
      letters: those that could not.
      bytes_per_document: input bytes (as they lie in the files) for a document; 0 if nothing was read.
      tokens_per_document: estimated from the length of the texts.
    """

    documents: tuple[Document, ...]
    letters: tuple[DeadLetter, ...]
    bytes_per_document: float
    tokens_per_document: float


def take_sample(plan: Plan, options: Options) -> Sample:
    """Reads the first records of slices all over the plan.

    Raises:
      UsageError: a column that was asked for is not in a file, or no record has the text field.
    """
    slices = [piece for shard in plan.shards for piece in shard.slices]
    if options.id_field is not None and {piece.format for piece in slices} <= {"lines", "txt"}:
        raise UsageError(f"--id-field {options.id_field}: the input is plain text, which has no fields")
    chosen, records = slices[:: max(1, len(slices) // _SLICES)][:_SLICES], _RECORDS
    if options.keep_field and plan.input_bytes <= _SMALL_INPUT:
        chosen, records = slices, plan.input_bytes + 1
    documents: list[Document] = []
    letters: list[DeadLetter] = []
    sampled, sampled_bytes = 0, 0.0
    for piece in chosen:
        head: list[Document | DeadLetter] = []
        limit = records
        try:
            limit = min(records, piece.limit or records)
            head = list(read_slice(dataclasses.replace(piece, limit=limit), read_options(options)))
        except BadFileError as e:
            if "column" in e.reason:  # the same in every file: the user named it wrongly
                raise UsageError(str(e)) from e
        documents += [element for element in head if isinstance(element, Document)]
        letters += [element for element in head if isinstance(element, DeadLetter)]
        sampled += len(head)
        sampled_bytes += _bytes_of(piece, head, whole=len(head) < limit)
    _check_fields(documents, letters, options)
    tokens = sum(2 + len(document.text.encode()) / 4 for document in documents)
    return Sample(
        tuple(documents), tuple(letters), sampled_bytes / max(1, sampled), tokens / max(1, len(documents))
    )


def _bytes_of(piece: Slice, head: Sequence[Document | DeadLetter], *, whole: bool) -> float:
    """Bytes of the file that the records took, estimated unless the slice was read to its end."""
    if whole or not head:
        return piece.bytes
    texts = "".join(e.text if isinstance(e, Document) else e.payload or "" for e in head).encode(
        "utf-8", "replace"
    )
    if piece.format in ("lines", "jsonl"):
        size = (head[-1].position - head[0].position) * len(head) / max(1, len(head) - 1)
    else:
        size = len(texts) * 1.2  # and a little for the other fields
    # How far a compressed file was read is not known; zlib tells about how much such text shrinks.
    return size * len(zlib.compress(texts)) / max(1, len(texts)) if compression_of(piece.path) else size


def _check_fields(documents: Sequence[Document], letters: Sequence[DeadLetter], options: Options) -> None:
    if documents or not letters:
        return
    first = letters[0]
    if all(letter.reason.startswith("missing field") for letter in letters):
        raise UsageError(
            f"{first.source} at {first.position}: {first.reason}, and so in all {len(letters)} records "
            f"looked at; name the right one with --text-field (now {options.text_field}) or --id-field"
        )


def kept_types(plan: Plan, sample: Sample, options: Options) -> tuple[tuple[str, str], ...]:
    """The type of each kept field: Parquet's own, else that of the sampled values; string if none is seen.

    Raises:
      UsageError: a field has values of two types, or the name of a column that the output has already.
    """
    types: dict[str, tuple[str, str]] = {}
    for source, name, kind in _parquet_types(plan, options):
        _merge(types, name, kind, source)
    for document in sample.documents:
        if document.source.lower().endswith((".parquet", ".pq")):
            continue
        for name in options.keep_field:
            value = document.kept.get(name)
            if value is not None:
                where = f"{document.source} at {document.position}"
                _merge(types, name, _TYPES.get(type(value), "string"), where)
    for name in options.keep_field:
        if name not in types and sample.documents:
            raise UsageError(
                f"--keep-field {name}: has no value in any of the {len(sample.documents):,} records looked "
                "at; check the name, or leave it out"
            )
    kept = tuple((name, types.get(name, ("string", ""))[0]) for name in options.keep_field)
    try:
        chunks = options.long_documents == "chunks"
        RowSchema(dim=1, kept=kept, chunks=chunks, keep_text=options.keep_text)
    except ValueError as e:
        raise UsageError(f"--keep-field: {e}") from e
    return kept


def _merge(types: dict[str, tuple[str, str]], name: str, kind: str, where: str) -> None:
    known, first = types.setdefault(name, (kind, where))
    if known == kind:
        return
    if {known, kind} == {"int64", "double"}:
        types[name] = ("double", first)
        return
    raise UsageError(
        f"--keep-field {name}: {known} ({first}) and {kind} ({where}); a column has one type: mend the "
        "input, or leave the field out"
    )


def _parquet_types(plan: Plan, options: Options) -> list[tuple[str, str, str]]:
    """(file, field, type) of the kept fields of every sampled Parquet file."""
    if not options.keep_field:
        return []
    from transforms.formats.parquet import column_types

    files = {piece.path: piece.source for s in plan.shards for piece in s.slices if piece.format == "parquet"}
    found = []
    for path in sorted(files)[:_SLICES]:
        try:
            types = column_types(path)
        except BadFileError:
            continue  # its shard will fail and say why
        found += [(files[path], name, types[name]) for name in options.keep_field if name in types]
    return found
