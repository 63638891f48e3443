"""The columns of the output, whatever the file format: their names, order, types, and values."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transforms.elements import Embedding

if TYPE_CHECKING:
    import pyarrow as pa

RESERVED = frozenset(
    ("doc_id", "embedding", "tokens", "tokens_dropped", "source", "position", "chunk", "start", "end", "text")
)
FLOAT16_MAX = 65504.0  # the largest finite float16

# Kinds of kept types that the sinks treat alike.
TEXT_TYPES = ("string", "json", "large_string")
BYTES_TYPES = ("binary", "large_binary")
FLOAT_TYPES = ("halffloat", "float", "double")

_INT_RANGES = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
# pyarrow's factory function by type name: some types are called otherwise in str().
_FACTORIES = {name: name for name in ("null", "string", "large_string", *BYTES_TYPES, *_INT_RANGES)}
_FACTORIES |= {
    "bool": "bool_",
    "json": "string",
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
}
_FACTORIES |= {"date32[day]": "date32", "date64[ms]": "date64"}


@dataclasses.dataclass(frozen=True, slots=True)
class RowSchema:
    """What a row holds.

    Attributes:
      dim: length of a vector.
      vector_dtype: float32 or float16.
      chunks: whether a row is a chunk (columns chunk, start and end) and not a document.
      keep_text: whether the embedded text is a column.
      kept: (field, type) of the input's kept fields, in column order. A type is string, int64, double, bool,
        json (stored as a string), binary, or the str() of another flat Arrow type.
    """

    dim: int
    vector_dtype: Literal["float32", "float16"] = "float32"
    chunks: bool = False
    keep_text: bool = False
    kept: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim: expected at least 1, got {self.dim}")
        if self.vector_dtype not in ("float32", "float16"):
            raise ValueError(f"vector_dtype: expected float32 or float16, got {self.vector_dtype!r}")
        seen: set[str] = set()
        for name, kind in self.kept:
            if not name or name in RESERVED:
                raise ValueError(
                    f"keep field {name!r}: the output has its own column of this name; rename the field in "
                    f"the input (taken: {', '.join(sorted(RESERVED))})"
                )
            if name in seen:
                raise ValueError(f"keep field {name!r}: named twice")
            seen.add(name)
            _check_type_name(name, kind)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for the plan file."""
        return dataclasses.asdict(self) | {"kept": [list(pair) for pair in self.kept]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> RowSchema:
        """The schema that `to_json` wrote."""
        return cls(**{**plain, "kept": tuple((name, kind) for name, kind in plain["kept"])})


def _check_type_name(name: str, kind: str) -> None:
    if kind in _FACTORIES:  # known without loading pyarrow
        return
    try:
        arrow_type(kind)
    except ValueError as e:
        raise ValueError(f"keep field {name!r}: {e}") from e


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type whose str() is `name`; json is a string.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])

    Raises:
      ValueError: for a nested, dictionary or unknown type.
    """
    import pyarrow as pa

    if name in _FACTORIES:
        return getattr(pa, _FACTORIES[name])()
    rules: tuple[tuple[str, Callable[..., pa.DataType]], ...] = (
        (r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]", pa.timestamp),
        (r"time32\[(s|ms)\]", pa.time32),
        (r"time64\[(us|ns)\]", pa.time64),
        (r"duration\[(s|ms|us|ns)\]", pa.duration),
        (r"decimal128\((\d+), (-?\d+)\)", lambda precision, scale: pa.decimal128(int(precision), int(scale))),
        (r"decimal256\((\d+), (-?\d+)\)", lambda precision, scale: pa.decimal256(int(precision), int(scale))),
        (r"fixed_size_binary\[(\d+)\]", lambda width: pa.binary(int(width))),
    )
    for pattern, make in rules:
        if found := re.fullmatch(pattern, name):
            return make(*found.groups())
    raise ValueError(f"expected a flat type such as int64 or timestamp[us], got {name!r}; keep it as json")


def arrow_schema(schema: RowSchema, metadata: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of the rows; `metadata` becomes the Parquet file's key-value metadata.

    Columns that every row fills are declared non-null.
    """
    import pyarrow as pa

    number = pa.float32() if schema.vector_dtype == "float32" else pa.float16()
    item = pa.field("item", number, nullable=False)
    fields = [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(item, schema.dim), nullable=False),
        pa.field("tokens", pa.int32()),
        pa.field("tokens_dropped", pa.int32()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
    ]
    if schema.chunks:
        fields.append(pa.field("chunk", pa.int32(), nullable=False))
        fields += [pa.field(name, pa.int64(), nullable=False) for name in ("start", "end")]
    if schema.keep_text:
        fields.append(pa.field("text", pa.string(), nullable=False))
    fields += [pa.field(name, arrow_type(kind)) for name, kind in schema.kept]
    return pa.schema(fields, metadata=dict(metadata))


