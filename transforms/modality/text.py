"""Texts as payloads: blank ones and bytes that are not UTF-8 are refused, long ones split at white space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from transforms.elements import ABSENT
from transforms.modality.protocol import Count, Refusal
from transforms.modality.spans import window_spans

BLANK: Refusal = ("blank text", "")


class Text:
    """The modality of strings; see Modality."""

    name = "text"
    arrow_type = "string"
    column = "text"
    sample = "embedbeam warms the model up with this sentence"

    def decode(self, values: Sequence[Any] | pa.Array, *, field: str) -> tuple[pa.Array, dict[int, Refusal]]:
        texts = _texts(values)
        if texts is None:  # one of them is none: each alone tells why
            checked = [_refusal(value, field) for value in _plain(values)]
            kept = [None if reason else value for value, reason in zip(_plain(values), checked, strict=True)]
            return pa.array(kept, pa.string()), {i: reason for i, reason in enumerate(checked) if reason}
        blank = np.flatnonzero(pc.or_(pc.utf8_is_space(texts), pc.equal(texts, "")).to_numpy(False))
        if not len(blank):
            return texts, {}
        mask = np.zeros(len(texts), bool)
        mask[blank] = True
        return pc.if_else(pa.array(mask), None, texts), dict.fromkeys(blank.tolist(), BLANK)

    def decode_file(self, data: bytes) -> tuple[Any, Refusal | None]:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as e:
            return None, not_utf8(e)
        return (None, BLANK) if not text or text.isspace() else (text, None)

    def weight(self, payloads: pa.Array) -> np.ndarray:
        return pc.binary_length(payloads).to_numpy(zero_copy_only=False).astype(np.int64)

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
        """The first 16 bytes of SHA-256 over the key and the text in UTF-8."""
        sha = hashlib.sha256
        digests = [sha(key + text).digest()[:16] for text in payloads.cast(pa.binary()).to_pylist()]
        return pa.array(digests, pa.binary(16))


def not_utf8(error: UnicodeDecodeError) -> Refusal:
    """Why bytes are no text; the offset counts from the first of the bytes decoded."""
    return "not UTF-8", f"byte 0x{error.object[error.start]:02x} at {error.start}"


def _texts(values: Sequence[Any] | pa.Array) -> pa.Array | None:
    """The values as one Arrow array of strings without nulls; None where one of them is no text."""
    if not isinstance(values, pa.Array):
        try:
            return pa.array(values, pa.string()) if set(map(type, values)) <= {str} else None
        except UnicodeEncodeError:
            return None
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count or not is_text(values.type):
        return None
    texts = values.cast(pa.string())
    try:
        texts.validate(full=True)  # the file says that it is UTF-8; it need not be
    except pa.ArrowInvalid:
        return None
    return texts


def is_text(type: pa.DataType) -> bool:
    """Whether an Arrow type is one of those of strings."""
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def _plain(values: Sequence[Any] | pa.Array) -> Sequence[Any]:
    if not isinstance(values, pa.Array):
        return values
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(values.type):
        return values.to_pylist()
    return [_decoded(data) for data in values.cast(pa.large_binary()).to_pylist()]


def _decoded(data: bytes | None) -> Any:
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError as e:
        return e


def _refusal(value: Any, field: str) -> Refusal | None:
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError as e:
            return "not Unicode", f"lone surrogate at {e.start}"
        return BLANK if not value or value.isspace() else None
    if value is ABSENT:
        return f"missing field {field!r}", ""
    if value is None:
        return f"field {field!r} is null", ""
    if isinstance(value, UnicodeDecodeError):
        return not_utf8(value)
    return f"field {field!r} is {type(value).__name__}, expected string", ""
