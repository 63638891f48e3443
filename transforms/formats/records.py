"""From a record of any format to a Document, or to a DeadLetter that says why not."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

from transforms.elements import DeadLetter, Document, Slice


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """What to take from records that have fields.

    Attributes:
      text_field: name of the field or column that is embedded.
      id_field: name of the field that holds the document's id; None makes ids from file and position.
      keep_fields: names of fields that go with the document to the output.
    """

    text_field: str = "text"
    id_field: str | None = None
    keep_fields: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that are read, each once."""
        ids = () if self.id_field is None else (self.id_field,)
        return tuple(dict.fromkeys((self.text_field, *ids, *self.keep_fields)))


def dead(
    slice: Slice, position: int, reason: str, *, payload: str | None, doc_id: str | None = None
) -> DeadLetter:
    """A dead letter of the reading stage."""
    if doc_id is None:
        doc_id = f"{slice.source}:{position}"
    return DeadLetter(doc_id, slice.source, position, "read", reason, payload)


def documents_of(slice: Slice, options: ReadOptions) -> Callable[..., Document | DeadLetter]:
    """Returns the function that makes a document of a record's fields; it is called for each record.

    Its arguments: the place in the file; the values by name, where a UnicodeDecodeError stands for
    one that is not UTF-8; and `payload`, which gives the record as it was read, for a dead letter.
    """
    source = slice.source
    text_field, id_field, keep_fields = options.text_field, options.id_field, options.keep_fields
    nothing: dict[str, Any] = {}

    def document(
        position: int, fields: Mapping[str, Any], *, payload: str | Callable[[], str]
    ) -> Document | DeadLetter:
        doc_id = f"{source}:{position}"
        kept = nothing
        reason = ""
        if id_field is not None:
            found = fields.get(id_field, _ABSENT)
            reason = _wrong_id(found, id_field)
            if not reason:
                doc_id = str(found)
        text = fields.get(text_field, _ABSENT)
        if not reason and (type(text) is not str or not text or text.isspace()):
            reason = _wrong_text(text, text_field)
        if not reason and keep_fields:
            kept = {name: _kept(fields.get(name)) for name in keep_fields}
            reason = next(
                (_not_utf8_in(name, v) for name, v in kept.items() if type(v) is UnicodeDecodeError), ""
            )
        if reason:
            payload = payload if isinstance(payload, str) else payload()
            return dead(slice, position, reason, payload=payload, doc_id=doc_id)
        return Document(doc_id, text, source, position, kept=kept)

    return document


def _kept(value: Any) -> Any:
    return as_json(value) if isinstance(value, _NESTED) else value


def _wrong_id(found: Any, name: str) -> str:
    if type(found) is str:
        return "" if found and not found.isspace() else f"field {name!r} is blank, expected an id"
    if type(found) is int:
        return ""
    return _wrong_type(found, name, "string or integer")


def _wrong_text(found: Any, name: str) -> str:
    if isinstance(found, UnicodeDecodeError):
        return not_utf8(found)
    return "blank text" if type(found) is str else _wrong_type(found, name, "string")


def _wrong_type(found: Any, name: str, expected: str) -> str:
    if found is _ABSENT:
        return f"missing field {name!r}"
    if found is None:
        return f"field {name!r} is null"
    if isinstance(found, UnicodeDecodeError):
        return _not_utf8_in(name, found)
    return f"field {name!r} is {type(found).__name__}, expected {expected}"


def not_utf8(error: UnicodeDecodeError) -> str:
    """The reason for bytes that are not UTF-8; the offset counts from the first of the bytes decoded."""
    return f"not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}"


def _not_utf8_in(name: str, error: UnicodeDecodeError) -> str:
    return f"{not_utf8(error)} of field {name!r}"


def escaped(data: bytes) -> str:
    """The bytes as text, those that are not UTF-8 as \\xNN."""
    return data.decode("utf-8", "backslashreplace")


def as_json(value: Any) -> str:
    """A nested value in one compact line; what JSON does not know becomes a string."""
    try:
        return _dumps(value)
    except (ValueError, TypeError):  # NaN, or keys that are no strings
        return _dumps(_sane(value))


def _plain(value: Any) -> Any:
    if isinstance(value, UnicodeDecodeError):
        value = value.object
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return escaped(value) if isinstance(value, bytes) else str(value)


def _sane(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _sane(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sane(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        # As protobuf's JSON mapping writes them.
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


_ABSENT = object()
_NESTED = (dict, list, tuple)
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode
