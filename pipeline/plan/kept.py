"""A look at the first records: do the named fields exist, and of which types are the kept ones?"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.options.options import Options
from pipeline.plan.plan import Plan, read_options
from transforms import modality
from transforms.elements import ABSENT, DeadLetter, Slice
from transforms.errors import BadFileError, UsageError
from transforms.formats import registry
from transforms.formats.base import RawBlock
from transforms.formats.compression import compression_of
from transforms.formats.slices import read_slice
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

Seen = dict[str, tuple[str, str]]  # a field's type, and where it was seen first


@dataclasses.dataclass
class Sample:
    """What records from all over the input tell.

    Attributes:
      documents: how many of them could be read.
      letters: how many could not.
      first_letter: of those; None if there is none.
      bytes_per_document: input bytes (as they lie in the files) for a document; 0 if nothing was read.
      tokens_per_document: estimated from the payloads.
      types: of the kept fields that have values, as far as no file states them.
    """

    documents: int = 0
    letters: int = 0
    first_letter: DeadLetter | None = None
    bytes_per_document: float = 0.0
    tokens_per_document: float = 0.0
    types: Seen = dataclasses.field(default_factory=dict)


def take_sample(plan: Plan, options: Options) -> Sample:
    """Reads the first records of slices all over the plan, or all of a small input where fields are kept.

    Raises:
      UsageError: a column that was asked for is not in a file, no record has the payload's field, or a kept
        field has values of two types.
    """
    slices = [piece for shard in plan.shards for piece in shard.slices]
    if options.id_field is not None and not any(registry.get(kind).has_fields for kind in _formats(slices)):
        raise UsageError(f"--id-field {options.id_field}: the input is plain text, which has no fields")
    looker = _Looker(options)
    if options.keep_field and plan.input_bytes <= _SMALL_INPUT:
        for piece in slices:
            looker.look(piece, most=None)
    else:
        for piece in slices[:: max(1, len(slices) // _SLICES)][:_SLICES]:
            looker.look(piece, most=_RECORDS)
    return looker.sample()


def _formats(slices: Iterable[Slice]) -> set[str]:
    return {piece.format for piece in slices}


class _Looker:
    """Goes through records block by block, and keeps types and sums of them."""

    def __init__(self, options: Options):
        self._options = options
        self._read = read_options(options)
        self._modality = modality.get("text")
        self._found = Sample()
        self._bytes = self._tokens = 0.0
        self._left = _LOOKED_AT
        self._missing = True  # whether all letters are of missing fields

    def look(self, piece: Slice, *, most: int | None) -> None:
        """Looks at the first `most` records of a slice, or at all of them as long as there is patience."""
        if self._left <= 0:
            most = _RECORDS
        limit = min((count for count in (most, piece.limit) if count is not None), default=None)
        blocks = read_slice(dataclasses.replace(piece, limit=limit), self._read)
        head: RawBlock | None = None
        records = size = taken = 0
        whole = True
        try:
            for raw in blocks:
                self._look_at(raw, piece)
                head = head or raw
                records += len(raw.positions)
                size += raw.size
                taken += raw.bytes
                self._left -= raw.size
                whole = limit is None or records < limit
                if most is None and self._left <= 0:
                    whole = False
                    break
        except BadFileError as e:
            if e.kind == "column":  # the same in every file: the user named it wrongly
                raise UsageError(str(e)) from e
            return
        if whole or head is None:
            self._bytes += piece.bytes
        else:  # how far a compressed file was read is not known
            self._bytes += taken if compression_of(piece.path) is None else size * _shrunk(head)

    def _look_at(self, raw: RawBlock, piece: Slice) -> None:
        from transforms.steps.documents import checked

        found = self._found
        block = checked(raw, piece, self._read, self._modality)
        found.documents += len(block.rows)
        found.letters += len(block.refused)
        for row, doc_id, kind, detail in block.refused:
            self._missing = self._missing and kind.startswith("missing field")
            if found.first_letter is None:
                position = int(raw.positions[row])
                found.first_letter = DeadLetter(doc_id, piece.source, position, "read", kind, detail)
        self._tokens += float(self._modality.estimate(block.payloads.to_pylist()).sum())
        if registry.get(piece.format).types is None:
            for name, values in block.kept.items():
                for row, value in _of_types(values):
                    where = f"{piece.source} at {raw.positions[block.rows[row]]}"
                    _merge(found.types, name, _type_of(value), where)

    def sample(self) -> Sample:
        found = self._found
        if not found.documents and found.first_letter is not None and self._missing:
            first, options = found.first_letter, self._options
            raise UsageError(
                f"{first.source} at {first.position}: {first.reason}, and so in all {found.letters} records "
                f"looked at; name the right one with --text-field (now {options.text_field}) or --id-field"
            )
        found.bytes_per_document = self._bytes / max(1, found.documents + found.letters)
        found.tokens_per_document = self._tokens / max(1, found.documents)
        return found


def _shrunk(head: RawBlock) -> float:
    """Compressed bytes for a byte of such records, as zlib has them."""
    records = range(min(_RECORDS, len(head.positions)))
    text = "".join(head.record(row) for row in records).encode("utf-8", "replace")
    return len(zlib.compress(text)) / max(1, len(text))


def _of_types(values: Any) -> Iterable[tuple[int, Any]]:
    """Row and value of the first value of each type."""
    if not isinstance(values, list) or set(map(type, values)) <= {type(None), type(ABSENT)}:
        return ()
    first: dict[str, tuple[int, Any]] = {}
    for row, value in enumerate(values):
        if value is not None and value is not ABSENT:
            first.setdefault(_type_of(value), (row, value))
    return first.values()


def _type_of(value: Any) -> str:
    if type(value) is not bytes:
        return _TYPES.get(type(value), "string")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return "binary"
    return "utf8"


def kept_types(plan: Plan, sample: Sample, options: Options) -> tuple[tuple[str, str], ...]:
    """The type of each kept field: what files state, else that of the sampled values; string if none is seen.

    Raises:
      UsageError: a field has values of two types, or the name of a column that the output has already.
    """
    types: Seen = {}
    for source, name, kind in _stated_types(plan, options):
        _merge(types, name, kind, source)
    for name, (kind, where) in sample.types.items():
        _merge(types, name, kind, where)
    for name in options.keep_field:
        if name not in types and sample.documents:
            raise UsageError(
                f"--keep-field {name}: has no value in any of the {sample.documents:,} records looked "
                "at; check the name, or leave it out"
            )
    found = {name: kind if kind != "utf8" else "string" for name, (kind, _) in types.items()}
    kept = tuple((name, found.get(name, "string")) for name in options.keep_field)
    try:
        chunks = options.long_documents == "chunks"
        RowSchema(dim=1, kept=kept, chunks=chunks, keep_text=options.keep_text)
    except ValueError as e:
        raise UsageError(f"--keep-field: {e}") from e
    return kept


def _merge(types: Seen, name: str, kind: str, where: str) -> None:
    known, first = types.setdefault(name, (kind, where))
    if known == kind:
        return
    common = _COMMON.get(frozenset({known, kind}))
    if common is None:
        known, kind = ("string" if one == "utf8" else one for one in (known, kind))
        raise UsageError(
            f"--keep-field {name}: {known} ({first}) and {kind} ({where}); a column has one type: mend the "
            "input, or leave the field out"
        )
    types[name] = (common, first)


def _stated_types(plan: Plan, options: Options) -> Sequence[tuple[str, str, str]]:
    """(file, field, type) of the kept fields of every sampled file that states them."""
    if not options.keep_field:
        return ()
    pieces = {p.path: p for s in plan.shards for p in s.slices if registry.get(p.format).types}
    found = []
    for path in sorted(pieces)[:_SLICES]:
        read = registry.get(pieces[path].format).types
        try:
            types = read(path) if read else {}
        except BadFileError:
            continue  # its shard will fail and say why
        found += [(pieces[path].source, name, types[name]) for name in options.keep_field if name in types]
    return found
