"""How the numbers of vectors are stored, and how they are got back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# What a stored number is, by the name of the vectors' type.
_STORED = {"float32": "float32", "float16": "float16", "int8": "int8", "ubinary": "uint8"}
VECTOR_TYPES = tuple(_STORED)
SCALE = "scale"  # the column beside int8 vectors


def stored_dtype(kind: str) -> np.dtype[Any]:
    """Of one stored number: of ubinary, a byte for eight of the vector's."""
    return np.dtype(_STORED[kind])


def stored_width(kind: str, dim: int) -> int:
    """How many numbers are stored of a vector."""
    return dim // 8 if kind == "ubinary" else dim


def stored(
    vectors: np.ndarray, kind: str, scale: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Vectors as they are stored, and a scale for each where that is needed.

    int8 is absmax quantisation, one scale a vector (Dettmers et al., LLM.int8(), 2022, section 2): the
    largest number becomes 127 or -127. ubinary has a bit for each number, 1 where it is above 0, the first in
    a byte's highest bit, as numpy.packbits and sentence-transformers have them.

    Args:
      vectors: float32 [n, dim], finite; of float16 within its range, of ubinary dim a multiple of 8.
      scale: float32 [n], of int8 vectors that were stored before; NaN where it is to be computed.

    Returns:
      [n, stored_width], and float32 [n] for int8, else None.

    >>> stored(np.array([[0.5, -1.0, 0.0]], np.float32), "int8")
    (array([[  64, -127,    0]], dtype=int8), array([0.00787402], dtype=float32))
    >>> stored(np.array([[1, -1, 1, -1, 0, 0, 0, 1]], np.float32), "ubinary")[0].tolist()
    [[161]]
    """
    if kind == "ubinary":
        return np.packbits(vectors > 0, axis=1), None
    if kind != "int8":
        return vectors.astype(_STORED[kind], copy=False), None
    computed = np.abs(vectors).max(axis=1, initial=0) / np.float32(127)
    scale = computed if scale is None else np.where(np.isnan(scale), computed, scale)
    parts = np.divide(
        vectors, scale[:, np.newaxis], out=np.zeros_like(vectors), where=scale[:, np.newaxis] > 0
    )
    return np.clip(np.rint(parts), -127, 127).astype(np.int8), scale


def as_matrix(column: pa.Array, scale: pa.Array | None = None) -> np.ndarray:
    """A column of vectors as float32 [rows, dim]: of bits 1 and -1.

    Args:
      scale: the column `scale`, which int8 vectors have beside them.
    """
    flat = column.flatten().to_numpy(zero_copy_only=False)
    matrix = flat.reshape(len(column), -1) if len(flat) else np.zeros((len(column), column.type.list_size))
    if flat.dtype == np.uint8:
        return np.unpackbits(matrix.astype(np.uint8), axis=1).astype(np.float32) * 2 - 1
    matrix = matrix.astype(np.float32, copy=False)
    return matrix if scale is None else matrix * scale.to_numpy(zero_copy_only=False)[:, np.newaxis]
