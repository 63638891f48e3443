"""JSON Lines: an object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from transforms.elements import DeadLetter, Document, Slice
from transforms.formats.records import ReadOptions, as_json, dead, documents_of, escaped, not_utf8
from transforms.formats.text import BOM, raw_lines
from transforms.storage import files

_ARRAY = "not a JSON object per line (the file looks like a JSON array; convert it with jq -c '.[]')"


def read_jsonl(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """A document per line; slices are those of lines."""
    document = documents_of(slice, options)
    in_array = slice.start > 0 and _starts_array(slice)
    for position, raw in raw_lines(slice):
        try:
            line = raw.decode("utf-8")
            if position == 0:
                in_array = line.startswith("[")
            fields = _parse(line)
            reason = _ARRAY if in_array else ""
            if type(fields) is not dict:
                reason = reason or f"not a JSON object: {'null' if fields is None else type(fields).__name__}"
            elif "\\u" in line and ("\\ud" in line or "\\uD" in line):
                # Only an escape can bring a lone surrogate into a line that is UTF-8.
                reason = reason or _lone_surrogate(fields, options)
            if not reason:
                yield document(position, fields, payload=line)
                continue
        except UnicodeDecodeError as e:
            yield dead(slice, position, not_utf8(e), payload=escaped(raw))
            continue
        except json.JSONDecodeError as e:
            blank = not line or line.isspace()
            reason = "blank line" if blank else f"not JSON: {e.msg} at column {e.colno}"
        except RecursionError:
            reason = "not JSON: nested too deeply"
        except ValueError as e:  # NaN, Infinity, integers of thousands of digits
            reason = f"not JSON: {str(e).partition(';')[0]}"
        yield dead(slice, position, _ARRAY if in_array else reason, payload=line)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def _parse(line: str) -> Any:
    """As decoder.decode, which looks for white space by a regular expression on both sides of each line."""
    try:
        value, end = _decoder.raw_decode(line)
    except json.JSONDecodeError:
        end = -1
    return value if end == len(line) else _decoder.decode(line)


def _starts_array(slice: Slice) -> bool:
    return files.read_head(slice.path, len(BOM) + 1).removeprefix(BOM).startswith(b"[")


def _lone_surrogate(fields: dict[str, Any], options: ReadOptions) -> str:
    for name in options.fields:
        value = fields.get(name)
        try:
            if isinstance(value, str | dict | list):
                (value if isinstance(value, str) else as_json(value)).encode("utf-8")
        except UnicodeEncodeError as e:
            of = "" if name == options.text_field else f" of field {name!r}"
            return f"not Unicode: lone surrogate at {e.start}{of}"
    return ""