def columns(schema: RowSchema, rows: Sequence[Embedding]) -> dict[str, list[Any]]:
    """The rows' values by column, in column order, without the vectors."""
    documents = [row.document for row in rows]
    values: dict[str, list[Any]] = {
        "doc_id": [document.doc_id for document in documents],
        "tokens": [row.tokens for row in rows],
        "tokens_dropped": [row.tokens_dropped for row in rows],
        "source": [document.source for document in documents],
        "position": [document.position for document in documents],
    }
    if schema.chunks:
        values |= {"chunk": [row.chunk for row in rows]}
        values |= {"start": [row.start for row in rows], "end": [row.end for row in rows]}
    if schema.keep_text:
        texts = [document.text for document in documents]
        if schema.chunks:  # start and end count characters of the document
            texts = [text[row.start : row.end] for text, row in zip(texts, rows, strict=True)]
        values["text"] = texts
    for name, _ in schema.kept:
        values[name] = [document.kept.get(name) for document in documents]
    return values


def stack_vectors(schema: RowSchema, rows: Sequence[Embedding], *, out: np.ndarray) -> None:
    """Copies the rows' vectors into `out`, [len(rows), dim] of the schema's dtype, C-contiguous.

    Raises:
      ValueError: naming the document, for a vector of another shape, or one that float16 cannot hold.
    """
    vectors = [row.vector for row in rows]
    if not vectors:
        return
    flat = np.empty(out.size, np.float32) if schema.vector_dtype == "float16" else out.reshape(-1)
    # Not by shape: len takes half the time, and concatenate itself refuses other ranks than out's.
    if set(map(len, vectors)) != {schema.dim}:
        raise _wrong_shape(schema, rows)
    try:
        np.concatenate(vectors, out=flat, casting="same_kind")
    except ValueError as e:
        raise _wrong_shape(schema, rows) from e
    if schema.vector_dtype == "float32":
        return
    block = flat.reshape(out.shape)
    fits = (np.abs(block) <= FLOAT16_MAX).all(axis=1)  # False for NaN too
    if not fits.all():
        row = int(np.argmin(fits))
        value = block[row][~(np.abs(block[row]) <= FLOAT16_MAX)][0]
        raise ValueError(
            f"document {rows[row].doc_id!r}: its vector holds {value}, and float16 ends at "
            f"{FLOAT16_MAX:.0f}; write float32 vectors"
        )
    out[...] = block


def _wrong_shape(schema: RowSchema, rows: Sequence[Embedding]) -> ValueError:
    wrong = next(row for row in rows if row.vector.shape != (schema.dim,))
    shape = list(wrong.vector.shape)
    return ValueError(f"document {wrong.doc_id!r}: expected a vector of shape [{schema.dim}], got {shape}")


_NAMES: dict[type, str] = {str: "string", bool: "bool", int: "int64", float: "double", bytes: "binary"}
_NAMES |= {dict: "object", list: "array"}


def _refusal(name: str, kind: str, value: Any, why: str = "") -> ValueError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    got = "integer" if type(value) is int and not -(2**63) <= value < 2**63 else _NAMES.get(type(value))
    return ValueError(f"keep field {name!r}: expected {kind}, got {got or type(value).__name__} {shown}{why}")


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text: no lone surrogate, which JSON's \\ud800 can bring in."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> str:
    """What JSON has no type for."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _to_json_text(name: str, value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except (ValueError, RecursionError) as e:
        raise _refusal(name, "json", value, f" ({e})") from e
    return text if _is_unicode(text) else json.dumps(value, allow_nan=False, default=_plain)


def check_kept(name: str, kind: str, value: Any) -> Any:
    """The value as a column of type `kind` takes it; None stays None.

    An int is good for a double, a bool is no int, a dict or list becomes JSON text, and a str in a json
    column is taken for JSON text already.

    >>> check_kept("year", "int64", "1999a")
    Traceback (most recent call last):
    ValueError: keep field 'year': expected int64, got string '1999a'
    """
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and kind in TEXT_TYPES:
        if _is_unicode(value):
            return value
        raise _refusal(name, kind, value, " (not valid Unicode: a lone surrogate)")
    if kind in _INT_RANGES and type(value) is int:
        low, high = _INT_RANGES[kind]
        if low <= value <= high:
            return value
        raise _refusal(name, kind, value, f" (out of its range, {low} to {high})")
    if kind in FLOAT_TYPES and isinstance(value, int | float) and type(value) is not bool:
        try:
            return float(value)
        except OverflowError as e:
            raise _refusal(name, kind, value, " (out of its range)") from e
    if kind == "json" and isinstance(value, dict | list):
        return _to_json_text(name, value)
    if kind == "bool" and type(value) is bool:
        return value
    if kind in BYTES_TYPES and isinstance(value, bytes):
        return value
    if kind not in _FACTORIES or kind.startswith("date"):
        return _check_by_arrow(name, kind, value)
    raise _refusal(name, kind, value)


def _check_by_arrow(name: str, kind: str, value: Any) -> Any:
    """Dates, times, decimals: the value if Arrow takes it, save strings, bools and floats."""
    import pyarrow as pa

    if isinstance(value, str | bool | float):
        raise _refusal(name, kind, value)
    # A count of nanoseconds is how such a time comes where pandas is not there to hold it.
    if isinstance(value, int) and "[ns" not in kind:
        raise _refusal(name, kind, value)
    try:
        pa.scalar(value, type=arrow_type(kind))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as e:
        raise _refusal(name, kind, value) from e
    return value
