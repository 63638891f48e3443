"""An Encoder without TF, blocks from what people can read, and a runner for one DoFn."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

from transforms.blocks import ChunkBlock, DeadLetters, DocumentBlock, RowBlock, Run
from transforms.elements import Document, Origin
from transforms.encoder.config import ModelConfig
from transforms.modality.text import Text
from transforms.steps.encoder import SharedEncoder

DIM = 3


def vector_of(text: str) -> np.ndarray:
    """What FakeEncoder makes of a text, float32 [3]."""
    return np.array([len(text), zlib.crc32(text.encode()) % 1000, 1], np.float32)


def count_words(texts: Sequence[str]) -> np.ndarray:
    """A token a word and two special ones."""
    return np.array([2 + len(text.split()) for text in texts], np.int64)


class FakeEncoder:
    """Embeds by vector_of; `before` sees each mini-batch first, and may wait or raise."""

    dim = DIM
    dtype = "float32"
    unit_length = False
    modality = Text()
    prepares = False
    sample = "a sample sentence"
    digest = "fake"
    device = "CPU"
    device_name = "fake"
    device_memory = None
    threads = None

    def __init__(
        self,
        *,
        window: int | None = None,
        count: Callable[[Sequence[str]], np.ndarray] | None = count_words,
        before: Callable[[list[str]], None] | None = None,
    ):
        self.window = window
        self.can_count = count is not None
        self._counter = count
        self._before = before
        self.calls: list[list[str]] = []

    def prepare(self, texts: Sequence[str]) -> tuple[Sequence[str], dict[int, Any]]:
        return texts, {}

    def estimate(self, texts: Sequence[str]) -> np.ndarray:
        return self.modality.estimate(texts)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        if self._before:
            self._before(list(texts))
        return np.stack([vector_of(text) for text in texts])

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, None]:
        assert self._counter is not None
        return self._counter(texts), None


def shared(encoder: FakeEncoder) -> SharedEncoder:
    """A SharedEncoder that gives this very encoder, in this process."""
    return SharedEncoder(ModelConfig("fake"), lambda config: encoder)


def load_fake(config: ModelConfig) -> FakeEncoder:
    """For pipelines, whose DoFns are pickled: window 6, a token a word."""
    return FakeEncoder(window=6)


@dataclasses.dataclass(frozen=True)
class Doc:
    """A document as tests write it."""

    index: int
    text: str
    source: str = ""
    position: int = 0
    origin: tuple[Any, Any] | None = None  # timestamp and window

    @property
    def doc_id(self) -> str:
        return f"doc{self.index}"


def document(index: int, text: str = "", **fields: Any) -> Doc:
    return Doc(index, text or f"text {index}", **fields)


def block(*documents: Doc, shard_id: str = "s") -> DocumentBlock:
    """Documents in columns."""
    columns = pa.record_batch(
        {
            "doc_id": pa.array([d.doc_id for d in documents], pa.string()),
            "source": pa.array([d.source for d in documents], pa.string()),
            "position": pa.array([d.position for d in documents], pa.int64()),
            "index": pa.array([d.index for d in documents], pa.int64()),
            "payload": pa.array([d.text for d in documents], pa.string()),
        }
    )
    origins = [Origin(Document(d.doc_id, d.text), *d.origin) for d in documents if d.origin]
    return DocumentBlock(shard_id, columns, tuple(origins) or None)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A chunk as tests read it."""

    doc_id: str
    number: int
    start: int
    text: str
    tokens: int | None
    document_tokens: int | None
    dropped: int | None
    cost: int


def pieces(chunks: ChunkBlock, rows: Sequence[int] | None = None) -> list[Piece]:
    """Chunks one by one: all, or some."""
    ids = chunks.documents.columns.column("doc_id").to_pylist()
    owners = chunks.owners.tolist()

    def value(column: np.ndarray | None, row: int) -> int | None:
        return None if column is None else int(column[row])

    return [
        Piece(
            ids[owners[i]],
            i - owners.index(owners[i]),
            int(chunks.starts[i]),
            chunks.payloads[i].as_py(),
            value(chunks.tokens, i),
            value(chunks.document_tokens, owners[i]),
            value(chunks.dropped, owners[i]),
            int(chunks.costs[i]),
        )
        for i in (range(len(owners)) if rows is None else rows)
    ]


def chunks(*parts: tuple[Doc, Sequence[tuple[str, int]]], number: int = 0, shard_id: str = "s") -> ChunkBlock:
    """A ChunkBlock from documents and the (text, cost) of their chunks; tokens are costs."""
    flat = [(row, doc, *chunk) for row, (doc, of) in enumerate(parts) for chunk in of]
    starts = np.array([max(0, doc.text.find(text)) for _, doc, text, _ in flat], np.int64)
    costs = np.array([cost for *_, cost in flat], np.int64)
    totals = np.array([sum(cost for _, cost in of) for _, of in parts], np.int64)
    return ChunkBlock(
        number=number,
        documents=block(*(doc for doc, _ in parts), shard_id=shard_id),
        ids=None,
        cut=pa.array([text for _, _, text, _ in flat], pa.string()),
        owners=np.array([row for row, *_ in flat], np.int64),
        starts=starts,
        ends=starts + np.array([len(text) for _, _, text, _ in flat], np.int64),
        tokens=costs,
        costs=costs,
        document_tokens=totals,
        dropped=np.zeros(len(parts), np.int64),
    )


def whole(*documents: Doc, costs: Sequence[int] | None = None, **fields: Any) -> ChunkBlock:
    """A ChunkBlock of documents of one chunk each."""
    costs = costs or [1] * len(documents)
    return chunks(*((d, [(d.text, cost)]) for d, cost in zip(documents, costs, strict=True)), **fields)


def one_run(window: ChunkBlock, rows: Sequence[int] | None = None) -> Run:
    picked = np.arange(len(window.costs)) if rows is None else np.array(rows, np.int64)
    return Run(window, picked, int(window.costs[picked].sum()))


def rows_of(element: RowBlock) -> list[tuple[Any, ...]]:
    """(doc_id, vector, tokens, dropped, payload, chunk, start, end) of each row."""
    count = len(element.vectors)

    def column(values: Any) -> list[Any]:
        return [None] * count if values is None else values.tolist()

    names = ("tokens", "dropped", "payloads", "chunk", "start", "end")
    columns = [column(getattr(element, name)) for name in names]
    return list(
        zip(element.columns.column("doc_id").to_pylist(), element.vectors.tolist(), *columns, strict=True)
    )


def letters_of(elements: Iterable[Any]) -> list[Any]:
    """Elements, with the letters of each DeadLetters in its place."""
    return [one for e in elements for one in (e.letters if isinstance(e, DeadLetters) else [e])]


def bundle(fn: Any, elements: Iterable[Any]) -> list[Any]:
    """Runs one bundle through a DoFn that is set up; finish_bundle's values come unwrapped."""
    fn.start_bundle()
    out = [result for element in elements for result in fn.process(element) or ()]
    return out + [value.value for value in finish(fn)]


def finish(fn: Any) -> list[WindowedValue]:
    values = list(fn.finish_bundle() or ())
    assert all(isinstance(value, WindowedValue) for value in values)
    return values


def run(fn: Any, elements: Iterable[Any]) -> list[Any]:
    """A DoFn's whole life with one bundle."""
    fn.setup()
    try:
        return bundle(fn, elements)
    finally:
        fn.teardown()
