"""Labels: do the vectors tell classes apart?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.documents import vectors_of
from pipeline.evaluation.intervals import of_means
from pipeline.run.screen import Screen
from transforms.errors import UsageError
from transforms.output.reader import Output
from transforms.output.sample import sample_rows

SAMPLE = 10_000
FOLDS = 5
NEIGHBOURS = 10
STRENGTH = 100.0  # C of the probe: a unit vector's numbers are so small that C 1 would hold it back


def evaluate_labels(outputs: Sequence[Output], field: str, *, seed: int, screen: Screen) -> dict[str, Any]:
    """Accuracy of the k nearest neighbours and of a linear probe, cross-validated, on a sample of documents.

    Each document is predicted once, by what learnt from the four folds that it is not in. Where a row is a
    chunk, a document is the mean of its chunks.

    Raises:
      UsageError: there is no such field, or fewer than two classes have FOLDS documents.
    """
    rows = sample_rows(outputs[0], SAMPLE, seed, ["doc_id", field])
    labels = dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    nulls = sum(label is None for label in labels.values())
    labels = {doc_id: str(label) for doc_id, label in labels.items() if label is not None}
    with screen.doing("reading the sample's vectors"):
        found = [vectors_of(output, labels) for output in outputs]
    ids = [doc_id for doc_id in labels if all(doc_id in vectors for vectors in found)]
    sizes = Counter(labels[doc_id] for doc_id in ids)
    large = {label for label, count in sizes.items() if count >= FOLDS}
    if len(large) < 2:
        raise UsageError(
            f"label {field}: {len(large)} classes have at least {FOLDS} documents in a sample of "
            f"{len(labels):,}; expected two or more",
            argument="label",
        )
    ids = [doc_id for doc_id in ids if labels[doc_id] in large]
    classes = np.array([labels[doc_id] for doc_id in ids])
    values: dict[str, list[np.ndarray]] = {}
    for vectors in found:
        matrix = np.stack([vectors[doc_id] for doc_id in ids])
        for name, right in correct(matrix, classes, seed, screen).items():
            values.setdefault(name, []).append(right)
    return {
        "field": field,
        "documents": len(ids),
        "classes": len(large),
        "classes_left_out": len(sizes) - len(large),
        "without_label": nulls,
        "largest_class": round(max(sizes[one] for one in large) / len(ids), 6),
        "metrics": {name: of_means(right, seed) for name, right in values.items()},
    }


def correct(vectors: np.ndarray, classes: np.ndarray, seed: int, screen: Screen) -> dict[str, np.ndarray]:
    """Whether each document was predicted right, 1.0 or 0.0, by both classifiers.

    Args:
      vectors: unit, float32 [n, dim].
      classes: [n].
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    few = min(NEIGHBOURS, len(classes) - len(classes) // FOLDS - 1)
    models = {
        f"{few}-NN accuracy": KNeighborsClassifier(few, metric="cosine"),
        "linear probe accuracy": LogisticRegression(C=STRENGTH, max_iter=1000),
    }
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found = {}
    for name, model in models.items():
        with screen.doing(f"{name}, {FOLDS} folds of {len(classes):,} documents"):
            predicted = cross_val_predict(model, vectors, classes, cv=folds)
        found[name] = (predicted == classes).astype(np.float64)
    return found
