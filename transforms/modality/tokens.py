"""Token ids as payloads: lists of integers, split by their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from transforms.modality.protocol import Count, Values, Whole, digests
from transforms.texts import Refusal, not_of_type, plain_values

_TYPE = pa.list_(pa.int32())
_MOST = (1 << 31) - 1
_EMPTY: Refusal = ("no token ids", "")


@dataclasses.dataclass(frozen=True)
class Tokens(Whole):
    """The modality of lists of token ids, as tokenizers made them; see Modality. A span counts ids."""

    name: ClassVar[str] = "tokens"
    field: ClassVar[str] = "input_ids"
    kind: ClassVar[str] = "any"
    bytes_a_token: ClassVar[int] = 8

    def decode(self, columns: Mapping[str, Values]) -> tuple[pa.Array, dict[int, Refusal]]:
        ((field, values),) = columns.items()
        sound = _sound(values)
        if sound is not None:
            return sound, {}
        plain = plain_values(values)  # one of them is none: each alone tells why
        refused = {row: why for row, value in enumerate(plain) if (why := _refusal(field, value))}
        return pa.array([None if row in refused else v for row, v in enumerate(plain)], _TYPE), refused

    def from_file(self, data: bytes) -> Any:
        return data  # whole files are no lists: `decode` says so

    def values(self, payloads: pa.Array) -> list[np.ndarray]:
        """Each payload's ids, int32, which share the array's memory."""
        return lists(payloads)

    def weight(self, payloads: pa.Array) -> np.ndarray:
        return 4 * np.asarray(pc.list_value_length(payloads), np.int64)

    def shown(self, payload: Any) -> str:
        return str(payload if isinstance(payload, (list, str)) else np.asarray(payload).tolist())

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """Their numbers of ids."""
        return np.fromiter(map(len, payloads), np.int64, len(payloads))

    def split(
        self, payloads: Sequence[Any], *, window: int, overlap: int, count: Count, most: int | None = None
    ) -> list[np.ndarray]:
        """Spans of `window` ids, of which each repeats the last `overlap` of the one before it.

        >>> Tokens().split([range(7)], window=4, overlap=1, count=len)[0].tolist()
        [[0, 4, 4], [3, 7, 4]]
        """
        step = window - min(overlap, window // 2)
        made = []
        for payload in payloads:
            starts = np.arange(0, max(1, len(payload) - (window - step)), step)[:most]
            ends = np.minimum(starts + window, len(payload))
            made.append(np.stack([starts, ends, ends - starts], axis=1))
        return made

    def length(self, payload: Any) -> int:
        return len(payload)

    def cut(self, payload: Any, start: int, end: int) -> Any:
        return payload[start:end]

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        return digests((np.ascontiguousarray(ids, "<i4").tobytes() for ids in self.values(payloads)), key)


def as_lists(flat: Any, lengths: np.ndarray) -> pa.Array:
    """Ids one after the other as list<int32>, one for each of the lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, pa.int32()))


def lists(ids: pa.Array) -> list[np.ndarray]:
    """The lists of an array of list<int32>, which share its memory; empty ones for nulls."""
    offsets = ids.offsets.to_numpy()
    flat = ids.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    # NumPy makes one part where nothing is to be split.
    return np.split(flat, offsets[1:-1] - offsets[0]) if len(ids) else []


def _sound(values: Values) -> pa.Array | None:
    """The values as lists of int32; None where one of them is none, is empty, or holds what is no id."""
    if not isinstance(values, pa.Array):
        return None
    kind = values.type
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not listed or not types.is_integer(kind.value_type) or values.null_count:
        return None
    flat, lengths = values.flatten(), pc.list_value_length(values)
    if flat.null_count or (len(values) and pc.min(lengths).as_py() < 1):
        return None
    bounds = pc.min_max(flat).as_py()
    if len(flat) and (bounds["min"] < 0 or bounds["max"] > _MOST):
        return None
    return as_lists(flat.cast(pa.int32()), lengths.to_numpy(zero_copy_only=False))


def _refusal(field: str, value: Any) -> Refusal | None:
    if not isinstance(value, (list, tuple, np.ndarray)):
        return not_of_type(value, field, "a list of token ids")
    if not len(value):
        return _EMPTY
    for place, number in enumerate(value):
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            return "no token id", f"{number!r} at {place}, expected an integer"
        if not 0 <= number <= _MOST:
            return "no token id", f"{number} at {place}, expected 0 to {_MOST}"
    return None
