"""Text as files have it: of several Arrow types, and not always UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transforms.elements import ABSENT

if TYPE_CHECKING:
    import pyarrow as pa


Refusal = tuple[str, str]  # a dead letter's kind and detail


def not_utf8(error: UnicodeDecodeError) -> Refusal:
    """Why bytes are no text; the offset counts from the first of the bytes decoded."""
    return "not UTF-8", f"byte 0x{error.object[error.start]:02x} at {error.start}"


def not_of_type(value: Any, field: str, expected: str) -> Refusal:
    """Why a field's value is refused that is not there, or not of the type that is expected."""
    if value is ABSENT:
        return f"missing field {field!r}", ""
    if value is None:
        return f"field {field!r} is null", ""
    return f"field {field!r} is {type(value).__name__}, expected {expected}", ""


def is_text(type: pa.DataType) -> bool:
    """Whether an Arrow type is one of those of strings."""
    import pyarrow.types as types

    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def as_strings(values: list[Any] | pa.Array) -> pa.Array | None:
    """The values as an Arrow array of strings; None where one of them is no text, or is not UTF-8."""
    import pyarrow as pa
    import pyarrow.types as types

    try:
        if not isinstance(values, pa.Array):
            return pa.array(values, pa.string()) if set(map(type, values)) <= {str} else None
        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if not is_text(values.type):
            return None
        texts = values.cast(pa.string())
        texts.validate(full=True)  # the file says that it is UTF-8; it need not be
        return texts
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None


def sound_texts(
    values: list[Any] | pa.Array, field: str, *, blank: Refusal, expected: str, where: str = ""
) -> tuple[pa.Array, dict[int, Refusal]]:
    """The values of a field as strings, with null where one is refused, and why it is, by row.

    Args:
      blank: why a text is refused that is empty or nothing but white space.
      expected: what the field should hold, for the reasons.
      where: comes behind the reason of bytes that are not UTF-8, or no Unicode.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = as_strings(values)
    if texts is not None and not texts.null_count:
        empty = pc.or_(pc.utf8_is_space(texts), pc.equal(texts, ""))
        rows = pc.indices_nonzero(empty).to_pylist()
        return pc.if_else(empty, None, texts) if rows else texts, dict.fromkeys(rows, blank)

    def refusal(value: Any) -> Refusal | None:
        if type(value) is str:
            try:
                value.encode()
            except UnicodeEncodeError as e:
                return "not Unicode", f"lone surrogate at {e.start}{where}"
            return None if value and not value.isspace() else blank
        if isinstance(value, UnicodeDecodeError):
            kind, detail = not_utf8(value)
            return kind, detail + where
        return not_of_type(value, field, expected)

    plain = plain_values(values)  # one of them is no text: each alone tells why
    refused = {row: why for row, value in enumerate(plain) if (why := refusal(value))}
    return pa.array([None if row in refused else v for row, v in enumerate(plain)], pa.string()), refused


def plain_values(values: list[Any] | pa.Array) -> list[Any]:
    """Values as Python has them; a UnicodeDecodeError stands for text that is not UTF-8."""
    import pyarrow as pa

    if not isinstance(values, pa.Array):
        return values
    try:
        return values.to_pylist()
    except ValueError:
        return [_value(scalar) for scalar in values]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as e:
        return e
    except ValueError:  # nanoseconds, which Python's own times do not hold
        return scalar.value
