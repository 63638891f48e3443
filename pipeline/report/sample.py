"""Some rows at the price of a few row groups, however large the output is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transforms.elements import ShardReceipt
from transforms.output.reader import Output
from transforms.output.sample import beginnings

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = 8  # that are read of
_BLOCK = 4096  # rows that are read of each row group


def few_rows(
    output: Output, receipts: Sequence[ShardReceipt], count: int, *, columns: Sequence[str], seed: int
) -> pa.Table:
    """Rows of a few parts that are drawn at random, as likely as they are large, in the order of the plan.

    Of each part the first rows of one row group are read (of TFRecord its first rows), so neighbours are
    likelier to be drawn together than in `sample_rows`, which may have to read everything.

    Args:
      receipts: of the shards that may be drawn.
      count: most rows.
    """
    import pyarrow as pa

    random = np.random.default_rng(seed)
    filled = [receipt for receipt in receipts if receipt.part is not None and receipt.rows]
    rows = np.array([receipt.rows for receipt in filled], np.float64)
    schema = output.arrow.empty_table().select(list(columns)).schema
    if not filled:
        return schema.empty_table()
    chosen = random.choice(len(filled), min(PARTS, len(filled)), replace=False, p=rows / rows.sum())
    left, blocks = count, []
    for done, at in enumerate(np.sort(chosen).tolist()):
        most = -(-left // (len(chosen) - done))  # what small parts lack, later ones give
        blocks += _of_part(output, filled[at].part or "", most, columns, random)
        left = count - sum(map(len, blocks))
    return pa.Table.from_batches(blocks, schema)


def _of_part(
    output: Output, name: str, most: int, columns: Sequence[str], random: np.random.Generator
) -> list[pa.RecordBatch]:
    groups = None
    if output.format == "parquet":
        groups = [int(random.integers(len(output.row_group_ends(name))))]
    size = _BLOCK if groups else most  # records are whole texts, until they are cut
    for block in output.part(name, columns, block_rows=size, row_groups=groups):
        return [beginnings(block.take(np.sort(random.permutation(len(block))[:most])))]
    return []
