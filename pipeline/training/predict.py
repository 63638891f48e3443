"""The classes that a head gives an output's rows, as Parquet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.target import begin
from pipeline.training.head import check_vectors, read_card
from pipeline.training.train import predictions
from transforms.encoder.model.handle import resolve
from transforms.errors import UsageError
from transforms.output.reader import Output
from transforms.storage.files import file_state, is_local


def predict(
    output: Output, head: str | Path, to: str, *, tell: Callable[[int], object] = lambda _: None
) -> dict[str, Any]:
    """Writes a row for each of the output, in the order of `Output.rows`.

    Columns: doc_id (of chunks also chunk, start, end), label, probability (the label's), probabilities (of
    all classes, in the order of the file's metadata `embedbeam.labels`); where the vector holds NaN or
    infinity, label and probability are null and these are NaN.

    Args:
      head: its folder, or the URL of one.
      to: path or URL of the file.
      tell: hears how many rows are done.

    Raises:
      UsageError: the head is none, or of another model's vectors; the file is there.
    """
    if not is_local(str(head)):
        head = resolve(str(head))
    card = read_card(head)
    check_vectors(card, output)
    with contextlib.suppress(FileNotFoundError):
        file_state(to)
        raise UsageError(f"{to} exists already; choose another file, or delete it", argument="to")
    from transforms.encoder.device import import_tensorflow

    tf = import_tensorflow()
    loaded = tf.saved_model.load(str(head))
    labels = pa.array(card.labels)
    counts = np.zeros(len(labels), np.int64)
    pending, rows, writer = begin(to), 0, None
    try:
        for block, probabilities in predictions(loaded.signatures["serving_default"], output, len(labels)):
            broken = np.isnan(probabilities).any(axis=1)  # a head of ReLUs would give these a class, too
            best = np.where(broken, 0, probabilities.argmax(axis=1))
            flat = pa.array(probabilities.reshape(-1))
            columns = {name: block.column(name) for name in block.schema.names} | {
                "label": labels.take(pa.array(best, mask=broken)),
                "probability": pa.array(probabilities[np.arange(len(best)), best], mask=broken),
                "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(labels)),
            }
            table = pa.table(columns)
            if writer is None:
                about = {"embedbeam.labels": json.dumps(card.labels), "embedbeam.job": output.plan.job}
                writer = pq.ParquetWriter(pending, table.schema.with_metadata(about), compression="zstd")
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
            counts += np.bincount(best[~broken], minlength=len(labels))
            rows += len(best)
            tell(rows)
        assert writer is not None  # an output without rows is refused before
        writer.close()
        pending.commit()
    finally:
        pending.discard()
    found = {str(label): int(count) for label, count in zip(card.labels, counts, strict=True) if count}
    return {
        "predictions": to,
        "head": str(head),
        "rows": rows,
        "without_label": rows - int(counts.sum()),
        "labels": found,
    }
