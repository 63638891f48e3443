"""What the tests of formats share: slices read to documents and dead letters, one by one."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from transforms import modality
from transforms.blocks import DeadLetters, DocumentBlock
from transforms.elements import ABSENT, DeadLetter, Slice
from transforms.formats import slices
from transforms.formats.base import ReadOptions
from transforms.formats.slices import check_slice
from transforms.steps.documents import checked
from transforms.texts import plain_values

TEXT = modality.get("text")


class AsTheyAre:
    """A modality that takes bytes, numbers or lists as a format gives them, and refuses what is missing."""

    def decode(self, columns):
        ((name, values),) = columns.items()
        values = plain_values(values)
        why = {i: (f"missing field {name!r}", "") for i, value in enumerate(values) if value is ABSENT}
        why |= {i: (f"field {name!r} is null", "") for i, value in enumerate(values) if value is None}
        return pa.array([None if i in why else value for i, value in enumerate(values)]), why

    def from_file(self, data):
        return data


@dataclasses.dataclass(frozen=True)
class Doc:
    """A row of a DocumentBlock."""

    doc_id: str
    text: str
    source: str
    position: int
    index: int = 0
    kept: dict = dataclasses.field(default_factory=dict)


def whole(path: Path, format: str, **changes) -> Slice:
    state = os.stat(path)
    fields = {"size": state.st_size, "mtime": state.st_mtime, "bytes": state.st_size, **changes}
    return Slice(str(path), path.name, format, **fields)


def read_slice(piece: Slice, options: ReadOptions | None = None) -> list[Any]:
    """A slice's documents, with kept values as the format gives them, and its dead letters, in order."""
    options = options or ReadOptions()
    found: list[tuple[int, Any]] = []
    index = 0
    for raw in slices.read_slice(piece, options):
        assert len(raw.positions) or raw.types or raw.skipped  # an empty one has something to say
        assert all(len(values) == len(raw.positions) for values in raw.columns.values())
        one = checked(raw, piece, options, TEXT if options.payload_kind == "text" else AsTheyAre())
        kept = {name: plain(values) for name, values in one.kept.items()}
        texts, ids = one.payloads.to_pylist(), one.doc_ids.to_pylist()
        for i, row in enumerate(one.rows.tolist()):
            values = {name: kept[name][i] for name in kept}
            position = int(raw.positions[row])
            found.append((index + row, Doc(ids[i], texts[i], piece.source, position, index + row, values)))
        for row, doc_id, kind, detail in one.refused:
            at, position = index + row, int(raw.positions[row])
            letter = DeadLetter(doc_id, piece.source, position, "read", kind, detail, raw.record(row), at)
            found.append((at, letter))
        index += len(raw.positions)
    found.sort(key=lambda pair: pair[0])
    assert [at for at, _ in found] == list(range(index))
    return [one for _, one in found]


def plain(values: Any) -> list[Any]:
    listed = values if isinstance(values, list) else plain_values(values)
    return [None if value is ABSENT else value for value in listed]


def read(tmp_path: Path, data: bytes, format: str, *, name: str = "f", options=None, **changes) -> list:
    path = tmp_path / name
    path.write_bytes(data)
    piece = whole(path, format, **changes)
    check_slice(piece, options or ReadOptions())
    return read_slice(piece, options or ReadOptions())


def short(found: list) -> list[tuple]:
    """(doc_id, text, kept) of documents, (doc_id, reason, payload) of dead letters."""
    return [
        (e.doc_id, e.text, dict(e.kept)) if isinstance(e, Doc) else (e.doc_id, e.reason, e.payload)
        for e in found
    ]


def cut(path: Path, format: str, size: int) -> list[Slice]:
    total = path.stat().st_size
    starts = range(0, max(total, 1), size)
    return [whole(path, format, start=a, end=min(a + size, total)) for a in starts]


def flat(elements: list[Any]) -> list[Any]:
    """Blocks and dead letters of a shard as Doc and DeadLetter, in order; then the other elements."""
    records: list[Any] = []
    others = []
    for one in elements:
        if isinstance(one, DocumentBlock):
            names = one.columns.schema.names
            assert names[:6] == ["doc_id", "source", "position", "index", "payload", "fingerprint"]
            for row in zip(*(plain_values(column) for column in one.columns.columns), strict=True):
                doc_id, source, position, index, text, _, *kept = row
                records.append(
                    Doc(doc_id, text, source, position, index, dict(zip(names[6:], kept, strict=True)))
                )
        elif isinstance(one, DeadLetters):
            records += one.letters
        else:
            others.append(one)
    return sorted(records, key=lambda record: record.index) + others
