"""JSON Lines: an object per line; slices are those of lines."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import orjson

from transforms.elements import ABSENT, Slice
from transforms.formats.base import Bad, Format, RawBlock, ReadOptions, byte_ranges
from transforms.formats.encoding import BOM, HEAD
from transforms.formats.lines import check_lines, line_blocks
from transforms.formats.records import as_json, decoded

_ARRAY = "not a JSON object per line (the file looks like a JSON array; convert it with jq -c '.[]')", ""
_TOO_DEEP = "not JSON", "nested too deeply"
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    return line_blocks(slice, functools.partial(_columns, options))


def _columns(options: ReadOptions, head: bytes, lines: Sequence[bytes], bad: Bad) -> dict[str, list[Any]]:
    """The values of the fields; what is wrong with a line is added to `bad`."""
    array = looks_like_array(head)
    try:
        records = [] if array or bad else list(map(orjson.loads, lines))
    except ValueError:
        records = []
    if not records or set(map(type, records)) != {dict}:
        records = [_record(line, row, options, bad, array) for row, line in enumerate(lines)]
    columns = {name: [record.get(name, ABSENT) for record in records] for name in options.fields}
    mended = [_mend(lines, records, values) for values in columns.values()]
    if any(mended):
        columns = {name: [record.get(name, ABSENT) for record in records] for name in options.fields}
    for name in options.keep_fields:
        if name not in options.strict and set(map(type, columns[name])) & {dict, list}:
            columns[name] = [_as_text(value, row, bad) for row, value in enumerate(columns[name])]
    return columns


def _mend(lines: Sequence[bytes], records: list[Any], values: list[Any]) -> bool:
    """Reads lines again by the standard library whose integers are too long for the fast parser."""
    if {float, dict, list}.isdisjoint(map(type, values)):
        return False
    doubtful = [
        row
        for row, value in enumerate(values)
        if (type(value) is float and abs(value) >= 2**63)
        or (type(value) in (dict, list) and _LONG_NUMBER.search(lines[row]))
    ]
    for row in doubtful:
        with contextlib.suppress(RecursionError):  # then its text cannot be made either
            records[row] = _parse(lines[row].decode())
    return bool(doubtful)


def _record(line: bytes, row: int, options: ReadOptions, bad: Bad, array: bool) -> dict[str, Any]:
    """One line's object; empty, and the reason noted, where it is none.

    The standard library decides, and has the better words.
    """
    if row in bad:
        return {}
    with contextlib.suppress(ValueError):
        quick: Any = None if array else orjson.loads(line)
        if type(quick) is dict:
            return quick
    text = decoded(line, row, bad)
    if row in bad:
        return {}
    try:
        fields = _parse(text)
        if type(fields) is not dict:
            bad[row] = "not a JSON object", "null" if fields is None else type(fields).__name__
            array = array or (type(fields) is list and len(line) >= HEAD)  # all of a file, most likely
        elif "\\u" in text and ("\\ud" in text or "\\uD" in text):
            # Only an escape can bring a lone surrogate into a line that is UTF-8.
            for name in options.fields:
                value = fields.get(name)
                (value if isinstance(value, str) else as_json(value)).encode("utf-8")
    except UnicodeEncodeError as e:
        of = "" if name in options.payload_fields else f" of field {name!r}"
        bad[row] = "not Unicode", f"lone surrogate at {e.start}{of}"
    except json.JSONDecodeError as e:
        blank = not text or text.isspace()
        bad[row] = ("blank line", "") if blank else ("not JSON", f"{e.msg} at column {e.colno}")
    except RecursionError:
        bad[row] = _TOO_DEEP
    except ValueError as e:  # NaN, Infinity, integers of thousands of digits
        bad[row] = "not JSON", str(e).partition(";")[0]
    if array:
        bad[row] = _ARRAY
    return {} if row in bad else fields


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


_parse = json.JSONDecoder(parse_constant=_refuse).decode


def _as_text(value: Any, row: int, bad: Bad) -> Any:
    try:
        return as_json(value) if type(value) in (dict, list) else value
    except RecursionError:
        bad.setdefault(row, _TOO_DEEP)
        return None


@functools.lru_cache(1)
def looks_like_array(head: bytes) -> bool:
    """Whether a file that begins so is one JSON array instead of an object per line.

    >>> looks_like_array(b'[{"text": "a"},\\n'), looks_like_array(b'["a bad line"]\\n{"text": "a"}\\n')
    (True, False)
    """
    lines = head.removeprefix(BOM).lstrip().split(b"\n")
    if not lines[0].startswith(b"["):
        return False
    if len(lines) == 1 and len(head) >= HEAD:
        return False  # if it is one, it is the file's only line
    rest = [line for line in lines[1:] if line.strip()]
    if _is(list, lines[0]):
        return not rest
    # No array has two objects without a comma between them.
    return not (len(rest) > 1 and _is(dict, rest[0]) and _is(dict, rest[1]))


def _is(kind: type, line: bytes) -> bool:
    try:
        return type(orjson.loads(line)) is kind
    except ValueError:
        return False


FORMAT = Format("jsonl", (".jsonl", ".ndjson", ".json"), _read, check_lines, cut=byte_ranges)
