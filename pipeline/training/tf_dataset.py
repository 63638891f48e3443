"""Mini-batches as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.training import columns
from pipeline.training.columns import Block
from pipeline.training.epochs import MiniBatches


def dataset(made: MiniBatches, row: Block) -> Any:
    """Whole mini-batches pass from NumPy to TensorFlow, which prefetches them.

    Args:
      row: any of the rows, for the types of its columns.
    """
    from transforms.encoder.device import import_tensorflow

    tf = import_tensorflow()
    lists = {name for name, column in row.items() if columns.is_list(column)}
    arrays = columns.finished(row)
    types = {
        name: tf.string if one.dtype.hasobject else tf.as_dtype(one.dtype) for name, one in arrays.items()
    }
    shapes = {name: [None, None] if name in lists else [None, *one.shape[1:]] for name, one in arrays.items()}
    signature = {name: tf.TensorSpec(shapes[name], types[name]) for name in arrays}

    def epoch() -> Iterator[dict[str, Any]]:
        return iter(made)

    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    if made.count is not None and made.from_the_start:
        data = data.apply(tf.data.experimental.assert_cardinality(made.count))
    return data.prefetch(tf.data.AUTOTUNE)
