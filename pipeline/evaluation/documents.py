"""Vectors of documents by their ids, found by one pass over an output."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pipeline.search.exact import unit
from transforms.output.reader import Output


def vectors_of(output: Output, ids: Collection[str]) -> dict[str, np.ndarray]:
    """Unit vectors of those documents that are there; where a row is a chunk, the mean of a document's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(ids), pa.string())
    sums: dict[str, np.ndarray] = {}
    for block in output.rows(["doc_id", *output.vector_columns]):
        some = block.filter(pc.is_in(block.column(0), wanted))
        vectors = output.matrix(some)
        for doc_id, vector in zip(some.column(0).to_pylist(), vectors, strict=True):
            sums[doc_id] = sums[doc_id] + vector if doc_id in sums else vector.copy()
    return dict(zip(sums, unit(np.stack(list(sums.values()))), strict=True)) if sums else {}


def known(output: Output, ids: Collection[str]) -> set[str]:
    """Those of the ids that the output has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, found = pa.array(sorted(ids), pa.string()), set()
    for block in output.rows(["doc_id"]):
        found.update(pc.filter(block.column(0), pc.is_in(block.column(0), wanted)).to_pylist())
    return found
