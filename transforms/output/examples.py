"""Rows back from TFRecord files, the inverse of the sink."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.formats.example_message import example_class
from transforms.formats.tfrecord import records


def read_examples(path: str, name: str, schema: pa.Schema, block_rows: int) -> Iterator[pa.RecordBatch]:
    """The records of a file in blocks.

    Args:
      path: the file.
      name: what errors call it.
      schema: the columns that are wanted.
      block_rows: most rows of a block.

    Raises:
      BadFileError: the file is damaged.
    """
    found = records(path, name)
    while block := list(itertools.islice(found, block_rows)):
        yield columns_of(block, schema)


def columns_of(block: list[bytes], schema: pa.Schema) -> pa.RecordBatch:
    """Columns of some records."""
    parse = example_class(packed=True).FromString
    parsed = [parse(record).features.feature for record in block]
    arrays = [
        _vectors(field, parsed) if field.name == "embedding" else _column(field, parsed) for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _vectors(field: pa.Field, block: list[Any]) -> pa.Array:
    dtype = np.dtype(field.type.value_type.to_pandas_dtype())
    kind = "float_list" if dtype == np.float32 else "bytes_list"
    packed = b"".join(itertools.chain.from_iterable(getattr(f[field.name], kind).value for f in block))
    flat = np.frombuffer(packed, dtype.newbyteorder("<"))
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type)


def _column(field: pa.Field, block: list[Any]) -> pa.Array:
    # `in` first: reading an absent key of a protobuf map adds it.
    values = [_value(features[field.name]) if field.name in features else None for features in block]
    array = pa.array(values)
    if pa.types.is_binary(array.type) and "binary" not in str(field.type):
        array = array.cast(pa.string())  # dates and decimals are text in an Example
    return array.cast(field.type)


def _value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value
    return np.frombuffer(values[0], "<f4")[0] if kind == "float_list" else values[0]
