"""What a model takes of a mini-batch, where that is more than the payloads: arrays with a row a payload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Rows(Sequence[Any]):
    """Arrays by name, whose first dimension is the payload; slices and single ones are Rows again."""

    def __init__(self, columns: dict[str, np.ndarray]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, which: Any) -> Rows:
        if not isinstance(which, slice) and which >= len(self):
            raise IndexError(which)  # ends an iteration
        some = which if isinstance(which, slice) else slice(which, which + 1)
        return Rows({name: column[some] for name, column in self.columns.items()})


def as_rows(prepared: Sequence[Any]) -> Rows:
    """Rows of one mini-batch, which may have come apart, as one again."""
    if isinstance(prepared, Rows):
        return prepared
    names = prepared[0].columns
    return Rows({name: np.concatenate([row.columns[name] for row in prepared]) for name in names})


def padded(ids: Sequence[np.ndarray], *, pad: int = 0, width: int | None = None) -> Rows:
    """Token ids of payloads, padded on the right to the longest or to `width`.

    >>> rows = padded([np.array([5, 6]), np.array([7])])
    >>> rows.columns["ids"].tolist(), rows.columns["lengths"].tolist()
    ([[5, 6], [7, 0]], [2, 1])
    """
    lengths = np.fromiter(map(len, ids), np.int32, len(ids))
    made = np.full((len(ids), width or int(lengths.max(initial=1))), pad, np.int32)
    made[np.arange(made.shape[1]) < lengths[:, np.newaxis]] = np.concatenate([*ids, np.empty(0, np.int32)])
    return Rows({"ids": made, "lengths": lengths})
