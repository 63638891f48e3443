"""A look at the first records: do the named fields exist, and of which types are the kept ones?"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from typing import Any

from pipeline.options.options import Options
from pipeline.plan.plan import Plan, read_options
from transforms.elements import ABSENT, DeadLetter, Slice
from transforms.errors import BadFileError, UsageError
from transforms.formats import registry
from transforms.formats.base import RawBlock
from transforms.formats.compression import compression_of
from transforms.formats.slices import read_slice
from transforms.modality import Modality
from transforms.modality.text import TEXT
from transforms.output.schema import RowSchema

# Looked at: so many slices, spread over the plan, and so many records at the head of each.
_SLICES = 32
_RECORDS = 64
# Inputs of up to so many bytes are looked at as a whole where fields are kept, since every value has a say in
# its column's type; of compressed ones no more than so many decompressed bytes.
_SMALL_INPUT = 64 << 20
_LOOKED_AT = 256 << 20

_TYPES = {str: "string", bool: "bool", int: "int64", float: "double", list: "json"}
# Types of one column that have a common one. Formats that do not tell text from bytes give bytes, and those
# that do not tell a value from a list of one give both.
_COMMON = {
    frozenset({"int64", "double"}): "double",
    frozenset({"utf8", "binary"}): "binary",
    frozenset({"utf8", "string"}): "string",
} | {frozenset({one, "json"}): "json" for one in ("utf8", "binary", "int64", "double")}


@dataclasses.dataclass
class Sample:
    """What records from all over the input tell.

    Attributes:
      documents: how many of them could be read.
      letters: how many could not.
      first_letter: of those; None if there is none.
      missing: whether all of those are of missing fields.
      bytes: of the input, as they lie in the files, for all of these records.
      tokens: of the documents, estimated from the payloads.
      types: of the kept fields that have values or stated types, and where they were seen first.
      kept: name and type of each kept field; string if no value is seen.
    """

    documents: int = 0
    letters: int = 0
    first_letter: DeadLetter | None = None
    missing: bool = True
    bytes: float = 0.0
    tokens: float = 0.0
    types: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def bytes_per_document(self) -> float:
        """Input bytes for a record; 0 if nothing was read."""
        return self.bytes / max(1, self.documents + self.letters)

    @property
    def tokens_per_document(self) -> float:
        return self.tokens / max(1, self.documents)


def take_sample(plan: Plan, options: Options, of: Modality = TEXT) -> Sample:
    """Reads the first records of slices all over the plan, or all of a small input where fields are kept.

    Raises:
      UsageError: a column that was asked for is not in a file, no record has the payload's field, or a kept
        field has values of two types, none at all, or the name of a column that the output has already.
    """
    slices = [piece for shard in plan.shards for piece in shard.slices]
    fields = any(registry.get(kind).has_fields for kind in {piece.format for piece in slices})
    if options.id_field is not None and not fields:
        raise UsageError(f"--id-field {options.id_field}: the input is plain text, which has no fields")
    if of.fields and not fields:
        raise UsageError(f"--modality {of.name}: the input has no fields{_wanted(of)}")
    sample, left = Sample(), 0
    if options.keep_field and plan.input_bytes <= _SMALL_INPUT:
        left = _LOOKED_AT
    else:
        slices = slices[:: max(1, len(slices) // _SLICES)][:_SLICES]
    for piece in slices:
        left -= _look(sample, piece, options, of, patience=left)
    first = sample.first_letter
    if not sample.documents and first is not None and of.fields:
        raise UsageError(
            f"{first.source} at {first.position}: {first.reason}, and none of the {sample.letters} "
            f"records looked at is sound{_wanted(of)}"
        )
    if not sample.documents and first is not None and sample.missing:
        raise UsageError(
            f"{first.source} at {first.position}: {first.reason}, and so in all {sample.letters} records "
            f"looked at; name the right one with --text-field (now {options.text_field or of.field}) or "
            "--id-field"
        )
    sample.kept = _kept_types(sample, options)
    return sample


def _look(sample: Sample, piece: Slice, options: Options, of: Modality, *, patience: int) -> int:
    """Looks at the first records of a slice, or at all within so many bytes; returns how many those were."""
    most = _RECORDS if patience <= 0 else None
    limit = min(filter(None, (most, piece.limit)), default=None)
    head: RawBlock | None = None
    records = size = taken = 0
    try:
        for raw in read_slice(dataclasses.replace(piece, limit=limit), read_options(options, of)):
            _look_at(sample, raw, piece, options, of)
            head = head or raw
            records += len(raw.positions)
            size += raw.size
            taken += raw.bytes
            if records == limit or size >= patience > 0:
                # How far a compressed file was read is not known.
                sample.bytes += taken if compression_of(piece.path) is None else size * _shrunk(head)
                break
        else:
            sample.bytes += piece.bytes
    except BadFileError as e:
        if e.kind == "column":  # the same in every file: the user named it wrongly
            raise UsageError(f"{e}{_wanted(of)}") from e
    return size


def _wanted(of: Any) -> str:
    """What a message tells of the columns that a model takes."""
    return f"; the model takes ({of.described}): name columns with --column NAME=FEATURE" if of.fields else ""


def _look_at(sample: Sample, raw: RawBlock, piece: Slice, options: Options, of: Modality) -> None:
    from transforms.steps.documents import checked

    if reason := of.mismatch(raw.types):
        raise UsageError(f"{piece.source}: {reason}{_wanted(of)}")
    block = checked(raw, piece, read_options(options, of), of)
    sample.documents += len(block.rows)
    sample.letters += len(block.refused)
    for row, doc_id, reason, detail in block.refused:
        sample.missing = sample.missing and reason.startswith("missing field")
        if sample.first_letter is None:
            position = int(raw.positions[row])
            sample.first_letter = DeadLetter(doc_id, piece.source, position, "read", reason, detail)
    sample.tokens += float(of.estimate(block.payloads.to_pylist()).sum())
    for name, values in block.kept.items():
        if name in raw.types:
            _merge(sample, name, raw.types[name], piece.source)
        elif isinstance(values, list):
            for row, type_ in _types_of(values):
                _merge(sample, name, type_, f"{piece.source} at {raw.positions[block.rows[row]]}")


def _shrunk(head: RawBlock) -> float:
    """Compressed bytes for a byte of such records, as zlib has them."""
    records = range(min(_RECORDS, len(head.positions)))
    text = "".join(head.record(row) or "" for row in records).encode("utf-8", "replace")
    return len(zlib.compress(text)) / max(1, len(text))


def _types_of(values: list[Any]) -> Iterator[tuple[int, str]]:
    """The types of values, each after the first row that has it."""
    if set(map(type, values)) <= {type(None), type(ABSENT)}:
        return
    seen = set()
    for row, value in enumerate(values):
        if value is not None and value is not ABSENT and (found := _type_of(value)) not in seen:
            seen.add(found)
            yield row, found


def _type_of(value: Any) -> str:
    if type(value) is not bytes:
        return _TYPES.get(type(value), "string")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return "binary"
    return "utf8"


def _merge(sample: Sample, name: str, kind: str, where: str) -> None:
    known, first = sample.types.setdefault(name, (kind, where))
    if known == kind:
        return
    common = _COMMON.get(frozenset({known, kind}))
    if common is None:
        known, kind = ("string" if one == "utf8" else one for one in (known, kind))
        raise UsageError(
            f"--keep-field {name}: {known} ({first}) and {kind} ({where}); a column has one type: mend the "
            "input, or leave the field out"
        )
    sample.types[name] = (common, first)


def _kept_types(sample: Sample, options: Options) -> tuple[tuple[str, str], ...]:
    for name in options.keep_field:
        if name not in sample.types and sample.documents:
            raise UsageError(
                f"--keep-field {name}: has no value in any of the {sample.documents:,} records looked "
                "at; check the name, or leave it out"
            )
    found = {name: kind if kind != "utf8" else "string" for name, (kind, _) in sample.types.items()}
    kept = tuple((name, found.get(name, "string")) for name in options.keep_field)
    try:
        chunks = options.long_documents == "chunks"
        RowSchema(dim=1, kept=kept, chunks=chunks, keep_text=options.keep_text)
    except ValueError as e:
        raise UsageError(f"--keep-field: {e}") from e
    return kept
