"""Vectors in fewer bits: what is stored, and what is got back."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from transforms.output.schema import RowSchema, arrow_schema
from transforms.output.sinks.tfrecord import feature_spec
from transforms.output.vectors import as_matrix, stored

NUMBERS = st.floats(-1e6, 1e6, width=32)


def column(numbers):
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=NUMBERS))
def test_int8_is_within_half_a_step(vectors):
    numbers, scale = stored(vectors, "int8")
    assert numbers.dtype == np.int8
    assert scale.dtype == np.float32
    assert numbers.min() >= -127
    back = as_matrix(column(numbers), pa.array(scale))
    assert back.dtype == np.float32
    assert (np.abs(back - vectors) <= 0.5001 * scale[:, None] + 1e-30).all()


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.sampled_from([8, 16])), elements=NUMBERS))
def test_bits_are_signs(vectors):
    numbers, scale = stored(vectors, "ubinary")
    assert (numbers.dtype, numbers.shape[1], scale) == (np.uint8, vectors.shape[1] // 8, None)
    assert np.array_equal(as_matrix(column(numbers)), np.where(vectors > 0, 1, -1).astype(np.float32))


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_floats(kind):
    vectors = np.array([[0.5, -2.0]], np.float32)
    numbers, scale = stored(vectors, kind)
    assert (str(numbers.dtype), scale) == (kind, None)
    assert np.array_equal(as_matrix(column(numbers)), vectors)


def test_columns():
    assert arrow_schema(RowSchema(16, "int8"), {}).names[:4] == ["doc_id", "embedding", "scale", "tokens"]
    assert str(arrow_schema(RowSchema(16, "ubinary"), {}).field("embedding").type).endswith("[2]")
    assert feature_spec(RowSchema(16, "int8"))["scale"] == {"dtype": "float32", "shape": []}
    spec = feature_spec(RowSchema(16, "ubinary"))["embedding"]
    assert spec["decode_raw"] == {"dtype": "uint8", "shape": [2]}
    with pytest.raises(ValueError, match="the output has its own column of this name"):
        RowSchema(16, "int8", kept=(("scale", "double"),))
    RowSchema(16, kept=(("scale", "double"),))


def test_parquet_keeps_them():
    numbers, scale = stored(np.array([[0.5, -1.0], [0, 0]], np.float32), "int8")
    file = io.BytesIO()
    pq.write_table(pa.table({"embedding": column(numbers), "scale": scale}), file)
    table = pq.read_table(file).combine_chunks()
    back = as_matrix(table["embedding"].chunk(0), table["scale"].chunk(0))
    np.testing.assert_allclose(back, [[0.5, -1], [0, 0]], atol=0.004)
