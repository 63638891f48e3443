"""The classes of an output's rows, and which rows are for training and which for validation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import UsageError
from transforms.output.reader import Output

MOST_CLASSES = 10_000
_BUCKETS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Labels:
    """Of each row of an output, in the order of `Output.rows`.

    Attributes:
      classes: the labels that there are, sorted: all str or all int.
      codes: int32 [rows], the place of the row's label in `classes`; -1 where it has none.
      validation: bool [rows], whether the row is for validation.
    """

    classes: tuple[Any, ...]
    codes: np.ndarray
    validation: np.ndarray

    @property
    def without(self) -> int:
        """Rows that have no label."""
        return int((self.codes < 0).sum())

    def counts(self, *, validation: bool) -> np.ndarray:
        """int64 [classes]: rows of each class on one side."""
        side = self.codes[(self.validation == validation) & (self.codes >= 0)]
        return np.bincount(side, minlength=len(self.classes))


def read_labels(output: Output, field: str, *, share: float, seed: int) -> Labels:
    """Reads ids and labels, and nothing else.

    A document's side follows from a keyed hash of its id alone, so that all chunks of it are on one side,
    in each run, however many documents come to it.

    Args:
      share: of documents for validation, within 0 and 1.

    Raises:
      UsageError: there is no such field, or it tells no classes that could be learned.
    """
    from transforms.encoder.device import import_tensorflow

    tf = import_tensorflow()
    output.check_columns([field])
    kind = output.arrow.field(field).type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UsageError(f"field {field!r} is {kind}: expected strings, integers or truths as labels")
    numbers: dict[Any, int] = {}
    codes, sides = [], []
    for block in output.rows(["doc_id", field], block_rows=65_536):
        column = block.column(1)
        if pa.types.is_boolean(kind):
            column = column.cast(pa.string())
        encoded = pc.dictionary_encode(column)
        own = [numbers.setdefault(one, len(numbers)) for one in encoded.dictionary.to_pylist()]
        places = encoded.indices.fill_null(-1).to_numpy()
        codes.append(np.array([*own, -1], np.int32)[places])  # the last one is that of -1
        ids = block.column(0).to_numpy(zero_copy_only=False)
        drawn = tf.strings.to_hash_bucket_strong(ids, _BUCKETS, [seed, 0x656D6265]).numpy()
        sides.append(drawn < share * _BUCKETS)
        if len(numbers) > MOST_CLASSES:
            raise UsageError(
                f"field {field!r}: more than {MOST_CLASSES:,} different values; expected a field whose "
                "values are classes"
            )
    order = sorted(numbers)
    places = np.empty(len(order) + 1, np.int32)
    places[[numbers[one] for one in order]] = np.arange(len(order), dtype=np.int32)
    places[-1] = -1
    found = Labels(tuple(order), places[np.concatenate(codes)], np.concatenate(sides))
    _check(found, field)
    return found


def _check(labels: Labels, field: str) -> None:
    count, labelled = len(labels.classes), len(labels.codes) - labels.without
    if not count:
        raise UsageError(f"field {field!r}: no row has a value; expected a field whose values are classes")
    if count == 1:
        only = labels.classes[0]
        raise UsageError(f"field {field!r}: all rows are of one class, {only!r}; expected two or more")
    if count == labelled:
        raise UsageError(
            f"field {field!r}: {count:,} different values in as many rows; expected a field whose values are "
            "classes"
        )
    if (labels.counts(validation=False) > 0).sum() < 2:
        raise UsageError(f"field {field!r}: all rows for training are of one class; give another `seed`")
    if not labels.counts(validation=True).any():
        raise UsageError(
            f"field {field!r}: no document for validation of {labelled:,} rows; give a larger `validation`"
        )
