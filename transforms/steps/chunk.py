"""Documents into chunks that fit the model's window."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import modality, observer
from transforms.blocks import ChunkBlock, DeadLetters, DocumentBlock
from transforms.elements import DeadLetter, Element
from transforms.encoder.messages import first_line
from transforms.encoder.protocol import Encoder
from transforms.errors import ModelError
from transforms.modality import Modality
from transforms.steps.encoder import SharedEncoder

# A larger payload is counted in pieces: a tokenizer takes many times the memory of what it cuts.
_PIECE = 1 << 18
_CUT_AT_ONCE = 10_000
# A mini-batch has at most so many bytes for each token of its budget: a word of a megabyte is three tokens.
_BYTES_A_TOKEN = 64
# And at most so many bytes of the documents that its chunks are of, which wait with them.
_BYTES_HELD = 8 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkConfig:
    """How long documents are treated.

    Attributes:
      mode: mean (merge the chunks' vectors), truncate (first window only) or chunks (a row each).
      overlap: tokens that a chunk shares with the one before it.
      max_tokens: the window in tokens where the model does not state one; None: unknown.
      batch_tokens: token budget of a mini-batch; no chunk costs more.
      modality: what the payloads are.
    """

    mode: str = "mean"
    overlap: int = 32
    max_tokens: int | None = None
    batch_tokens: int = 1000
    modality: str = "text"


class Chunker:
    """Cuts documents into chunks, with the model's own count of tokens where it has one."""

    def __init__(self, config: ChunkConfig, encoder: Encoder):
        self._config, self._encoder = config, encoder
        self._modality: Modality = modality.get(config.modality)
        stated = [n for n in (encoder.window, config.max_tokens) if n is not None]
        self._window = min(stated, default=None)

    def chunk(self, block: DocumentBlock) -> tuple[ChunkBlock | None, list[DeadLetter]]:
        """The chunks of a block's documents, and dead letters for those that cannot be counted.

        Raises:
          ModelError: the model counts not even a payload that it has counted before.
        """
        try:
            return self._chunks(block), []
        except _Refused:  # one of them; each alone tells which
            pass
        refused: dict[int, str] = {}
        for row in range(block.columns.num_rows):
            try:
                self._chunks(select(block, np.array([row])))
            except _Refused as e:
                refused[row] = str(e)
        try:
            self._count([self._encoder.sample])
            rest = np.array([i for i in range(block.columns.num_rows) if i not in refused], np.int64)
            chunks = self._chunks(select(block, rest)) if len(rest) else None
        except _Refused as e:
            raise ModelError(f"the model no longer counts tokens: {e}") from e
        kind = "the model cannot count its tokens"
        letters = [
            dead_letter(block, row, stage="chunk", kind=kind, detail=detail, of=self._modality)
            for row, detail in refused.items()
        ]
        return chunks, letters

    def _chunks(self, block: DocumentBlock) -> ChunkBlock:
        payloads = block.payloads
        values = payloads.to_pylist()
        totals = self._count(values)
        spans = self._cut_long(values, totals)
        known = self._encoder.can_count
        owners = np.arange(len(values), dtype=np.int64)
        starts, tokens = np.zeros(len(values), np.int64), totals
        ends = np.fromiter(map(self._modality.length, values), np.int64, len(values))
        dropped, cut = np.zeros(len(values), np.int64), None
        if spans:
            whole = np.stack([starts, ends, totals], axis=1)
            of_row = [spans.get(i, whole[i : i + 1]) for i in range(len(values))]
            owners = np.repeat(owners, list(map(len, of_row)))
            starts, ends, tokens = np.concatenate(of_row).T.copy()
            payloads = cut = self._cut(values, payloads.type, owners, starts, ends)
            if self._config.mode == "truncate":
                dropped = np.maximum(0, totals - tokens)  # a chunk a document
        del values  # may be a huge text
        weights = self._weights(block.payloads, payloads, owners)
        return ChunkBlock(
            number=0,
            documents=block,
            cut=cut,
            owners=owners,
            starts=starts,
            ends=ends,
            tokens=tokens if known else None,
            costs=np.clip(np.maximum(tokens, weights), 1, self._config.batch_tokens),
            document_tokens=totals if known else None,
            dropped=dropped if known else None,
        )

    def _cut(self, values: Sequence[Any], type: pa.DataType, *spans: np.ndarray) -> pa.Array:
        """The chunks, by owner, start and end; some at a time, since Python's strings are large."""
        cut = self._modality.cut
        parts = np.array_split(np.stack(spans, axis=1), -(-len(spans[0]) // _CUT_AT_ONCE))
        return pa.concat_arrays(
            [pa.array([cut(values[i], a, b) for i, a, b in part.tolist()], type) for part in parts]
        )

    def _weights(self, documents: pa.Array, chunks: pa.Array, owners: np.ndarray) -> np.ndarray:
        """What chunks take of the budget for their bytes, and for their share of their document's."""
        parts = np.maximum(1, np.bincount(owners, minlength=len(documents)))
        held = self._modality.weight(documents) // parts
        return np.maximum(
            -(-self._modality.weight(chunks) // _BYTES_A_TOKEN),
            held[owners] * self._config.batch_tokens // _BYTES_HELD,
        )

    def _cut_long(self, values: Sequence[Any], totals: np.ndarray) -> dict[int, np.ndarray]:
        """The spans of the documents that are longer than the window, by their row."""
        if self._window is None:
            return {}
        long = np.flatnonzero(totals > self._window).tolist()
        if not long:
            return {}
        texts = [values[i] for i in long]
        truncate = self._config.mode == "truncate"
        spans = self._modality.split(
            texts,
            window=self._window,
            overlap=self._config.overlap,
            count=self._count,
            most=2 if truncate else None,
        )
        if truncate and self._encoder.window == self._window:
            spans = self._to_the_brim(texts, spans)
        return dict(zip(long, (s[:1] if truncate else s for s in spans), strict=True))

    def _to_the_brim(self, texts: Sequence[Any], spans: Sequence[np.ndarray]) -> list[np.ndarray]:
        """First windows for a model that cuts by itself, between any two tokens.

        It gets the words beyond its window too, and so embeds exactly as many tokens as it can.
        """
        ends = [int(of_text[:2][-1, 1]) for of_text in spans]
        tokens = self._count([self._modality.cut(t, 0, end) for t, end in zip(texts, ends, strict=True)])
        assert self._window is not None
        most = np.minimum(tokens, self._window)
        return [np.array([[0, end, n]]) for end, n in zip(ends, most, strict=True)]

    def _count(self, payloads: Sequence[Any]) -> np.ndarray:
        """Tokens of payloads, int64, as the model counts them, or estimated."""
        large = [i for i, payload in enumerate(payloads) if self._modality.length(payload) > _PIECE]
        if not large:
            return self._ask(payloads)
        special = int(self._ask([self._modality.cut(payloads[large[0]], 0, 0)])[0])
        counts = np.zeros(len(payloads), np.int64)
        small = [i for i in range(len(payloads)) if i not in set(large)]
        counts[small] = self._ask([payloads[i] for i in small]) if small else 0
        for i in large:
            pieces = self._modality.pieces(payloads[i], _PIECE)
            counts[i] = special + sum(int(self._ask([piece])[0]) - special for piece in pieces)
        return counts

    def _ask(self, payloads: Sequence[Any]) -> np.ndarray:
        try:
            if self._encoder.can_count:
                return self._encoder.count_tokens(payloads)
            return self._modality.estimate(payloads)
        except Exception as e:  # a tokenizer may raise anything for a text
            raise _Refused(first_line(e)) from e


class _Refused(Exception):
    """The model's tokenizer raised."""


def select(block: DocumentBlock, rows: np.ndarray) -> DocumentBlock:
    """Some of a block's documents, by row."""
    origins = tuple(block.origins[i] for i in rows.tolist()) if block.origins else None
    return DocumentBlock(block.shard_id, block.columns.take(pa.array(rows)), origins)


def dead_letter(
    block: DocumentBlock, row: int, *, stage: str, kind: str, detail: str, of: Modality
) -> DeadLetter:
    """A dead letter for a document that was read, with its payload as it is shown."""
    doc_id, source, position, index, payload = (column[row].as_py() for column in block.columns.columns[:5])
    origin = block.origins[row] if block.origins else None
    return DeadLetter(doc_id, source, position, stage, kind, detail, of.shown(payload), index, origin)


class _ChunkFn(beam.DoFn):
    def __init__(self, encoder: SharedEncoder, config: ChunkConfig):
        self._shared = encoder
        self._config = config

    def setup(self) -> None:
        # The whole of what is shared: Beam forgets it as soon as nobody holds it, and loads it anew.
        self._robust = self._shared.acquire()
        self._chunker = Chunker(self._config, self._robust.encoder)

    def process(self, element: Any) -> Iterator[Any]:
        if not isinstance(element, DocumentBlock):
            yield element
            return
        chunks, letters = self._chunker.chunk(element)
        if letters:
            yield DeadLetters(element.shard_id, tuple(letters))
        if chunks is not None:
            observer.tell(observer.Chunked(len(chunks.costs), int(chunks.costs.sum())))
            yield chunks


@dataclasses.dataclass(eq=False)
class ChunkDocuments(beam.PTransform):
    """DocumentBlock -> ChunkBlock; dead letters and end-of-shard markers pass."""

    encoder: SharedEncoder
    config: ChunkConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_ChunkFn(self.encoder, self.config)).with_output_types(Element)
