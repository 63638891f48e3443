"""Parts of an output checked wherever the scan runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.elements import ShardReceipt
from transforms.output import layout, ledger
from transforms.output.defects import Checked, check_part
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.scan.work import Results


@dataclasses.dataclass(frozen=True)
class CheckParts:
    """Results: a row for each defect, and one for each key of a row.

    Attributes:
      begun: when, so that a later one looks anew.
    """

    begun: float
    name: str = "verify"

    @property
    def choices(self) -> Mapping[str, Any]:
        return {"begun": self.begun}

    @property
    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([("defect", pa.string()), ("key", pa.uint64())])

    def part(self, output: Output, name: str) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        receipt = ledger.read_receipt(output.folder, layout.shard_of_part(name) or "")
        assert isinstance(receipt, ShardReceipt), f"{name}: its receipt is gone"
        defects, keys = check_part(output, receipt)
        for said, key in ((defects, [None] * len(defects)), ([None] * len(keys), keys)):
            arrays = [pa.array(said, pa.string()), pa.array(key, pa.uint64())]
            yield pa.record_batch(arrays, schema=self.schema)


def checked(results: Results) -> Iterator[Checked]:
    """What check_part found, part by part."""
    for name in results.parts:
        defects: list[str] = []
        keys = [np.empty(0, np.uint64)]
        for block in results.part(name):
            defects += block.column("defect").drop_null().to_pylist()
            keys.append(block.column("key").drop_null().to_numpy())
        yield defects, np.concatenate(keys)
