"""What was found: rows by their places, and how people read them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.search.exact import Best
from transforms.errors import UsageError
from transforms.output.reader import Output
from transforms.output.sample import rows_at

if TYPE_CHECKING:
    import pyarrow as pa

_WIDTH = 100  # of a line where there is no terminal
_ID = 60  # most of an id's characters that are aligned


def take(output: Output, places: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """The rows at these places, in their order; a place may stand there several times.

    Args:
      places: int64, counted over all parts; none below 0.
    """
    import pyarrow as pa

    unique, back = np.unique(places, return_inverse=True)
    schema = output.arrow.empty_table().select(list(columns)).schema
    return pa.Table.from_batches(rows_at(output, unique, list(columns)), schema).take(back)


def shown(output: Output) -> list[str]:
    """The columns that tell of a row: its id, its span if it is a chunk, kept fields and text."""
    schema = output.schema
    span = ["chunk", "start", "end"] if schema.chunks else []
    return ["doc_id", *span, *(name for name, _ in schema.kept), *(["text"] if schema.keep_text else [])]


def found(output: Output, best: Best) -> list[list[dict[str, Any]]]:
    """Of each question its rows, the nearest first: rank from 1, score, and the columns that tell of them."""
    there = best.places >= 0
    rows = iter(take(output, best.places[there], shown(output)).to_pylist())
    return [
        [
            {"rank": rank, "score": round(float(score), 6)} | next(rows)
            for rank, (score, is_row) in enumerate(zip(scores, are_rows, strict=True), 1)
            if is_row
        ]
        for scores, are_rows in zip(best.scores, there, strict=True)
    ]


def in_words(hits: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a hit: score, id, kept fields and the first words of the text, as wide as the terminal."""
    if not hits:
        yield "no row fulfils the condition"
    ids = [_id(hit) for hit in hits]
    longest = min(_ID, max(map(len, ids), default=0))
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    for name, hit in zip(ids, hits, strict=True):
        fields = [f"{key}={value}" for key, value in hit.items() if key not in _OWN and value is not None]
        rest = "  ".join([*fields, " ".join(str(hit.get("text") or "")[:1000].split())]).strip()
        line = f"{hit['score']:8.3f}  {name:<{longest}}  {rest}".rstrip()
        yield line if len(line) <= width else f"{line[: width - 1]}…"


_OWN = ("rank", "score", "doc_id", "chunk", "start", "end", "text")


def _id(hit: Mapping[str, Any]) -> str:
    if "chunk" not in hit:
        return str(hit["doc_id"])
    return f"{hit['doc_id']} #{hit['chunk']} [{hit['start']}:{hit['end']}]"


def rows_of(output: Output, doc_id: str) -> np.ndarray:
    """Places of a document's rows, int64: one, or one for each chunk.

    Raises:
      UsageError: there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        wanted = pa.scalar(doc_id, pa.string())
    except UnicodeEncodeError as e:
        raise UsageError(f"document {doc_id!r}: is not UTF-8, as ids are") from e
    first, places, example = 0, [], ""
    for block in output.rows(["doc_id"], block_rows=1 << 16):
        same = pc.equal(block.column(0), wanted).to_numpy(zero_copy_only=False)
        places.append(np.flatnonzero(same) + first)
        example = example or block.column(0)[0].as_py()
        first += len(block)
    if not sum(map(len, places)):
        raise UsageError(
            f"{output.folder.path}: no row of document {doc_id!r}; its ids look like {example!r}"
        )
    return np.concatenate(places)


def vectors_at(output: Output, places: np.ndarray) -> np.ndarray:
    """Vectors of the rows at these places, float32 [n, dim]."""
    return output.matrix(take(output, places, output.vector_columns))


def check_k(output: Output, k: int, own: int = 0) -> None:
    """Raises UsageError where more rows are asked for than there are beside `own` that do not count."""
    if k > output.count - own:
        beside = f" beside the {own} of the document" if own else ""
        raise UsageError(
            f"--k {k}: {output.folder.path} has {output.count - own:,} rows{beside}; ask for no more",
            argument="k",
        )


def of_row(row: Mapping[str, Any], *, alone: bool) -> Iterator[str]:
    """Lines of what is near a row: where a document has several rows, each is named."""
    if not alone:
        yield _id(row)
    yield from in_words(row["results"])
