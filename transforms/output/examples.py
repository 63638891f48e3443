"""Rows back from TFRecord files, the inverse of the sink."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.formats.example_message import example_class
from transforms.formats.tfrecord import records

if TYPE_CHECKING:
    import pyarrow as pa


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
    import pyarrow as pa

    parse = example_class().FromString
    found = records(path, name)
    while block := [parse(record).features.feature for record in itertools.islice(found, block_rows)]:
        arrays = [
            _vectors(field, block) if field.name == "embedding" else _column(field, block) for field in schema
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _vectors(field: pa.Field, block: list[Any]) -> pa.Array:
    import pyarrow as pa

    if str(field.type.value_type) == "halffloat":
        packed = b"".join(features[field.name].bytes_list.value[0] for features in block)
        flat = np.frombuffer(packed, "<f2")
    else:
        flat = np.concatenate([np.array(features[field.name].float_list.value, "<f4") for features in block])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type)


def _column(field: pa.Field, block: list[Any]) -> pa.Array:
    import pyarrow as pa

    # `in` first: reading an absent key of a protobuf map adds it.
    values = [_value(features[field.name]) if field.name in features else None for features in block]
    is_bytes = any(isinstance(value, bytes) for value in values)
    array = pa.array(values, pa.binary() if is_bytes else None)
    kind = str(field.type)
    if not is_bytes or "binary" in kind:
        return array.cast(field.type)
    return array.cast(pa.string()).cast(field.type)  # dates and decimals are text in an Example


def _value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    return getattr(feature, kind).value[0]
