"""Some rows of an output, drawn at random: the same ones for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa


CHARACTERS = 4000  # of a text; a sample is looked at, and documents may be long
FEW = 256  # records of a TFRecord file at once: whole texts, until they are cut


def sample_rows(output: Output, count: int, seed: int, columns: Sequence[str]) -> pa.Table:
    """Rows drawn without replacement, all equally likely, in the order of `Output.rows`.

    Of Parquet only the row groups are read that hold one of them, of TFRecord whole parts.
    Of strings, save doc_id, only the first CHARACTERS come. Memory: the sample, and a block of rows.

    Args:
      count: how many; all rows where there are no more.
      seed: of NumPy's default generator.
      columns: in the order in which they are wanted.

    Raises:
      UsageError: there is no such column.
    """
    import pyarrow as pa

    output.check_columns(columns)
    chosen = chosen_rows(output.count, count, seed)
    schema = output.arrow.empty_table().select(list(columns)).schema
    return pa.Table.from_batches(rows_at(output, chosen, list(columns)), schema)


def chosen_rows(total: int, count: int, seed: int) -> np.ndarray:
    """Places of the rows that `sample_rows` draws of so many, ascending."""
    return np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))


def rows_at(output: Output, chosen: np.ndarray, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows at these places, counted over all parts; ascending."""
    start = 0
    for receipt in output.receipts:
        if receipt.part is None:
            continue
        low, high = np.searchsorted(chosen, [start, start + receipt.rows])
        if low < high:
            for block in rows_of_part(output, receipt.part, chosen[low:high] - start, columns):
                yield beginnings(block)
        start += receipt.rows


def rows_of_part(
    output: Output, name: str, places: np.ndarray, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """The rows at these places of a part, ascending, strings and all."""
    at = 0
    for first, block in _pieces(output, name, places, columns):
        low, high = np.searchsorted(places, [first, first + len(block)])
        if low < high:
            yield block.take(places[low:high] - first)
        at += high - low
        if at == len(places):
            return


def _pieces(
    output: Output, name: str, places: np.ndarray, columns: list[str]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Blocks of a part with the place of their first row; of Parquet only row groups that are asked for."""
    if output.format == "parquet":
        groups = np.concatenate([[0], output.row_group_ends(name)])
        wanted = np.unique(np.searchsorted(groups, places, side="right") - 1).tolist()
        for group in wanted:
            first = int(groups[group])
            for block in output.part(name, columns, row_groups=[group]):
                yield first, block
                first += len(block)
        return
    first = 0
    for block in output.part(name, columns, block_rows=FEW):
        yield first, block
        first += len(block)


def beginnings(block: pa.RecordBatch) -> pa.RecordBatch:
    """The block with the first CHARACTERS of each string that is not a doc_id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def cut(field: pa.Field, column: pa.Array) -> pa.Array:
        if field.name == "doc_id" or not pa.types.is_string(field.type):
            return column
        return pc.utf8_slice_codeunits(column, 0, CHARACTERS)

    arrays = [cut(field, column) for field, column in zip(block.schema, block.columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=block.schema)
