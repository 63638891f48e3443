"""Web archives, as Common Crawl publishes them: a document per page; slices are ranges of gzip members.

WET files hold pages' texts, WARC files what servers answered. Both are read alike: a conversion is text, a
response is a page where it is HTML or plain text. All other records are no documents.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from transforms.elements import ABSENT, RECORD_BYTES, Slice
from transforms.errors import BadFileError
from transforms.formats import gzip_members
from transforms.formats.base import (
    HEAD_BYTES,
    Bad,
    Format,
    RawBlock,
    ReadOptions,
    Record,
    in_blocks,
    too_long,
)
from transforms.formats.compression import compression_of, open_decompressed, taken_of
from transforms.formats.records import escaped
from transforms.formats.warc_pages import TYPES, Content, NoDocument, fill
from transforms.formats.warc_records import HEADER_BYTES, MARK, TRUNCATED, Framed, framed
from transforms.storage import files

# Asked for at each cut of a file in a store.
_LOOK = 256 << 10


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """Other fields than the ones of TYPES are lines of the record's header, by their names."""
    skipped: collections.Counter[str] = collections.Counter()
    with _opened(slice) as (records, taken):

        def columns(contents: Sequence[Content], bad: Bad) -> dict[str, list[Any]]:
            return {name: [one.values.get(name, ABSENT) for one in contents] for name in options.fields}

        blocks = in_blocks(
            slice,
            _documents(records, options, skipped),
            columns=columns,
            text=lambda content: escaped(content.data[:HEAD_BYTES]),
            ids=lambda content: content.url,
            taken=taken,
        )
        types = {name: TYPES[name] for name in options.fields if name in TYPES}
        for block in blocks:
            block.types, block.skipped = types, dict(skipped)
            skipped.clear()
            yield block
            del block
        if skipped:
            none = np.zeros(0, np.int64)
            yield RawBlock(none, columns((), {}), str, 0, 0, types=types, ids=[], skipped=dict(skipped))


def _documents(
    records: Iterator[Framed], options: ReadOptions, skipped: collections.Counter
) -> Iterator[Record]:
    for position, data, size, bad in records:
        content = Content(data, None, {})
        if bad is None:
            try:
                bad = fill(content, options)
            except NoDocument as e:
                skipped[e.args[0]] += 1
                continue
        # Blocks are bounded by what is in memory: a body may decode to a thousand times its bytes.
        text = content.values.get("text")
        yield position, content, max(size, len(text) if isinstance(text, str) else 0), bad
        del content, data, text


@contextlib.contextmanager
def _opened(slice: Slice) -> Iterator[tuple[Iterator[Framed], Callable[[], int]]]:
    """The slice's records, and what tells how far its file was read."""
    with contextlib.ExitStack() as stack:
        if compression_of(slice.path) == "gzip":
            raw = stack.enter_context(files.open_read(slice.path))
            if slice.start or slice.end is not None or _is_cuttable(raw):
                at = [slice.start]
                yield _of_members(raw, slice, at), lambda: at[0]
                return
        stream = stack.enter_context(open_decompressed(slice.path, source=slice.source))
        yield _of_stream(stream, slice.source), taken_of(stream)


def _of_members(raw: BinaryIO, slice: Slice, at: list[int]) -> Iterator[Framed]:
    """Records of a file that has each in a member of its own; their positions are those of the members."""
    for member in _members(raw, slice, RECORD_BYTES + HEADER_BYTES):
        at[0] = member.end
        if member.damage:
            detail = f"{member.damage}; {member.size:,} bytes are skipped"
            yield member.start, member.data, member.size, ("damaged gzip member", detail)
        elif member.size > len(member.data):
            yield member.start, member.data[:HEAD_BYTES], member.size, too_long(member.size)
        else:
            for _, data, size, bad in framed(io.BytesIO(member.data)):
                if bad and bad[0] == TRUNCATED:
                    bad = "wrong Content-Length", bad[1]
                yield member.start, data, size, bad


def _of_stream(stream: BinaryIO, source: str) -> Iterator[Framed]:
    for position, data, size, bad in framed(stream):
        if bad and bad[0] == TRUNCATED:
            raise BadFileError(source, position, f"truncated: {bad[1]}; fetch the file again")
        yield position, data, size, bad


def _members(raw: BinaryIO, slice: Slice, most: int) -> Iterator[gzip_members.Member]:
    return gzip_members.members(raw, slice.source, start=slice.start, end=slice.end, most=most, head=MARK)


def _is_cuttable(raw: BinaryIO) -> bool:
    """Whether a gzip file has a member for each record, as its first one tells."""
    most = RECORD_BYTES + HEADER_BYTES
    try:
        first = next(gzip_members.members(raw, "", start=0, end=None, most=most, head=MARK), None)
    except BadFileError:
        return False
    if first is None or first.damage:
        return first is not None
    found = list(framed(io.BytesIO(first.data))) if first.size == len(first.data) else []
    return len(found) == 1 and (found[0][3] or ("",))[0] != TRUNCATED


def _check(slice: Slice, options: ReadOptions) -> None:
    with _opened(slice) as (records, _):
        collections.deque(records, maxlen=0)


def _cut(whole: Sequence[Slice], target: int) -> list[list[Slice]]:
    """Cuts files at members; a small read at each cut, many files at a time."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(lambda file: _cut_file(file, target), whole))


def _cut_file(whole: Slice, target: int) -> list[Slice]:
    if compression_of(whole.path) != "gzip" or whole.size <= target:
        return [whole]
    try:
        with files.open_read(whole.path, block=_LOOK) as raw:
            found = gzip_members.cuts(raw, whole.size, target, head=MARK) if _is_cuttable(raw) else []
    except (OSError, BadFileError):
        return [whole]  # its shard will fail and say why; the others go on
    slices = [dataclasses.replace(whole, start=a, end=b, bytes=b - a) for a, b in itertools.pairwise(found)]
    if len(slices) < 2:
        return [whole]
    slices[-1] = dataclasses.replace(slices[-1], end=None)  # so that what a truncated file lacks is missed
    return slices


_ALIKE: dict[str, Any] = {
    "holds": "text",
    "cut": _cut,
    "cut_codecs": (".gz",),
    "needs": (("fastwarc", "resiliparse", "brotli"), "crawl"),
}
WET = Format("wet", (".wet",), _read, _check, **_ALIKE)
WARC = Format("warc", (".warc",), _read, _check, **_ALIKE)
