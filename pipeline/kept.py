"""A look at the first records: do the named fields exist, and of which types are the kept ones?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.options import Options
from pipeline.plan import Plan, read_options
from transforms.elements import DeadLetter, Document, Slice
from transforms.errors import BadFileError, UsageError
from transforms.read import read_slice
from transforms.write.schema import RowSchema

# Looked at: so many slices, spread over the plan, and so many records at the head of each.
_SLICES = 32
_RECORDS = 64

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
    chosen = slices[:: max(1, len(slices) // _SLICES)][:_SLICES]
    documents: list[Document] = []
    letters: list[DeadLetter] = []
    sampled, sampled_bytes = 0, 0.0
    for piece in chosen:
        head: list[Document | DeadLetter] = []
        try:
            limit = min(_RECORDS, piece.limit or _RECORDS)
            head = list(read_slice(dataclasses.replace(piece, limit=limit), read_options(options)))
        except BadFileError as e:
            if "column" in e.reason:  # the same in every file: the user named it wrongly
                raise UsageError(str(e)) from e
        documents += [element for element in head if isinstance(element, Document)]
        letters += [element for element in head if isinstance(element, DeadLetter)]
        sampled += len(head)
        sampled_bytes += _bytes_of(piece, head)
    _check_fields(documents, letters, options)
    tokens = sum(2 + len(document.text.encode()) / 4 for document in documents)
    return Sample(
        tuple(documents), tuple(letters), sampled_bytes / max(1, sampled), tokens / max(1, len(documents))
    )


def _bytes_of(piece: Slice, head: Sequence[Document | DeadLetter]) -> float:
    """Bytes that the records took; the whole slice if it was read to its end."""
    if len(head) < _RECORDS:
        return piece.bytes
    if piece.format in ("lines", "jsonl"):
        return head[-1].position - head[0].position
    # How much of the file the records were is not known; take their texts, and a little for the rest.
    return sum(len((e.text if isinstance(e, Document) else e.payload or "").encode()) for e in head) * 1.2


def _check_fields(documents: Sequence[Document], letters: Sequence[DeadLetter], options: Options) -> None:
    if documents or not letters:
        return
    first = letters[0]
    if "field" in first.reason:
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
    kept = tuple((name, types.get(name, ("string", ""))[0]) for name in options.keep_field)
    try:
        RowSchema(dim=1, kept=kept)
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
    from transforms.read.parquet import column_types

    files = {piece.path: piece.source for s in plan.shards for piece in s.slices if piece.format == "parquet"}
    found = []
    for path in sorted(files)[:_SLICES]:
        try:
            types = column_types(path)
        except BadFileError:
            continue  # its shard will fail and say why
        found += [(files[path], name, types[name]) for name in options.keep_field if name in types]
    return found
