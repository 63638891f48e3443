"""Raw blocks of any format into documents and dead letters: column by column, no object for a good row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from transforms.blocks import BLOCK_BYTES, BLOCK_DOCUMENTS, DocumentBlock
from transforms.elements import ABSENT, DeadLetter, Slice
from transforms.formats.base import Bad, RawBlock, ReadOptions
from transforms.modality import Modality
from transforms.modality.protocol import Values
from transforms.output.column_types import BYTES_TYPES, TEXT_TYPES, KeptError, arrow_type, check_kept
from transforms.texts import as_strings, is_text, not_utf8, plain_values, sound_texts

# The kinds of kept columns that take values of Python's types as they are; all else is looked at one by one.
_TAKEN: dict[type, tuple[str, ...]] = {
    str: TEXT_TYPES,
    bytes: BYTES_TYPES,
    bool: ("bool",),
    float: ("double",),
    int: ("double", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))),
}


@dataclasses.dataclass(slots=True, eq=False)
class Checked:
    """A raw block whose ids and payloads were looked at.

    Attributes:
      rows: int64, the block's sound records.
      doc_ids, payloads: of the sound records, in Arrow.
      kept: raw values of the kept fields of the sound records, by name.
      refused: (number of the record, document's id, kind, detail) of all others, in order.
    """

    rows: np.ndarray
    doc_ids: pa.Array
    payloads: pa.Array
    kept: dict[str, Values]
    refused: list[tuple[int, str, str, str]]


def checked(raw: RawBlock, slice: Slice, options: ReadOptions, modality: Modality) -> Checked:
    """Tells sound records from others: the id, the payload, and kept text that is not UTF-8."""
    rows, columns = _without(len(raw.positions), raw.bad), raw.columns
    if raw.bad:
        columns = {name: _take(values, rows) for name, values in columns.items()}
    if options.id_field is None and raw.ids is not None:
        given = pa.array([raw.ids[row] for row in rows.tolist()], pa.string())
        doc_ids, why = pc.coalesce(given, _places(raw, slice, rows)), Bad()
    else:
        doc_ids, why = _ids(raw, slice, rows, options.id_field, columns)
    of_payload = {name: columns[name] for name in options.payload_fields}
    if raw.whole:
        of_payload = {name: list(map(modality.from_file, values)) for name, values in of_payload.items()}
    payloads, refused = modality.decode(of_payload)
    why = refused | why
    kept: dict[str, Values] = {}
    for name in options.keep_fields:
        values = columns.get(name)
        kept[name], refused = text_checked(name, pa.nulls(len(rows)) if values is None else values)
        why = refused | why
    bad = _places(raw, slice, np.fromiter(raw.bad, np.int64)).to_pylist()
    letters = [(row, doc_id, *raw.bad[row]) for row, doc_id in zip(raw.bad, bad, strict=True)]
    if why:
        letters += [(int(rows[i]), doc_ids[i].as_py(), *reason) for i, reason in why.items()]
        sound = _without(len(rows), why)
        rows, doc_ids, payloads = rows[sound], _take(doc_ids, sound), _take(payloads, sound)
        kept = {name: _take(values, sound) for name, values in kept.items()}
    return Checked(rows, doc_ids, payloads, kept, sorted(letters))


def _without(count: int, why: Bad) -> np.ndarray:
    """The numbers of rows that nothing is wrong with."""
    return np.delete(np.arange(count), list(why))


def _take(values: Values, rows: np.ndarray) -> Any:
    return [values[row] for row in rows.tolist()] if isinstance(values, list) else values.take(pa.array(rows))


def _places(raw: RawBlock, slice: Slice, rows: np.ndarray) -> pa.Array:
    """Ids that records have of their place."""
    if raw.whole:
        return pa.repeat(slice.source, len(rows))
    positions = pa.array(raw.positions[rows]).cast(pa.string())
    return pc.binary_join_element_wise(pa.scalar(slice.source), positions, ":")


def _sources(raw: RawBlock, slice: Slice, rows: np.ndarray) -> pa.Array:
    if raw.sources is None:
        return pa.repeat(slice.source, len(rows))
    found = _take(raw.sources, rows)
    return found if isinstance(found, pa.Array) else pa.array(found, pa.string())


def _ids(
    raw: RawBlock, slice: Slice, rows: np.ndarray, name: str | None, columns: dict[str, Values]
) -> tuple[pa.Array, Bad]:
    """Ids of the rows, and why some have none; those have that of their place."""
    found = None if name is None else columns.get(name)
    if name is None or found is None:
        return _places(raw, slice, rows), {}
    if isinstance(found, list):
        found = [str(value) if type(value) is int else value for value in found]
    else:
        found = found.dictionary_decode() if types.is_dictionary(found.type) else found
        found = found.cast(pa.string()) if types.is_integer(found.type) else found
    field, expected = f"field {name!r}", "string or integer"
    blank = (f"{field} is blank, expected an id", "")
    ids, why = sound_texts(found, name, blank=blank, expected=expected, where=f" of {field}")
    return pc.coalesce(ids, _places(raw, slice, rows)) if why else ids, why


def document_columns(
    raw: RawBlock, slice: Slice, options: ReadOptions, modality: Modality, *, index: int, key: bytes
) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """A raw block's documents, in the columns of DocumentBlock, and its dead letters, both in order.

    Args:
      index: place in the shard of the block's first record.
      key: what changes vectors besides the payload, for fingerprints.
    """
    found = checked(raw, slice, options, modality)
    columns = [
        ("doc_id", found.doc_ids),
        ("source", _sources(raw, slice, found.rows)),
        ("position", pa.array(raw.positions[found.rows])),
        ("index", pa.array(found.rows + index)),
        ("payload", found.payloads),
        ("fingerprint", modality.fingerprint(found.payloads, key)),
    ]
    why: Bad = {}
    for name, kind in options.kept:
        values, refused = kept_column(name, kind, found.kept[name])
        columns.append((name, values))
        why = refused | why
    batch = pa.RecordBatch.from_arrays([values for _, values in columns], [name for name, _ in columns])
    refusals = [(row, doc_id, kind, detail, raw.record(row)) for row, doc_id, kind, detail in found.refused]
    for i, (kind, detail) in why.items():
        payload = modality.shown(found.payloads[i].as_py())
        refusals.append((int(found.rows[i]), found.doc_ids[i].as_py(), kind, detail, payload))
    refusals.sort()
    sources = _sources(raw, slice, np.array([row for row, *_ in refusals], np.int64)).to_pylist()
    letters = [
        DeadLetter(doc_id, source, int(raw.positions[row]), "read", kind, detail, payload, index + row)
        for source, (row, doc_id, kind, detail, payload) in zip(sources, refusals, strict=True)
    ]
    if why:
        batch = batch.take(pa.array(_without(batch.num_rows, why)))
    return batch, letters


def undecoded(name: str, values: list[Any]) -> Bad:
    """Which values of a field are not UTF-8."""
    found = {i: not_utf8(value) for i, value in enumerate(values) if isinstance(value, UnicodeDecodeError)}
    return {i: (kind, f"{detail} of field {name!r}") for i, (kind, detail) in found.items()}


def text_checked(name: str, values: Values) -> tuple[Values, Bad]:
    """A kept field's values, text as plain strings, and which are not UTF-8."""
    if isinstance(values, pa.Array):
        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if not is_text(values.type):
            return values, {}
        texts = as_strings(values)
        if texts is not None:
            return texts, {}
    values = plain_values(values)
    return values, undecoded(name, values)


def kept_column(name: str, kind: str, values: Values) -> tuple[pa.Array, Bad]:
    """A kept field's values as a column of its type, and the refusals by row."""
    type_ = arrow_type(kind)
    if isinstance(values, pa.Array) and (values.type == type_ or types.is_null(values.type)):
        return values.cast(type_), {}
    values = [None if value is ABSENT else value for value in plain_values(values)]
    if all(kind in _TAKEN.get(found, ()) for found in {*map(type, values)} - {type(None)}):
        try:
            return pa.array(values, type_), {}
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass  # one of them is out of range: each alone tells
    made: list[Any] = []
    why: Bad = {}
    for row, value in enumerate(values):
        try:
            made.append(check_kept(name, kind, value))
        except KeptError as e:
            made.append(None)
            why[row] = e.kind, e.detail
    return pa.array(made, type_), why


class Gathered:
    """Documents of many small files put together to blocks of BLOCK_DOCUMENTS and about BLOCK_BYTES."""

    def __init__(self, shard_id: str):
        self._shard_id = shard_id
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch, size: int) -> Iterator[DocumentBlock]:
        """Takes documents of so many bytes; yields the block that they do not fit in any more."""
        if not batch.num_rows:
            return
        if self._rows + batch.num_rows > BLOCK_DOCUMENTS or self._bytes + size > BLOCK_BYTES:
            yield from self.rest()
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += size

    def rest(self) -> Iterator[DocumentBlock]:
        """What is left, at a shard's end."""
        batches, self._batches, self._rows, self._bytes = self._batches, [], 0, 0
        if batches:
            whole = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
            del batches  # a block may hold a huge document, and is held here no longer
            yield DocumentBlock(self._shard_id, whole)
