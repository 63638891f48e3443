"""What a payload is: how it is decoded, refused, weighed, split, fingerprinted and shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np

from transforms.texts import Refusal, plain_values

if TYPE_CHECKING:
    import pyarrow as pa

Count = Callable[[Sequence[Any]], np.ndarray]
# A column as formats give it: a Python list, in which `elements.ABSENT` stands for a missing field and a
# UnicodeDecodeError for bytes that are not UTF-8; or an Arrow array.
Values: TypeAlias = "list[Any] | pa.Array"


class Modality(Protocol):
    """All that differs between texts, images and other payloads; formats and models know nothing of it.

    Implementations are small frozen dataclasses, which travel to the workers.

    Attributes:
      name: as users name it.
      field: the field that holds the payload where the user names none.
      kind: what formats give for it: text, bytes (as they are) or any (the values as they are).
      bytes_a_token: a mini-batch holds at most so many bytes of payloads for each token of its budget.
      most_at_once: a longer payload is counted in pieces; None: as a whole.
      cuts_late: whether a chunk is cut out of its document only when it is embedded, since whole documents
        are smaller than their chunks.
      columnar: whether payloads stay an Arrow array until the model takes them.
      fields: the fields of which payloads are made, where the user names them otherwise than `text_field`.
    """

    name: ClassVar[str]
    field: ClassVar[str]
    kind: ClassVar[str]
    bytes_a_token: ClassVar[int]
    most_at_once: ClassVar[int | None]
    cuts_late: ClassVar[bool]
    columnar: ClassVar[bool]

    @property
    def fields(self) -> tuple[str, ...]: ...

    def decode(self, columns: Mapping[str, Values]) -> tuple[pa.Array, dict[int, Refusal]]:
        """The values of the payload's fields, mostly of one, as payloads.

        Returns:
          The payloads, with null where one is refused, and the refusals by row.
        """

    def mismatch(self, stated: Mapping[str, str]) -> str | None:
        """Why fields of the types that a file states hold no payloads; None where they may."""

    def from_file(self, data: bytes) -> Any:
        """A whole file as a value for `decode`."""

    def values(self, payloads: pa.Array) -> Sequence[Any]:
        """The payloads one by one, as the methods below and models take them."""

    def weight(self, payloads: pa.Array) -> np.ndarray:
        """Bytes that each payload takes in memory, int64."""

    def shown(self, payload: Any) -> str:
        """The payload as a dead letter shows it."""

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """Cost of payloads in tokens, int64 [n], where no model says better."""

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

    def place(self, spans: np.ndarray) -> np.ndarray:
        """Starts or ends of spans as rows tell them: int64, or float64 where `in_seconds` says so."""

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        """16 bytes for each payload, as fixed_size_binary[16]; `key` is what else changes its vector."""


class Whole:
    """What modalities share; those whose payloads are embedded whole need no other split."""

    cuts_late: ClassVar[bool] = False
    most_at_once: ClassVar[int | None] = None
    columnar: ClassVar[bool] = False

    @property
    def fields(self) -> tuple[str, ...]:
        return ()

    def mismatch(self, stated: Mapping[str, str]) -> str | None:
        return None

    def values(self, payloads: pa.Array) -> Sequence[Any]:
        made: list[Any] = payloads.to_pylist()
        return made

    def split(
        self, payloads: Sequence[Any], *, window: int, overlap: int, count: Count, most: int | None = None
    ) -> list[np.ndarray]:
        """One span each, of the cost that the window allows."""
        return [np.array([[0, self.length(payload), window]], np.int64) for payload in payloads]

    def pieces(self, payload: Any, size: int) -> Iterator[Any]:
        yield payload

    def length(self, payload: Any) -> int:
        return 0

    def cut(self, payload: Any, start: int, end: int) -> Any:
        return payload

    def place(self, spans: np.ndarray) -> np.ndarray:
        return spans


class Encoded(Whole):
    """What modalities share whose payloads are bytes of an encoded file."""

    kind: ClassVar[str] = "bytes"

    def refusal(self, value: Any, field: str) -> Refusal | None:
        """Why a value of the field is no payload; None if it is one."""
        raise NotImplementedError

    def decode(self, columns: Mapping[str, Values]) -> tuple[pa.Array, dict[int, Refusal]]:
        import pyarrow as pa

        ((field, values),) = columns.items()
        plain = plain_values(values)
        why = {row: reason for row, value in enumerate(plain) if (reason := self.refusal(value, field))}
        return pa.array([None if row in why else v for row, v in enumerate(plain)], pa.binary()), why

    def from_file(self, data: bytes) -> Any:
        return data

    def weight(self, payloads: pa.Array) -> np.ndarray:
        import pyarrow.compute as pc

        return np.asarray(pc.binary_length(payloads), np.int64)

    def fingerprint(self, payloads: pa.Array, key: bytes) -> pa.Array:
        return digests((payload.as_buffer() for payload in payloads), key)


def digests(payloads: Iterator[Any], key: bytes) -> pa.Array:
    """The first 16 bytes of SHA-256 over the key (what else changes a vector) and each payload's bytes."""
    import pyarrow as pa

    def digest(payload: Any) -> bytes:
        sha = hashlib.sha256(key)
        sha.update(payload)
        return sha.digest()[:16]

    return pa.array(list(map(digest, payloads)), pa.binary(16))
