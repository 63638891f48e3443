"""Rows of tables as payloads: the columns that a model takes, in the types that it takes them in."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.types as types

from transforms.elements import ABSENT
from transforms.modality.cells import BadCell, arrow_kind, cell, may_hold, whole_column
from transforms.modality.protocol import Values, Whole, digests
from transforms.texts import Refusal, plain_values


@dataclasses.dataclass(frozen=True)
class Tabular(Whole):
    """The modality of rows; see Modality.

    Attributes:
      columns: column of the file, feature of the model, and the kind of its numbers, of each.
      nulls: what a missing value is: refuse (the row), zero, or nan of floats.
    """

    name: ClassVar[str] = "tabular"
    field: ClassVar[str] = "row"
    kind: ClassVar[str] = "any"
    bytes_a_token: ClassVar[int] = 1 << 10
    columnar: ClassVar[bool] = True

    columns: tuple[tuple[str, str, str], ...] = ()
    nulls: str = "refuse"

    def __post_init__(self) -> None:
        # A plan's record has lists.
        object.__setattr__(self, "columns", tuple((a, b, c) for a, b, c in self.columns))

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys(column for column, _, _ in self.columns))

    @property
    def described(self) -> str:
        """What the model takes, for people."""
        return ", ".join(
            f"{feature}: {kind}" + (f" (column {column!r})" if column != feature else "")
            for column, feature, kind in self.columns
        )

    @property
    def type(self) -> pa.DataType:
        """Of payloads: a struct with a field a feature, in the order of `columns`."""
        return pa.struct([(feature, arrow_kind(kind)) for _, feature, kind in self.columns])

    def mismatch(self, stated: Mapping[str, str]) -> str | None:
        """Why columns of the types that a file states do not fit the features; None if they do."""
        for column, feature, kind in self.columns:
            found = stated.get(column)
            if found is not None and not may_hold(found, kind):
                return f"column {column!r} is {found}, and the model's feature {feature!r} is {kind}"
        return None

    def values(self, payloads: pa.Array) -> Sequence[Any]:
        rows: Sequence[Any] = payloads
        return rows

    def decode(self, columns: Mapping[str, Values]) -> tuple[pa.Array, dict[int, Refusal]]:
        (first, *_) = columns.values()
        if self.fields and not set(self.fields) <= columns.keys():
            columns = self._of_dicts(first)
            first = next(iter(columns.values()))
        rows, made = len(first), []
        why: dict[int, Refusal] = {}
        for column, _, kind in self.columns:
            array, refused = self._feature(column, kind, columns[column])
            made.append(array)
            why = refused | why
        valid = np.ones(rows, bool)
        valid[list(why)] = False
        names = [feature for _, feature, _ in self.columns]
        return pa.StructArray.from_arrays(made, names, mask=pa.array(~valid)), why

    def _of_dicts(self, rows: Any) -> dict[str, Values]:
        """Columns of rows that are dicts, as elements of a user's own pipeline are."""
        dicts = [row if isinstance(row, dict) else {} for row in rows]
        return {column: [row.get(column, ABSENT) for row in dicts] for column in self.fields}

    def _feature(self, column: str, kind: str, values: Values) -> tuple[pa.Array, dict[int, Refusal]]:
        """A column as the model takes it, and why rows cannot be taken."""
        whole = whole_column(values, kind, self.nulls)
        if whole is not None:
            return whole, {}
        made: list[Any] = []
        why: dict[int, Refusal] = {}
        for row, value in enumerate(plain_values(values)):
            try:
                made.append(cell(column, kind, value, self.nulls))
            except BadCell as e:
                made.append(None)
                why[row] = e.why
        return pa.array(made, arrow_kind(kind)), why

    def from_file(self, data: bytes) -> Any:
        return None  # a file is no row

    def weight(self, payloads: pa.Array) -> np.ndarray:
        return np.full(len(payloads), payloads.nbytes // max(1, len(payloads)), np.int64)

    def shown(self, payload: Any) -> str:
        return repr(payload)

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """A row is a token."""
        return np.ones(len(payloads), np.int64)

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        """Of the values as the model gets them, by the features' names: the same from any file format."""
        columns = sorted(zip((f for _, f, _ in self.columns), payloads.flatten(), strict=True))
        head = "\0".join(f"{name} {column.type}" for name, column in columns).encode()
        return digests(_packed([column for _, column in columns]), key + head)


def _packed(columns: Sequence[pa.Array]) -> Iterator[bytes]:
    """Bytes of each row: numbers in little-endian order, texts after their length."""
    parts: list[list[bytes]] = []
    for column in columns:
        if types.is_string(column.type):
            texts = column.cast(pa.binary()).to_pylist()
            parts.append([struct.pack("<q", len(text)) + text for text in texts])
        else:
            values = column.to_numpy(zero_copy_only=False)
            values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
            data, size = values.tobytes(), values.dtype.itemsize
            parts.append([data[at : at + size] for at in range(0, len(data), size)])
    return map(b"".join, zip(*parts, strict=True))
