"""An Encoder without TF, and a runner for one DoFn, for tests where neither is the point."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from apache_beam.utils.windowed_value import WindowedValue

from transforms.elements import Chunk, Document
from transforms.encoder.hub import ModelConfig
from transforms.steps.shared import SharedEncoder

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
    sample = "a sample sentence"
    device = "CPU"

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        count: Callable[[Sequence[str]], np.ndarray] | None = count_words,
        before: Callable[[list[str]], None] | None = None,
    ):
        self.max_tokens = max_tokens
        self.can_count = count is not None
        self._counter = count
        self._before = before
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        if self._before:
            self._before(list(texts))
        return np.stack([vector_of(text) for text in texts])

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        assert self._counter is not None
        return self._counter(texts)


def shared(encoder: FakeEncoder) -> SharedEncoder:
    """A SharedEncoder that gives this very encoder, in this process."""
    return SharedEncoder(ModelConfig("fake"), lambda config: encoder)


def load_fake(config: ModelConfig) -> FakeEncoder:
    """For pipelines, whose DoFns are pickled: window 6, a token a word."""
    return FakeEncoder(max_tokens=6)


def document(index: int, text: str = "", **fields: Any) -> Document:
    return Document(f"doc{index}", text or f"text {index}", index=index, **fields)


def chunk(
    doc: Document | int, *, number: int = 0, count: int = 1, cost: int = 1, text: str | None = None
) -> Chunk:
    """A chunk whose text defaults to its document's, and whose tokens are its cost."""
    doc = document(doc) if isinstance(doc, int) else doc
    text = doc.text if text is None else text
    return Chunk(doc, number, count, 0, len(text), text, cost, cost * count, 0, cost)


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
