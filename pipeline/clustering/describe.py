"""What each cluster is: how large, how close, which documents are at its middle, and its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.clustering.assign import NOISE, Assign
from pipeline.scan.work import Results
from pipeline.search.exact import unit
from pipeline.search.hits import take
from pipeline.words import characteristic_words, texts_of
from transforms.output.reader import Output
from transforms.output.sample import sample_rows

WORD_ROWS = 20_000  # the words are counted in so many rows
EXAMPLES = 3
_SHOWN = 120  # characters of an example's text


def describe(output: Output, assign: Assign, results: Results, seed: int) -> dict[str, Any]:
    """Sizes, cohesion, examples and words of the clusters; the largest first.

    Cohesion is the mean cosine of a cluster's rows to its centre. Its examples are the rows nearest to the
    centre, each document and text once.

    Returns:
      `rows`, `noise` (rows of no cluster), `worded` (rows in which words were counted) and `clusters`.
    """
    sizes, sums, nearest = _added_up(results, len(assign.centres))
    shown = _shown(output, nearest)
    words, worded = _words(output, assign, seed)
    clusters = [
        {
            "cluster": one,
            "rows": int(sizes[one + 1]),
            "cohesion": round(float(sums[one] / sizes[one + 1]), 4) if sizes[one + 1] else None,
            "words": words.get(one, []),
            "examples": _examples(nearest[one], shown),
        }
        for one in np.argsort(-sizes[1:], kind="stable").tolist()
    ]
    noise, rows = int(sizes[0]), int(sizes.sum())
    return {"rows": rows, "noise": noise, "worded": worded, "clusters": clusters}


_Near = list[tuple[float, int]]  # cosines and places of rows, the nearest first


def _added_up(results: Results, clusters: int) -> tuple[np.ndarray, np.ndarray, list[_Near]]:
    """Rows of noise and of each cluster, sums of cosines, and the rows nearest to each centre."""
    sizes, sums = np.zeros(clusters + 1, np.int64), np.zeros(clusters)
    nearest: list[_Near] = [[] for _ in range(clusters)]
    first = 0
    for block in results.blocks(["cluster", "cosine"]):
        labels = block.column(0).to_numpy()
        cosines = block.column(1).fill_null(0).to_numpy(zero_copy_only=False)
        sizes += np.bincount(labels + 1, minlength=clusters + 1)
        inside = labels != NOISE
        sums += np.bincount(labels[inside], cosines[inside], minlength=clusters)
        order = np.lexsort((-cosines, labels))
        starts = np.searchsorted(labels[order], np.arange(clusters + 1))
        for one in np.unique(labels[inside]).tolist():
            some = order[starts[one] : min(starts[one + 1], starts[one] + 4 * EXAMPLES)].tolist()
            found = nearest[one] + [(float(cosines[i]), first + i) for i in some]
            # More than are shown: several may be chunks of one document, or hold the same text.
            nearest[one] = sorted(found, key=lambda near: (-near[0], near[1]))[: 4 * EXAMPLES]
        first += len(labels)
    return sizes, sums, nearest


def text_columns(output: Output) -> list[str]:
    """What is shown of a document: its text, or where that is no column the kept strings."""
    if output.schema.keep_text:
        return ["text"]
    return [name for name, kind in output.schema.kept if kind == "string"]


def _shown(output: Output, nearest: list[_Near]) -> dict[int, tuple[str, int | None, str]]:
    """Of rows by their places the document, the chunk, and the start of what is shown of it."""
    places = np.array(sorted(place for some in nearest for _, place in some), np.int64)
    chunk = ["chunk"] if output.schema.chunks else []
    columns = text_columns(output)
    table = take(output, places, ["doc_id", *chunk, *columns])
    ids = table.column("doc_id").to_pylist()
    chunks = table.column("chunk").to_pylist() if chunk else [None] * len(ids)
    texts = texts_of(table, columns) if columns else iter([""] * len(ids))
    starts = (" ".join(text[: 2 * _SHOWN].split())[:_SHOWN] for text in texts)
    return dict(zip(places.tolist(), zip(ids, chunks, starts, strict=True), strict=True))


def _examples(nearest: _Near, shown: dict[int, tuple[str, int | None, str]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for cosine, place in nearest:
        doc_id, chunk, text = shown[place]
        if any(doc_id == one["doc_id"] or (text and text == one["text"]) for one in found):
            continue
        number = {} if chunk is None else {"chunk": chunk}
        found.append({"doc_id": doc_id, **number, "cosine": round(cosine, 4), "text": text})
    return found[:EXAMPLES]


def _words(output: Output, assign: Assign, seed: int) -> tuple[dict[int, list[str]], int]:
    """Characteristic words by cluster, and in how many sampled rows they were counted."""
    columns = text_columns(output) or ["doc_id"]
    table = sample_rows(output, WORD_ROWS, seed, [*columns, *output.vector_columns])
    labels, _ = assign.nearest(unit(output.matrix(table)))
    groups = zip(labels.tolist(), texts_of(table, columns), strict=True)
    return characteristic_words(group for group in groups if group[0] != NOISE), len(table)
