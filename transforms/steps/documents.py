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
from transforms.steps.columns import Values, kept_column, text_checked, undecoded
from transforms.texts import as_strings, blank, plain_values


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
    rows, columns = np.arange(len(raw.positions)), raw.columns
    if raw.bad:
        rows = np.delete(rows, list(raw.bad))
        columns = {name: _take(values, rows) for name, values in columns.items()}
    doc_ids, why = _ids(raw, slice, rows, options.id_field, columns)
    values = columns[options.text_field]
    if raw.whole:
        values = list(map(modality.from_file, values))
    payloads, refused = modality.decode(values, field=options.text_field)
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
        sound = np.delete(np.arange(len(rows)), list(why))
        rows, doc_ids, payloads = rows[sound], _take(doc_ids, sound), _take(payloads, sound)
        kept = {name: _take(values, sound) for name, values in kept.items()}
    return Checked(rows, doc_ids, payloads, kept, sorted(letters))


def _take(values: Values, rows: np.ndarray) -> Any:
    return [values[row] for row in rows.tolist()] if isinstance(values, list) else values.take(pa.array(rows))


def _places(raw: RawBlock, slice: Slice, rows: np.ndarray) -> pa.Array:
    """Ids that records have of their place."""
    if raw.whole:
        return pa.repeat(slice.source, len(rows))
    positions = pa.array(raw.positions[rows]).cast(pa.string())
    return pc.binary_join_element_wise(pa.scalar(slice.source), positions, ":")


def _ids(
    raw: RawBlock, slice: Slice, rows: np.ndarray, name: str | None, columns: dict[str, Values]
) -> tuple[pa.Array, Bad]:
    """Ids of the rows, and why some have none; those have that of their place."""
    found = None if name is None else columns.get(name)
    if name is None or found is None:
        return _places(raw, slice, rows), {}
    ids = _as_ids(found)
    if ids is not None and not blank(ids).true_count:
        return ids, {}
    values = plain_values(found)
    why = {i: (reason, "") for i, value in enumerate(values) if (reason := _wrong_id(value, name))}
    why |= undecoded(name, values)
    ids = zip(values, _places(raw, slice, rows).to_pylist(), strict=True)
    return pa.array([place if i in why else str(v) for i, (v, place) in enumerate(ids)], pa.string()), why


def _as_ids(found: Values) -> pa.Array | None:
    """The values as ids; None where one of them is neither text nor a whole number."""
    if isinstance(found, list):
        numbers_too = set(map(type, found)) <= {str, int}
        return as_strings(list(map(str, found))) if numbers_too else None
    if found.null_count:
        return None
    return found.cast(pa.string()) if types.is_integer(found.type) else as_strings(found)


def _wrong_id(found: Any, name: str) -> str:
    if type(found) is str:
        return "" if found and not found.isspace() else f"field {name!r} is blank, expected an id"
    if found is ABSENT:
        return f"missing field {name!r}"
    if found is None:
        return f"field {name!r} is null"
    is_int = type(found) is int
    return "" if is_int else f"field {name!r} is {type(found).__name__}, expected string or integer"


def document_columns(
    raw: RawBlock, slice: Slice, options: ReadOptions, modality: Modality, *, index: int, key: bytes
) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """A raw block's documents, in the columns of DocumentBlock, and its dead letters, both in order.

    Args:
      index: place in the shard of the block's first record.
      key: what changes vectors besides the payload, for fingerprints.
    """
    found = checked(raw, slice, options, modality)
    kept: list[pa.Array] = []
    why: Bad = {}
    for name, kind in options.kept:
        values, refused = kept_column(name, kind, found.kept[name])
        kept.append(values)
        why = refused | why

    def letter(row: int, doc_id: str, reason: tuple[str, str], payload: str) -> DeadLetter:
        position = int(raw.positions[row])
        return DeadLetter(doc_id, slice.source, position, "read", *reason, payload, index + row)

    letters = [letter(row, doc_id, (kind, why), raw.record(row)) for row, doc_id, kind, why in found.refused]
    for i, reason in why.items():
        payload = modality.shown(found.payloads[i].as_py())
        letters.append(letter(int(found.rows[i]), found.doc_ids[i].as_py(), reason, payload))
    columns = {
        "doc_id": found.doc_ids,
        "source": pa.repeat(slice.source, len(found.rows)),
        "position": pa.array(raw.positions[found.rows]),
        "index": pa.array(found.rows + index),
        "payload": found.payloads,
        "fingerprint": modality.fingerprint(found.payloads, key),
    }
    names = [*columns, *(name for name, _ in options.kept)]
    batch = pa.RecordBatch.from_arrays([*columns.values(), *kept], names)
    if why:
        batch = batch.take(pa.array(np.delete(np.arange(batch.num_rows), list(why))))
    return batch, sorted(letters, key=lambda letter: letter.index)


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
        if self._batches:
            yield DocumentBlock(self._shard_id, pa.concat_batches(self._batches))
        self._batches, self._rows, self._bytes = [], 0, 0
