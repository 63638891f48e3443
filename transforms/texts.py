"""Text as files have it: of several Arrow types, and not always UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def not_utf8(error: UnicodeDecodeError) -> tuple[str, str]:
    """Why bytes are no text; the offset counts from the first of the bytes decoded."""
    return "not UTF-8", f"byte 0x{error.object[error.start]:02x} at {error.start}"


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


def blank(texts: pa.Array) -> pa.Array:
    """Which texts are empty, or nothing but white space."""
    import pyarrow.compute as pc

    return pc.or_(pc.utf8_is_space(texts), pc.equal(texts, ""))


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
