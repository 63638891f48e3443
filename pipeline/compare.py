"""How far two models agree on the same documents: a seeded sample of those that both outputs have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.documents import vectors_of
from pipeline.evaluation.intervals import of_means
from pipeline.evaluation.pairs import KnownPairs
from pipeline.evaluation.tables import listed, spread
from pipeline.search.exact import TILE, Best, blocks_of, unit
from pipeline.search.hits import take
from pipeline.target import begin
from transforms.errors import UsageError
from transforms.output.pending import committing
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

_PAIRED = 2000  # sampled documents whose similarities to each other are ranked: two million pairs


class Both:
    """The documents that two outputs have, numbered by a seeded hash of their ids: the first are a sample.

    Memory: 16 bytes for each document of each output, and 16 more for those in both.

    Attributes:
      outputs: OLD and NEW.
      documents: how many each has; where a row is a chunk, several rows are one.
      places: of each output which of its documents each one is, int64 [documents in both].
    """

    def __init__(self, outputs: Sequence[Output], seed: int, told: Callable[[str], None] = lambda _: None):
        keys = []
        self._firsts = []
        for name, output in zip(("OLD", "NEW"), outputs, strict=True):
            told(f"reading the ids of {name}")
            key, first = _keys(output, seed)
            keys.append(key)
            self._firsts.append(first)
        self.outputs, self.documents = outputs, [len(key) for key in keys]
        _, *self.places = np.intersect1d(keys[0], keys[1], return_indices=True)  # of equal ids the first

    def __len__(self) -> int:
        return len(self.places[0])

    def rows(self, of: int, columns: Sequence[str], count: int) -> pa.Table:
        """Columns of the first row of each of the first `count` documents, in OLD (0) or NEW (1)."""
        return take(self.outputs[of], self._firsts[of][self.places[of][:count]], columns)

    def nearest(self, of: int, vectors: np.ndarray, k: int, seen: Callable[[int], None]) -> np.ndarray:
        """Of the first documents, whose unit vectors these are, the k nearest of all others in both.

        Returns:
          Their numbers, int64 [n, k], the nearest first.
        """
        output, places = self.outputs[of], self.places[of]
        numbers = np.full(self.documents[of], -1)
        numbers[places] = np.arange(len(places))
        best = Best(len(vectors), k + 1)
        for here, others in _document_vectors(output, numbers >= 0):
            for first in range(0, len(vectors), TILE):
                best.add(vectors[first : first + TILE] @ others.T, here, first)
            seen(len(here))
        return numbers[best.without(places[: len(vectors), np.newaxis], k).places]


def _keys(output: Output, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each document a hash of its id, uint64, and the place of its first row, int64."""
    salt = seed.to_bytes(8, "little")
    keys, firsts, row = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    chunks = ["chunk"] if output.schema.chunks else []
    for block in output.rows(["doc_id", *chunks], block_rows=1 << 16):
        first = np.flatnonzero(block.column(1).to_numpy() == 0) if chunks else np.arange(len(block))
        ids = block.column(0).take(first).cast("binary").to_pylist()
        digests = (hashlib.blake2b(one, digest_size=8, salt=salt).digest() for one in ids)
        keys.append(np.frombuffer(b"".join(digests), np.uint64))
        firsts.append(first + row)
        row += len(block)
    return np.concatenate(keys), np.concatenate(firsts)


