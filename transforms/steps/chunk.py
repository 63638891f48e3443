"""Documents into chunks that fit the model's window."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import observer
from transforms.blocks import PAYLOAD, ChunkBlock, DeadLetters, DocumentBlock
from transforms.elements import DeadLetter, Element
from transforms.encoder.messages import first_line
from transforms.encoder.protocol import Encoder
from transforms.errors import ModelError
from transforms.modality import Modality
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder

_CUT_AT_ONCE = 10_000
# A mini-batch has at most so many bytes of the documents that its chunks are of, which wait with them; or as
# many as its budget allows.
_BYTES_HELD = 8 << 20


class _Refused(Exception):
    """The model's tokenizer raised."""


class Chunker:
    """Cuts documents into chunks, with the model's own count of tokens where it has one."""

    def __init__(self, config: EmbedConfig, encoder: Encoder):
        self._config, self._encoder = config, encoder
        self._modality: Modality = encoder.modality  # it knows what the model's numbers are
        self._window = min((n for n in (encoder.window, config.max_tokens) if n is not None), default=None)

    def chunk(self, block: DocumentBlock) -> Iterator[DeadLetters | ChunkBlock]:
        """Dead letters for the documents of a block that cannot be counted, and the chunks of all others.

        Raises:
          ModelError: the model counts not even a payload that it has counted before.
        """
        try:
            yield self._chunks(block)
            return
        except _Refused:  # one of them; each alone tells which
            pass
        made: list[ChunkBlock] = []
        refused: dict[int, tuple[str, str]] = {}
        for row in range(block.columns.num_rows):
            try:
                made.append(self._chunks(select(block, [row])))
            except _Refused as e:
                refused[row] = ("the model cannot count its tokens", str(e))
        try:
            self._count([self._encoder.sample])
        except _Refused as e:
            raise ModelError(f"the model no longer counts tokens: {e}") from e
        if refused:
            yield dead_letters(block, refused, stage="chunk", of=self._modality)
        yield from made

    def _chunks(self, block: DocumentBlock) -> ChunkBlock:
        values = self._modality.values(block.payloads)
        totals, ids = self._tokenize(values)
        tokens = totals
        owners, dropped, cut = np.arange(len(values)), np.zeros(len(values), np.int64), None
        starts, ends = np.zeros(len(values), np.int64), self._lengths(values)
        if spans := self._cut_long(values, totals):
            whole = np.stack([starts, ends, totals], axis=1)
            of_row = [spans.get(i, whole[i : i + 1]) for i in range(len(values))]
            owners = np.repeat(owners, list(map(len, of_row)))
            starts, ends, tokens = np.concatenate(of_row).T.copy()
            if not self._modality.cuts_late:
                cut = self._cut(values, block.payloads.type, owners, starts, ends)
            if ids is not None:  # those of whole documents
                ids = ids.take(pa.array(owners, mask=np.isin(owners, list(spans))))
            if self._config.mode == "truncate":
                dropped = np.maximum(0, totals - tokens)  # a chunk a document
        del values  # may be a huge text
        weights = self._weights(block.payloads, cut, owners)
        known = self._encoder.can_count
        return ChunkBlock(
            number=0,
            documents=block,
            cut=cut,
            ids=ids,
            owners=owners,
            starts=starts,
            ends=ends,
            tokens=tokens if known else None,
            costs=np.clip(np.maximum(tokens, weights), 1, self._config.batch_tokens),
            document_tokens=totals if known else None,
            dropped=dropped if known else None,
        )

    def _weights(self, documents: pa.Array, cut: pa.Array | None, owners: np.ndarray) -> np.ndarray:
        """What chunks take of the budget for their bytes, and for their share of their document's."""
        budget, a_token = self._config.batch_tokens, self._modality.bytes_a_token
        weights = self._modality.weight(documents)
        held = (weights // np.bincount(owners, minlength=len(documents)).clip(1))[owners]
        chunks = held if cut is None else self._modality.weight(cut)
        return np.maximum(-(-chunks // a_token), held * budget // max(_BYTES_HELD, budget * a_token))

    def _cut_long(self, values: Sequence[Any], totals: np.ndarray) -> dict[int, np.ndarray]:
        """The spans of the documents that are longer than the window, by their row."""
        window, overlap = self._window, self._config.overlap
        if window is None or not (totals > window).any():
            return {}
        long = np.flatnonzero(totals > window).tolist()
        texts = [values[i] for i in long]
        if self._config.mode != "truncate":
            spans = self._modality.split(texts, window=window, overlap=overlap, count=self._count)
            return dict(zip(long, spans, strict=True))
        spans = self._modality.split(texts, window=window, overlap=overlap, count=self._count, most=2)
        if self._encoder.window != window or not self._encoder.can_count:
            return {i: of_text[:1] for i, of_text in zip(long, spans, strict=True)}
        # A model that cuts by itself, between any two tokens, gets the words beyond its window too, and so
        # embeds exactly as many tokens as it can.
        ends = [int(of_text[:2][-1, 1]) for of_text in spans]
        tokens = self._count(
            [self._modality.cut(text, 0, end) for text, end in zip(texts, ends, strict=True)]
        )
        most = np.minimum(tokens, window)
        return {i: np.array([[0, end, n]]) for i, end, n in zip(long, ends, most, strict=True)}

    def _count(self, payloads: Sequence[Any]) -> np.ndarray:
        return self._tokenize(payloads)[0]

    def _tokenize(self, payloads: Sequence[Any]) -> tuple[np.ndarray, pa.Array | None]:
        """Tokens of payloads, int64, as the model counts them, or estimated, and their ids if it tells."""
        most = self._modality.most_at_once
        if most is None:
            return self._ask(payloads)
        large = np.flatnonzero(self._lengths(payloads) > most).tolist()
        alone = {i: self._modality.cut(payloads[i], 0, 0) for i in large}
        counts, ids = self._ask(
            [alone.get(i, payload) for i, payload in enumerate(payloads)] if large else payloads
        )
        for i in large:  # what stood for it has the special tokens alone
            pieces, special = self._modality.pieces(payloads[i], most), counts[i]
            counts[i] += sum(int(self._ask([piece])[0][0]) - special for piece in pieces)
        if large and ids is not None:
            rows = np.arange(len(payloads))
            ids = ids.take(pa.array(rows, mask=np.isin(rows, large)))
        return counts, ids

    def _lengths(self, payloads: Sequence[Any]) -> np.ndarray:
        if self._modality.columnar:
            return np.ones(len(payloads), np.int64)
        return np.fromiter(map(self._modality.length, payloads), np.int64, len(payloads))

    def _cut(self, values: Sequence[Any], type: pa.DataType, *spans: np.ndarray) -> pa.Array:
        """The chunks, by owner, start and end; some at a time, since Python's strings are large."""
        cut = self._modality.cut
        parts = np.array_split(np.stack(spans, axis=1), -(-len(spans[0]) // _CUT_AT_ONCE))
        chunks = ([cut(values[i], start, end) for i, start, end in part.tolist()] for part in parts)
        return pa.concat_arrays([pa.array(some, type) for some in chunks])

    def _ask(self, payloads: Sequence[Any]) -> tuple[np.ndarray, pa.Array | None]:
        try:
            if self._encoder.can_count:
                return self._encoder.tokenize(payloads)
            return self._encoder.estimate(payloads), None
        except Exception as e:  # a tokenizer may raise anything for a text
            raise _Refused(first_line(e)) from e


def select(block: DocumentBlock, rows: Sequence[int]) -> DocumentBlock:
    """Some of a block's documents, by row."""
    origins = tuple(block.origins[i] for i in rows) if block.origins else None
    return DocumentBlock(block.shard_id, block.columns.take(pa.array(rows, pa.int64())), origins)


def dead_letters(
    block: DocumentBlock, reasons: dict[int, tuple[str, str]], *, stage: str, of: Modality
) -> DeadLetters:
    """Dead letters for documents that were read, with their payloads as they are shown.

    Args:
      reasons: kind and detail of what is wrong, by row.
    """
    letters, columns = [], block.columns.columns[: PAYLOAD + 1]
    for row, reason in reasons.items():
        doc_id, source, position, index, payload = (column[row].as_py() for column in columns)
        origin = block.origins[row] if block.origins else None
        shown = of.shown(payload)
        letters.append(DeadLetter(doc_id, source, position, stage, *reason, shown, index, origin))
    return DeadLetters(block.shard_id, tuple(letters))


@dataclasses.dataclass(eq=False)
class _ChunkFn(beam.DoFn):
    encoder: SharedEncoder
    config: EmbedConfig

    def setup(self) -> None:
        # The whole of what is shared: Beam forgets it as soon as nobody holds it, and loads it anew.
        self._robust = self.encoder.acquire()
        self._chunker = Chunker(self.config, self._robust.encoder)

    def process(self, element: Any) -> Iterator[Any]:
        for made in self._chunker.chunk(element) if isinstance(element, DocumentBlock) else [element]:
            if isinstance(made, ChunkBlock):
                observer.tell(observer.Chunked(len(made.costs), int(made.costs.sum())))
            yield made


@dataclasses.dataclass(eq=False)
class ChunkDocuments(beam.PTransform):
    """DocumentBlock -> ChunkBlock; dead letters and end-of-shard markers pass."""

    encoder: SharedEncoder
    config: EmbedConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_ChunkFn(self.encoder, self.config)).with_output_types(Element)
