"""Tar archives in WebDataset's layout: a document per sample, files in a row whose names have one stem."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from transforms.elements import ABSENT, RECORD_BYTES, Slice
from transforms.formats.base import Bad, Format, RawBlock, ReadOptions, Record, in_blocks, too_long
from transforms.formats.compression import compression_of, open_decompressed, taken_of
from transforms.formats.media import IMAGES, MOST_BYTES, SOUNDS
from transforms.formats.records import as_json
from transforms.formats.tar_members import TarFile, TarStream

_TEXTS = ("txt", "text", "md", "html", "htm", "cls", "caption")
# Names that stand for any extension of a kind.
_KINDS = {"image": IMAGES, "audio": SOUNDS, "text": _TEXTS[:3]}
_EXTENSIONS_SHOWN = 20


@dataclasses.dataclass(slots=True)
class _Sample:
    """The files of one key.

    Attributes:
      key: path and name of the files up to the name's first dot.
      start: where the first one's header begins.
      size: bytes of the files that were read.
      found: bytes of the files that were asked for, by extension; of others None.
      bad: what is wrong with it.
    """

    key: str
    start: int
    size: int = 0
    found: dict[str, bytes | None] = dataclasses.field(default_factory=dict)
    bad: tuple[str, str] | None = None


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    with open_decompressed(slice.path, source=slice.source) as stream:
        archive = TarStream(stream, slice.source)
        compressed = compression_of(slice.path) is not None
        skipped = archive.skipped

        def columns(samples: Sequence[_Sample], bad: Bad) -> dict[str, list[Any]]:
            rows = [_values(sample, row, options, bad) for row, sample in enumerate(samples)]
            return {name: [values.get(name, ABSENT) for values in rows] for name in options.fields}

        for block in in_blocks(
            slice,
            _records(archive, options),
            columns=columns,
            text=_shown,
            taken=taken_of(stream) if compressed else lambda: archive.at,
            ids=lambda sample: sample.key,
        ):
            block.skipped = dict(+skipped)
            skipped.clear()
            yield block
            del block
        if +skipped:
            yield RawBlock(np.zeros(0, np.int64), columns((), {}), str, 0, 0, ids=[], skipped=dict(+skipped))


def _records(archive: TarStream, options: ReadOptions) -> Iterator[Record]:
    """Each sample after its byte offset in the decompressed archive."""
    sample: _Sample | None = None
    for file in archive:
        key, extension = _parts(file.name)
        if not extension:
            archive.skipped["file without an extension"] += 1
            continue
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample.start, sample, sample.size, sample.bad
            sample = _Sample(key, file.start)
        _add(sample, file, extension, options)
    if sample is not None:
        yield sample.start, sample, sample.size, sample.bad


def _parts(name: str) -> tuple[str, str]:
    """A file's key and extension; the second is "" for files that are no part of a sample.

    >>> _parts("a/b.c/001.seg.PNG"), _parts("./001.jpg"), _parts("a/.hidden"), _parts("a/README")
    (('a/b.c/001', 'seg.png'), ('001', 'jpg'), ('a/', ''), ('a/README', ''))
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower() if stem else ""


def _add(sample: _Sample, file: TarFile, extension: str, options: ReadOptions) -> None:
    if extension in sample.found:
        sample.bad = sample.bad or ("two files of one name", f"{extension!r} at byte {file.start}")
        return
    sample.found[extension] = None
    wanted = extension == "json" or any(extension in (name, *_KINDS.get(name, ())) for name in options.fields)
    if not wanted or sample.bad:
        return
    kind = next((kind for kind in ("image", "audio") if extension in _KINDS[kind]), None)
    most = MOST_BYTES[kind] if kind else RECORD_BYTES
    data = file.read(most)
    if data is None:
        sample.bad = too_long(file.size, most)
    elif sample.size + len(data) > MOST_BYTES["audio"]:  # of files that are not too long alone
        sample.bad = too_long(sample.size + len(data), MOST_BYTES["audio"])
        sample.found = dict.fromkeys(sample.found)
    else:
        sample.found[extension] = data
        sample.size += len(data)


def _values(sample: _Sample, row: int, options: ReadOptions, bad: Bad) -> dict[str, Any]:
    """The sample's fields: files by their extensions or kinds, all others from the json beside them."""
    values: dict[str, Any] = {}
    if row in bad:
        return values
    beside: dict[str, Any] | None = None
    for name in options.fields:
        extension = next(
            (one for one in (name, *_KINDS.get(name, ())) if sample.found.get(one) is not None), None
        )
        if extension is not None:
            payload = name in options.payload_fields
            as_bytes = options.payload_kind == "bytes" if payload else extension not in (*_TEXTS, "json")
            data = sample.found[extension] or b""
            values[name] = data if as_bytes else _text(data)
            continue
        if beside is None:
            beside = _json(sample, row, bad)
        if name in beside:
            value = beside[name]
            nested = type(value) in (dict, list) and name not in options.strict
            values[name] = as_json(value) if nested else value
        elif name in options.payload_fields:
            there = ", ".join(list(sample.found)[:_EXTENSIONS_SHOWN])
            bad.setdefault(row, (f"missing field {name!r}", f"the sample has {there}"))
    return values


def _json(sample: _Sample, row: int, bad: Bad) -> dict[str, Any]:
    """The fields of the json beside a sample's files; none where there is none, or it is broken."""
    data = sample.found.get("json")
    if data is None:
        return {}
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as e:
        bad.setdefault(
            row, ("not JSON", f"{e} in the sample's json" if isinstance(e, ValueError) else "too deep")
        )
        return {}
    if type(fields) is not dict:
        bad.setdefault(row, ("not a JSON object", f"the sample's json is {type(fields).__name__}"))
        return {}
    return fields


def _text(data: bytes) -> str | UnicodeDecodeError:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        return e


def _shown(sample: _Sample) -> str:
    """Its key, its files and its small texts."""
    texts = {
        name: data
        for name, data in sample.found.items()
        if data is not None and name in (*_TEXTS, "json") and len(data) < 1 << 16
    }
    return as_json({"key": sample.key, "files": list(sample.found), **texts})


def _check(slice: Slice, options: ReadOptions) -> None:
    with open_decompressed(slice.path, source=slice.source) as stream:
        collections.deque(TarStream(stream, slice.source), maxlen=0)


FORMAT = Format("tar", (".tar",), _read, _check)