def _document_vectors(output: Output, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which documents, and their unit vectors [n, dim], in blocks; of chunks their mean.

    Args:
      wanted: of all documents those that come, bool.
    """
    if not output.schema.chunks:  # a row is a document
        keep = (lambda part: wanted[part.first : part.first + part.rows]) if not wanted.all() else None
        yield from blocks_of(output, "cosine", keep=keep)
        return
    last: np.ndarray = np.empty((0, output.dim), np.float32)  # the sum so far of a document that may go on
    at = 0
    for block in output.rows(["chunk", *output.vector_columns]):
        begins = np.flatnonzero(block.column(0).to_numpy() == 0) + len(last)
        starts = np.concatenate([np.arange(len(last)), begins])
        sums = np.add.reduceat(np.concatenate([last, output.matrix(block)]), starts)
        yield from _some(sums[:-1], at, wanted)
        at, last = at + len(sums) - 1, sums[-1:]
    yield from _some(last, at, wanted)


def _some(sums: np.ndarray, at: int, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    here = np.flatnonzero(wanted[at : at + len(sums)])
    if len(here):
        yield here + at, unit(sums[here])


def compare(
    old: Output,
    new: Output,
    *,
    sample: int,
    k: int,
    seed: int,
    pairs: str | None = None,
    to: str | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """How far the vectors of NEW say the same of the documents as those of OLD.

    Of each sampled document the `overlap`: which share of its k nearest documents, of all that both outputs
    have, is the same. `rank_correlation`: Spearman's, of the similarities of sampled documents to each other.
    `cosine`: of a document's two vectors, where these are of one length. All similarities are cosines.

    Args:
      sample: how many documents; all where both outputs have no more.
      pairs: a file with doc_id1 and doc_id2, perhaps score: how their similarity changed.
      to: path or URL of a Parquet file that gets a row for each sampled document: doc_id, overlap, cosine,
        and text if it was kept.
      told: hears what is being done.

    Raises:
      UsageError: no document, or too few, are in both; the pairs are no such file, or unknown.
    """
    known = None if pairs is None else KnownPairs(pairs)
    both = Both((old, new), seed, told)
    _check(both, k)
    count = min(sample, len(both))
    ids = both.rows(1, ["doc_id"], count)["doc_id"].to_pylist()
    found, near = [], []
    for of, name in enumerate(("OLD", "NEW")):
        told(f"reading the sample's vectors of {name}")
        vectors = vectors_of(both.outputs[of], {*ids, *(known.ids if known else ())})
        found.append(vectors)
        near.append(both.nearest(of, _stacked(vectors, ids), k, _counting(told, name, len(both))))
    told("comparing")
    one, other = (_stacked(vectors, ids) for vectors in found)
    overlap = np.array([len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)])
    cosine = np.einsum("ij,ij->i", one, other) if old.dim == new.dim else None
    rows: dict[str, Any] = {"doc_id": ids, "overlap": overlap}
    if cosine is not None:
        rows["cosine"] = cosine
    if kept := [of for of in (1, 0) if both.outputs[of].schema.keep_text]:
        rows["text"] = both.rows(kept[0], ["text"], count)["text"]
    worst = np.lexsort((np.arange(count), overlap if cosine is None else cosine, overlap))
    record: dict[str, Any] = {
        "documents": {"old": both.documents[0], "new": both.documents[1], "both": len(both)},
        "sampled": count,
        "k": k,
        "seed": seed,
        "overlap": of_means([overlap], seed)["outputs"][0] | spread(overlap),
        "rank_correlation": _rank_correlation(one[:_PAIRED], other[:_PAIRED]),
        "cosine": None if cosine is None else {"mean": round(float(cosine.mean()), 6)} | spread(cosine),
    }
    if known is not None:
        record["pairs"] = known.drift(found, seed)
    record["worst"] = listed(rows, worst)
    return record | ({} if to is None else {"rows": _write(rows, to)})


def _check(both: Both, k: int) -> None:
    if not len(both):
        looks = [output.rows(["doc_id"], block_rows=1) for output in both.outputs]
        one, other = (next(blocks).column(0)[0].as_py() for blocks in looks)
        raise UsageError(
            f"no id is in both outputs: OLD's look like {one!r}, NEW's like {other!r}; expected outputs of "
            "the same documents, embedded with the same --id-field"
        )
    if k >= len(both):
        raise UsageError(
            f"k {k}: {len(both):,} documents are in both outputs; ask for less than that", argument="k"
        )


def _counting(told: Callable[[str], None], name: str, documents: int) -> Callable[[int], None]:
    done = 0

    def seen(some: int) -> None:
        nonlocal done
        done += some
        told(f"neighbours in {name}: {done:,} of {documents:,} documents")

    return seen


def _stacked(vectors: dict[str, np.ndarray], ids: Sequence[str]) -> np.ndarray:
    return np.stack([vectors[one] for one in ids])


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's, of the cosines between all two of these documents; None where there is no order."""
    from scipy.stats import spearmanr

    if len(one) < 3:
        return None
    above = np.triu_indices(len(one), 1)
    found = float(spearmanr((one @ one.T)[above], (other @ other.T)[above]).statistic)
    return None if np.isnan(found) else round(found, 6)


def _write(columns: dict[str, Any], to: str) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with committing(begin(to)) as pending:
        pq.write_table(pa.table(columns), pending, compression="zstd")
    return to
