"""Texts as payloads: what is asked of a modality, and what it means for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.modality.spans import Count, window_spans
from transforms.texts import Refusal, sound_texts

BLANK: Refusal = ("blank text", "")


class Text:
    """The modality of strings. All that differs between texts and other payloads is here.

    To the steps a payload is a sequence: it has a length, spans are of its items, and are cut as slices.
    """

    def decode(self, values: list[Any] | pa.Array, *, field: str) -> tuple[pa.Array, dict[int, Refusal]]:
        """The values of a column as payloads.

        Args:
          values: a Python list, in which `elements.ABSENT` stands for a missing field and a
            UnicodeDecodeError for bytes that are not UTF-8; or an Arrow array.
          field: the column's name, for reasons.

        Returns:
          The payloads, with null where one is refused, and the refusals by row.
        """
        return sound_texts(values, field, blank=BLANK, expected="string")

    def from_file(self, data: bytes) -> Any:
        """A whole file as a value for `decode`."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as e:
            return e

    def weight(self, payloads: pa.Array) -> np.ndarray:
        """Bytes that each payload takes in memory, int64."""
        return np.asarray(pc.binary_length(payloads), np.int64)

    def shown(self, payload: Any) -> str:
        """The payload as a dead letter shows it."""
        return payload if isinstance(payload, str) else repr(payload)

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """Cost of payloads, int64 [n], where the model cannot count.

        One token for every four UTF-8 bytes, and two special ones.

        >>> Text().estimate(["", "four", "a house"])
        array([2, 3, 4])
        """
        return np.array([2 + -(-len(text.encode()) // 4) for text in payloads], dtype=np.int64)

    def split(
        self, payloads: Sequence[Any], *, window: int, overlap: int, count: Count, most: int | None = None
    ) -> list[np.ndarray]:
        """Spans of payloads longer than the window: of each int64 [spans, 3], start, end and cost."""
        return window_spans(payloads, window=window, overlap=overlap, count=count, most=most)

    def pieces(self, payload: Any, size: int) -> Iterator[Any]:
        """A large text in pieces of about `size` characters, cut at white space where there is some.

        Their costs add up to its own.
        """
        start = 0
        while len(payload) - start > size:
            end = max(payload.rfind(c, start + 1, start + size) for c in " \n\t")
            end = end if end > start else start + size
            yield payload[start:end]
            start = end
        yield payload[start:]

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        """The first 16 bytes of SHA-256 over the key (what else changes a vector) and the text in UTF-8."""
        sha = hashlib.sha256
        digests = [sha(key + text).digest()[:16] for text in payloads.cast(pa.binary()).to_pylist()]
        return pa.array(digests, pa.binary(16))
