"""`train` from an output folder to a folder with a head, its report and its curves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.training import report
from pipeline.training.curves import Curves
from pipeline.training.head import Card, choices_of, save_head
from pipeline.training.labels import Labels, read_labels
from pipeline.training.train import Recipe, train_head
from transforms.errors import UsageError
from transforms.output.pending import unfinished
from transforms.output.reader import Output


def train(
    output: Output,
    field: str,
    to: str | Path,
    *,
    recipe: Recipe,
    validation: float = 0.2,
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Trains a head and writes it.

    Args:
      field: whose values are the classes.
      to: a folder that is not there, or empty: a SavedModel, with `report/` and `tensorboard/` in it.
      validation: share of documents that are not trained on.
      tell: hears what is being done.

    Returns:
      The report.

    Raises:
      UsageError: the field tells no classes, or the folder is taken.
    """
    if not 0 < validation < 1:
        raise UsageError(f"validation {validation}: expected a share between 0 and 1", argument="validation")
    with new_folder(to) as folder:
        tell("reading labels")
        labels = read_labels(output, field, share=validation, seed=recipe.seed)
        curves = Curves(folder / "tensorboard")
        trained = train_head(output, labels, recipe, curves, tell)
        curves.close()
        tell("writing the head and its report")
        job = output.job
        choices = choices_of(output)
        card = Card(
            labels.classes, field, output.dim, job["model"], job["model_digest"], recipe.kind, choices
        )
        save_head(trained.model, card, folder)
        record = {
            "head": str(to),
            "output": output.folder.path,
            "field": field,
            "model": job["model"],
            "model_digest": job["model_digest"],
            **dataclasses.asdict(recipe),
            "rows": _rows(labels),
            "epochs": len(curves.validation),
            "best_epoch": trained.best,
            "mini_batches": len(curves.losses),
            "seconds": trained.seconds,
            "validation": [{"loss": loss, "accuracy": right} for _, loss, right in curves.validation],
            "notes": list(_notes(labels, field)),
            **report.figures(trained.truth, trained.found, labels.classes),
        }
        _write_report(record, curves, folder / "report")
    return record


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder that appears under its name when all is written, or not at all.

    Raises:
      UsageError: the name is taken.
    """
    path = Path(path).absolute()
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    with unfinished(str(made)):
        yield made
        made.chmod(0o755)  # mkdtemp's are private
        os.rename(made, path)


def check_new(path: Path) -> None:
    """Raises UsageError where the folder's name is taken; nothing is made."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} exists already; choose a new folder, or delete it")
    if any(parent.exists() and not parent.is_dir() for parent in path.parents):
        raise UsageError(f"{path}: lies below a file; choose another folder")


def _rows(labels: Labels) -> dict[str, int]:
    sides = {"training": False, "validation": True}
    return {name: int(labels.counts(validation=side).sum()) for name, side in sides.items()} | {
        "without_label": labels.without
    }


def _notes(labels: Labels, field: str) -> Iterator[str]:
    if labels.without:
        yield f"{labels.without:,} of {len(labels.codes):,} rows have no {field} and are left out"
    training, validation = labels.counts(validation=False), labels.counts(validation=True)
    for found, what in (
        ((training == 0) & (validation > 0), "in validation alone, which the head cannot learn"),
        ((training > 0) & (validation == 0), "in training alone, of which nothing is measured"),
    ):
        names = [str(labels.classes[i]) for i in np.flatnonzero(found)]
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            yield f"{len(names):,} of {len(labels.classes):,} classes have rows {what}: {shown}"


def _write_report(record: dict[str, Any], curves: Curves, folder: Path) -> None:
    folder.mkdir()
    (folder / "report.json").write_text(
        json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    lines = [*report.words(record), "", *report.table(record)]
    (folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report.draw_confusion(record, folder / "confusion.png")
    curves.draw(folder / "curves.png", best=record["best_epoch"])
