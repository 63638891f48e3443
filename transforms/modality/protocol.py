"""What a payload is: how it is decoded, refused, costed, split, fingerprinted and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from transforms.texts import Refusal

if TYPE_CHECKING:
    import pyarrow as pa

Count = Callable[[Sequence[Any]], np.ndarray]


class Modality(Protocol):
    """All that differs between texts, images and other payloads; formats know nothing of it.

    Attributes:
      sample: a payload that any model of this modality embeds, for the warm-up.
    """

    sample: Any

    def decode(self, values: list[Any] | pa.Array, *, field: str) -> tuple[pa.Array, dict[int, Refusal]]:
        """The values of a column as payloads.

        Args:
          values: a Python list, in which `elements.ABSENT` stands for a missing field and a
            UnicodeDecodeError for bytes that are not UTF-8; or an Arrow array.
          field: the column's name, for reasons.

        Returns:
          The payloads, with null where one is refused, and the refusals by row.
        """

    def from_file(self, data: bytes) -> Any:
        """A whole file as a value for `decode`."""

    def weight(self, payloads: pa.Array) -> np.ndarray:
        """Bytes that each payload takes in memory, int64."""

    def shown(self, payload: Any) -> str:
        """The payload as a dead letter shows it."""

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """Cost of payloads, int64 [n], where the model cannot count."""

    def split(
        self, payloads: Sequence[Any], *, window: int, overlap: int, count: Count, most: int | None = None
    ) -> list[np.ndarray]:
        """Spans of payloads longer than the window: of each int64 [spans, 3], start, end and cost."""

    def pieces(self, payload: Any, size: int) -> Iterator[Any]:
        """A large payload in pieces of about `size`, whose costs add up to its own."""

    def length(self, payload: Any) -> int:
        """Length of a payload in the unit of spans: characters of a text."""

    def cut(self, payload: Any, start: int, end: int) -> Any:
        """The payload of a span."""

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        """16 bytes for each payload, as fixed_size_binary[16]; `key` is what else changes its vector."""
