"""How good a head is on documents that it was not trained on: figures, words and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DRAWN = 40


def figures(truth: np.ndarray, found: np.ndarray, classes: tuple[Any, ...]) -> dict[str, Any]:
    """Accuracy; precision, recall and F1 of each class and their means; the confusion of up to 40 classes.

    Args:
      truth, found: int [rows], places in `classes`.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, precision_recall_fscore_support

    places = np.arange(len(classes))
    numbers = precision_recall_fscore_support(truth, found, labels=places, zero_division=0)
    each = [
        {"label": label, "precision": p, "recall": r, "f1": f, "rows": int(n)}
        for label, p, r, f, n in zip(classes, *(one.tolist() for one in numbers), strict=True)
    ]
    seen = [one for one in each if one["rows"]]
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, found)) if len(seen) > 1 else None,
        "macro_f1": float(np.mean([one["f1"] for one in seen])),
        "majority_accuracy": max(one["rows"] for one in each) / len(truth),
        "classes": each,
        "confusion": _confusion(truth, found, classes),
    }


def _confusion(truth: np.ndarray, found: np.ndarray, classes: tuple[Any, ...]) -> dict[str, Any]:
    """The largest classes; the others' rows and columns are added up as one, the last."""
    from sklearn.metrics import confusion_matrix

    counts = np.bincount(truth, minlength=len(classes))
    largest = np.sort(np.argsort(-counts, kind="stable")[:DRAWN])
    place = np.full(len(classes), len(largest))
    place[largest] = np.arange(len(largest))
    names = [str(classes[i]) for i in largest] + (["others"] if len(classes) > len(largest) else [])
    matrix = confusion_matrix(place[truth], place[found], labels=np.arange(len(names)))
    return {"labels": names, "rows": matrix.tolist()}


def words(record: dict[str, Any]) -> Iterator[str]:
    """A report in lines."""
    best, drawn = record["best_epoch"], record["epochs"]
    yield f"{record['kind']} head on {record['rows']['training']:,} rows, {len(record['classes']):,} classes"
    yield f"accuracy {record['accuracy']:.4f} on {record['rows']['validation']:,} rows of other documents"
    yield f"(the largest class alone: {record['majority_accuracy']:.4f}); macro F1 {record['macro_f1']:.4f}"
    yield f"best epoch {best} of {drawn}, {record['seconds']:.1f} s"
    for note in record["notes"]:
        yield f"note: {note}"


def table(record: dict[str, Any]) -> Iterator[str]:
    """Precision, recall and F1 of each class, the largest first."""
    rows = sorted(record["classes"], key=lambda one: -one["rows"])
    width = max(5, *(len(str(one["label"])) for one in rows))
    yield f"{'class':<{width}}  precision  recall     f1    rows"
    for one in rows:
        numbers = f"{one['precision']:9.3f}  {one['recall']:6.3f}  {one['f1']:5.3f}  {one['rows']:6,}"
        yield f"{one['label']!s:<{width}}  {numbers}"


def draw_confusion(record: dict[str, Any], path: Path) -> None:
    """Writes the confusion matrix as a picture: shares of each true class."""
    from matplotlib.figure import Figure

    names, matrix = record["confusion"]["labels"], np.array(record["confusion"]["rows"], float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 3.5 + 0.26 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.set_xlabel(f"what the head says of {record['field']}")
    axes.set_ylabel(record["field"])
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label):
        text.set_parse_math(False)  # a name with $ is no formula
    if len(names) <= 15:
        for i, j in np.ndindex(*matrix.shape):
            if matrix[i, j]:
                color = "white" if shares[i, j] > 0.6 else "black"
                axes.text(j, i, f"{int(matrix[i, j]):,}", ha="center", va="center", fontsize=7, color=color)
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.set_label("share of the class's rows")
    axes.set_title(f"accuracy {record['accuracy']:.3f}, {record['rows']['validation']:,} validation rows")
    figure.savefig(path, dpi=120)
