"""Texts as payloads: blank ones and bytes that are not UTF-8 are refused, long ones split at white space."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.modality.protocol import Count, Modality, Values, Whole, digests
from transforms.modality.spans import window_spans
from transforms.texts import Refusal, sound_texts

BLANK: Refusal = ("blank text", "")


@dataclasses.dataclass(frozen=True)
class Text(Whole):
    """The modality of strings; see Modality."""

    name: ClassVar[str] = "text"
    field: ClassVar[str] = "text"
    kind: ClassVar[str] = "text"
    bytes_a_token: ClassVar[int] = 64  # a word of a megabyte is three tokens
    most_at_once: ClassVar[int | None] = 1 << 18  # a tokenizer takes many times the memory of what it cuts

    def decode(self, columns: Mapping[str, Values]) -> tuple[pa.Array, dict[int, Refusal]]:
        ((field, values),) = columns.items()
        return sound_texts(values, field, blank=BLANK, expected="string")

    def from_file(self, data: bytes) -> Any:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as e:
            return e

    def weight(self, payloads: pa.Array) -> np.ndarray:
        return np.asarray(pc.binary_length(payloads), np.int64)

    def shown(self, payload: Any) -> str:
        return payload if isinstance(payload, str) else repr(payload)

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """One token for every four UTF-8 bytes, and two special ones.

        >>> Text().estimate(["", "four", "a house"])
        array([2, 3, 4])
        """
        return np.array([2 + -(-len(text.encode()) // 4) for text in payloads], dtype=np.int64)

    def split(
        self, payloads: Sequence[Any], *, window: int, overlap: int, count: Count, most: int | None = None
    ) -> list[np.ndarray]:
        return window_spans(payloads, window=window, overlap=overlap, count=count, most=most)

    def pieces(self, payload: Any, size: int) -> Iterator[Any]:
        """The text in pieces of about `size` characters, cut at white space where there is some."""
        start = 0
        while len(payload) - start > size:
            end = max(payload.rfind(c, start + 1, start + size) for c in " \n\t")
            end = end if end > start else start + size
            yield payload[start:end]
            start = end
        yield payload[start:]

    def length(self, payload: Any) -> int:
        return len(payload)

    def cut(self, payload: Any, start: int, end: int) -> Any:
        return payload[start:end]

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        return digests(iter(payloads.cast(pa.binary()).to_pylist()), key)


TEXT: Modality = Text()
