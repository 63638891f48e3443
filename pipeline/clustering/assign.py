"""Every row's cluster: what one part file's rows get, in their order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.search.exact import unit
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

NOISE = -1
_CELLS = 1 << 22  # similarities in memory at once: 16 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class Assign:
    """Gives each row the label of the reference that is nearest to it by cosine; pickled to workers.

    Attributes:
      references: unit vectors, float32 [m, dim]: the centres of k-means, or the rows HDBSCAN has seen.
      labels: of the references, int32 [m]; NOISE is no cluster.
      centres: of the clusters, unit vectors, float32 [clusters, dim].
      asked: how the references were found.
      chunks: whether a row is a chunk.
    """

    references: np.ndarray
    labels: np.ndarray
    centres: np.ndarray
    asked: dict[str, Any]
    chunks: bool
    name: str = "cluster"

    @property
    def choices(self) -> dict[str, Any]:
        """What tells this assignment from another one."""
        digest = hashlib.sha256(self.references.tobytes() + self.labels.tobytes() + self.centres.tobytes())
        return self.asked | {"centres_sha256": digest.hexdigest()}

    @property
    def rows_are(self) -> list[str]:
        """The columns that say which row one is."""
        return ["doc_id", "chunk"] if self.chunks else ["doc_id"]

    @property
    def schema(self) -> pa.Schema:
        """The columns of the labels; the cosine to the centre is null of noise, which has none."""
        import pyarrow as pa

        chunk = [pa.field("chunk", pa.int32(), nullable=False)] if self.chunks else []
        cluster = pa.field("cluster", pa.int32(), nullable=False)
        doc_id = pa.field("doc_id", pa.string(), nullable=False)
        return pa.schema([doc_id, *chunk, cluster, pa.field("cosine", pa.float32())])

    def part(self, output: Output, name: str) -> Iterator[pa.RecordBatch]:
        """The labels of one part's rows, in their order."""
        import pyarrow as pa

        ids, schema = self.rows_are, self.schema
        for block in output.part(name, [*ids, *output.vector_columns]):
            labels, cosine = self.nearest(unit(output.matrix(block)))
            columns = [*block.columns[: len(ids)], pa.array(labels), pa.array(cosine, mask=labels == NOISE)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def nearest(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of unit vectors [n, dim] the labels, int32 [n], and the cosines to their centres, float32 [n]."""
        rows = max(1, _CELLS // len(self.references))
        found = [
            (vectors[i : i + rows] @ self.references.T).argmax(axis=1) for i in range(0, len(vectors), rows)
        ]
        labels = self.labels[np.concatenate(found)] if found else np.zeros(0, np.int32)
        if not len(self.centres):
            return labels, np.zeros(len(labels), np.float32)
        return labels, np.einsum("nd,nd->n", vectors, self.centres[np.maximum(labels, 0)])
