"""Similarity of pairs: does the cosine order them as people do?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.documents import vectors_of
from pipeline.evaluation.intervals import interval, of_means
from pipeline.evaluation.tables import listed, number, read_rows, spread
from pipeline.run.screen import Screen
from pipeline.search.exact import unit
from pipeline.search.model import Questions
from transforms.errors import UsageError
from transforms.output.reader import Output

_DOCUMENTS, _TEXTS = ("doc_id1", "doc_id2", "score"), ("text1", "text2", "score")


def evaluate_pairs(
    outputs: Sequence[Output], path: str, *, seed: int, models: Sequence[str | None], screen: Screen
) -> dict[str, Any]:
    """Spearman's rank correlation of cosines and scores.

    Args:
      path: rows with doc_id1, doc_id2 and score; or with text1, text2 and score, embedded as questions are.

    Raises:
      UsageError: fewer than three pairs are known, or their scores do not differ.
    """
    rows, names = read_rows(path, "pairs", _DOCUMENTS, _TEXTS)
    documents = names is _DOCUMENTS
    pairs = [(str(row[names[0]]), str(row[names[1]])) for row in rows]
    scores = np.array([number(row, "score", f"pairs {path}: row {i}") for i, row in enumerate(rows, 1)])
    wanted = list(dict.fromkeys(one for pair in pairs for one in pair))
    found = []
    for output, model in zip(outputs, models, strict=True):
        if documents:
            with screen.doing("looking for the documents"):
                found.append(vectors_of(output, wanted))
        else:
            questions = Questions(output, screen, model=model)
            with screen.doing(f"embedding {len(wanted):,} texts"):
                vectors = unit(np.concatenate([questions.embed(text) for text in wanted]))
                found.append(dict(zip(wanted, vectors, strict=True)))
    there = [i for i, pair in enumerate(pairs) if all(one in vectors for one in pair for vectors in found)]
    if len(there) < 3 or len(np.unique(scores[there])) < 2:
        what = (
            f"{len(there)} of {len(pairs)} pairs are in the output"
            if len(there) < 3
            else "all scores are alike"
        )
        raise UsageError(
            f"pairs {path}: {what}; expected at least three pairs of different scores", argument="pairs"
        )
    cosines = [np.array([float(v[pairs[i][0]] @ v[pairs[i][1]]) for i in there]) for v in found]
    return {
        "pairs": len(there),
        "pairs_left_out": len(pairs) - len(there),
        "metrics": {"Spearman": correlations(cosines, scores[there], seed)},
    }


class KnownPairs:
    """Pairs of documents whose similarity in two outputs is held against each other.

    Attributes:
      ids: of all documents that the file names.
    """

    def __init__(self, path: str):
        """Reads rows with doc_id1 and doc_id2, and perhaps score.

        Raises:
          UsageError: as `read_rows`.
        """
        self._path, names = path, _DOCUMENTS[:2]
        self._rows, _ = read_rows(path, "pairs", names)
        self._pairs = [(str(row[names[0]]), str(row[names[1]])) for row in self._rows]
        self.ids = {one for pair in self._pairs for one in pair}

    def drift(self, found: Sequence[Mapping[str, np.ndarray]], seed: int) -> dict[str, Any]:
        """How their cosines changed; and where they have scores, Spearman's correlation with these.

        Args:
          found: unit vectors by id, of the earlier and the later output.

        Raises:
          UsageError: no pair is in both.
        """
        pairs = self._pairs
        there = [i for i, pair in enumerate(pairs) if all(one in some for one in pair for some in found)]
        if not there:
            one, other = pairs[0]
            raise UsageError(
                f"pairs {self._path}: none of its {len(pairs):,} pairs is in both outputs, e.g. {one!r} and "
                f"{other!r}; expected ids of documents",
                argument="pairs",
            )
        first, second = ([pairs[i][side] for i in there] for side in (0, 1))
        old, new = (np.array([float(v[a] @ v[b]) for a, b in zip(first, second, strict=True)]) for v in found)
        record: dict[str, Any] = {
            "pairs": len(there),
            "left_out": len(pairs) - len(there),
            "cosine": of_means([old, new], seed),
            "change": spread(new - old),
        }
        if all(self._rows[i].get("score") not in (None, "") for i in there):
            where = f"pairs {self._path}: row"
            scores = np.array([number(self._rows[i], "score", f"{where} {i + 1}") for i in there])
            if len(there) > 2 and len(np.unique(scores)) > 1:
                record["spearman"] = correlations([old, new], scores, seed)
        columns = {"doc_id1": first, "doc_id2": second, "old": old, "new": new}
        return record | {"most_changed": listed(columns, np.argsort(-np.abs(new - old), kind="stable"))}


def correlations(cosines: Sequence[np.ndarray], scores: np.ndarray, seed: int) -> dict[str, Any]:
    """Of one or two outputs' cosines with the scores, and the difference second - first."""
    found: dict[str, Any] = {
        "outputs": [interval((one, scores), _spearman, seed, vectorized=False) for one in cosines]
    }
    if len(cosines) == 2:
        found["difference"] = interval((*cosines, scores), _further, seed, vectorized=False)
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    rho = float(spearmanr(a, b).statistic)
    return rho if rho == rho else 0.0  # all drawn alike: no order


def _further(first: np.ndarray, second: np.ndarray, scores: np.ndarray) -> float:
    return _spearman(second, scores) - _spearman(first, scores)
