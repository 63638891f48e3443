"""Retrieval: are the documents found that people say are relevant?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.documents import known
from pipeline.evaluation.intervals import of_means
from pipeline.evaluation.tables import number, read_rows
from pipeline.run.screen import Screen
from pipeline.search.exact import TILE, Best, blocks_of, unit
from pipeline.search.hits import check_k, take
from pipeline.search.model import Questions
from transforms.errors import UsageError
from transforms.output.reader import Output

Judgments = dict[str, dict[str, int]]  # query → document → relevance


def evaluate_retrieval(
    outputs: Sequence[Output],
    path: str,
    *,
    k: int,
    seed: int,
    models: Sequence[str | None],
    screen: Screen,
) -> dict[str, Any]:
    """nDCG@k, recall@k and MRR@k, mean over queries.

    Ids that an output does not have are left out of the judgments, and queries without any other.

    Args:
      path: rows with query, doc_id and perhaps relevance.
      models: where the outputs' models lie; None: as the job says.

    Raises:
      UsageError: the file is none, no id is known, k is too large, or a model is not the output's.
    """
    for output in outputs:
        check_k(output, k)
    judged = read_judgments(path)
    ids = {doc_id for documents in judged.values() for doc_id in documents}
    with screen.doing("looking for the relevant documents"):
        there = set.intersection(*(known(output, ids) for output in outputs))
    if not there:
        where = " and ".join(output.folder.path for output in outputs)
        raise UsageError(
            f"queries {path}: none of its {len(ids):,} ids is in {where}, e.g. {min(ids)!r}",
            argument="queries",
        )
    kept = {query: {d: r for d, r in docs.items() if d in there} for query, docs in judged.items()}
    kept = {query: docs for query, docs in kept.items() if any(r > 0 for r in docs.values())}
    if not kept:
        raise UsageError(f"queries {path}: no query has a relevant document", argument="queries")
    scores = []
    for output, model in zip(outputs, models, strict=True):
        questions = Questions(output, screen, model=model)
        done = 0
        with screen.doing(lambda: f"embedding queries: {done:,} of {len(kept):,}"):  # noqa: B023
            vectors = []
            for query in kept:
                vectors.append(questions.embed(query))
                done += 1
        with screen.doing("searching"):
            ranked = rankings(output, np.concatenate(vectors), k)
        scores.append(measures(kept, dict(zip(kept, ranked, strict=True)), k))
    return {
        "queries": len(kept),
        "queries_left_out": len(judged) - len(kept),
        "unknown_ids": len(ids - there),
        "k": k,
        "metrics": {name: of_means([one[name] for one in scores], seed) for name in scores[0]},
    }


def read_judgments(path: str) -> Judgments:
    """What is relevant, and how much: whole numbers from 0, 1 where the file does not say.

    Raises:
      UsageError: a relevance is no such number.
    """
    judged: Judgments = {}
    for place, row in enumerate(read_rows(path, "queries", ("query", "doc_id"))[0], 1):
        where = f"queries {path}: row {place}"
        relevance = number(row, "relevance", where) if row.get("relevance") not in (None, "") else 1.0
        if relevance < 0 or relevance != int(relevance):
            raise UsageError(f"{where}: relevance {relevance:g}: expected 0, 1, 2, ...", argument="queries")
        judged.setdefault(str(row["query"]), {})[str(row["doc_id"])] = int(relevance)
    return judged


def rankings(output: Output, vectors: np.ndarray, k: int) -> list[list[str]]:
    """Of each query the ids of the k nearest documents by cosine, nearest first; exact.

    A document that has several rows, chunks of it, is where its nearest row is.
    """
    starts, documents = document_starts(output, k)
    found: list[list[str]] = [[] for _ in vectors]
    left, most = np.arange(len(vectors)), k
    while len(left):
        best = _nearest_documents(output, unit(vectors[left]), starts, min(most, output.count))
        there = best.places >= 0
        ids = iter(take(output, best.places[there], ["doc_id"]).column(0).to_pylist())
        for query, count in zip(left.tolist(), there.sum(axis=1).tolist(), strict=True):
            found[query] = list(dict.fromkeys(next(ids) for _ in range(count)))[:k]
        short = np.array([len(found[query]) < documents for query in left.tolist()])
        # A document whose rows lie apart, in several blocks or inputs, took the places of others.
        left, most = left[short & (most < output.count)], most * 2
    return found


def document_starts(output: Output, k: int) -> tuple[np.ndarray, int]:
    """bool [rows], whether a row is of another document than the one before; and how many there are, to k."""
    import pyarrow.compute as pc

    starts, before, seen = [np.empty(0, bool)], None, set[str]()
    for block in output.rows(["doc_id"]):
        ids = block.column(0)
        own = np.ones(len(ids), bool)
        own[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        own[0] = ids[0].as_py() != before
        starts.append(own)
        before = ids[-1].as_py()
        if len(seen) < k:
            seen.update(pc.unique(ids).to_pylist())
    return np.concatenate(starts), min(k, len(seen))


def _nearest_documents(output: Output, questions: np.ndarray, starts: np.ndarray, k: int) -> Best:
    """As `nearest`, but of rows of a document that follow each other in a block the nearest alone counts.

    Its place is that of the first of them.
    """
    best = Best(len(questions), k)
    for places, vectors in blocks_of(output, "cosine"):
        first = starts[places]
        first[0] = True
        runs = np.flatnonzero(first)
        for low in range(0, len(questions), TILE):
            scores = questions[low : low + TILE] @ vectors.T
            best.add(np.maximum.reduceat(scores, runs, axis=1), places[runs], low)
    return best


def measures(judged: Judgments, ranked: Mapping[str, Sequence[str]], k: int) -> dict[str, np.ndarray]:
    """Each query's nDCG@k, recall@k and reciprocal rank, by trec_eval.

    nDCG: Järvelin and Kekäläinen (2002), a document's relevance as its gain, discount log2(rank + 1).
    Reciprocal rank: of the first relevant document (Voorhees, 1999); 0 if it is not among the k.
    """
    from pytrec_eval import RelevanceEvaluator

    names = {f"nDCG@{k}": f"ndcg_cut_{k}", f"recall@{k}": f"recall_{k}", f"MRR@{k}": "recip_rank"}
    evaluator = RelevanceEvaluator(judged, {f"ndcg_cut.{k}", f"recall.{k}", "recip_rank"})
    # trec_eval orders by scores, of which ranks are the simplest.
    runs = {query: {d: float(-rank) for rank, d in enumerate(ranked[query][:k])} for query in judged}
    found = evaluator.evaluate(runs)
    return {name: np.array([found[query][theirs] for query in judged]) for name, theirs in names.items()}
