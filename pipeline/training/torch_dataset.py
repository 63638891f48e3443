"""Mini-batches as a PyTorch `IterableDataset`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.training.epochs import MiniBatches

_MOST_WORKERS = 4096


class TorchBatches(IterableDataset):  # type: ignore[misc]
    """Items are mini-batches: dicts of tensors, and of lists of str.

    For `torch.utils.data.DataLoader(..., batch_size=None, num_workers=...)`; its workers share the rows.
    """

    def __init__(self, made: MiniBatches):
        self._made = made
        # Once, before there are workers: each would read all labels anew each epoch.
        self._prepared = made.prepare() if made.balanced else None
        # Workers are new processes each epoch; the epochs that each has begun are counted in shared memory.
        self._begun = torch.zeros(_MOST_WORKERS, dtype=torch.int64).share_memory_()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        index, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        mine = self._made.share_of(index, count, int(self._begun[index]), self._prepared)
        self._begun[index] += 1
        for batch in mine:
            yield {name: _tensor(array) for name, array in batch.items()}


def _tensor(array: np.ndarray) -> Any:
    if array.dtype.hasobject:
        return array.tolist()
    owned = array.flags.writeable and array.flags.c_contiguous
    return torch.from_numpy(array if owned else array.copy())
