"""Token ids that were counted travel with their chunks, and stand for the texts where they are known."""

from typing import Any

import numpy as np
import pyarrow as pa
from fakes import FakeEncoder, block, document

from transforms.blocks import ChunkBlock
from transforms.modality.text import Text
from transforms.modality.tokens import as_lists
from transforms.steps.batch import joined, runs_of
from transforms.steps.chunk import Chunker
from transforms.steps.config import EmbedConfig
from transforms.steps.embed import payloads_of


def ids_of(text: str) -> list[int]:
    """A token a word, its length, between 1 and 2."""
    return [1, *map(len, text.split()), 2]


class IdEncoder(FakeEncoder):
    """Tells ids, as models do that take them."""

    def tokenize(self, texts: Any) -> Any:
        made = [ids_of(text) for text in texts]
        flat = np.array([i for one in made for i in one], np.int32)
        lengths = np.array(list(map(len, made)))
        return lengths.astype(np.int64), as_lists(flat, lengths)


def chunked(*texts: str, window: int | None = 6, **config: Any) -> ChunkBlock:
    documents = block(*(document(i, text) for i, text in enumerate(texts)))
    (made,) = Chunker(EmbedConfig(overlap=0, **config), IdEncoder(window=window)).chunk(documents)
    assert isinstance(made, ChunkBlock)
    return made


def test_whole_documents_have_their_ids() -> None:
    made = chunked("a bb", "ccc")
    assert made.ids.to_pylist() == [[1, 1, 2, 2], [1, 3, 2]]
    assert made.cut is None


def test_chunks_of_long_documents_have_none() -> None:
    made = chunked("a bb", "a b c d e f g", "ccc")
    assert made.ids.to_pylist() == [[1, 1, 2, 2], None, None, [1, 3, 2]]
    truncated = chunked("a bb", "a b c d e f g", mode="truncate")
    assert truncated.ids.to_pylist() == [[1, 1, 2, 2], None]


def test_documents_that_were_counted_in_pieces_have_none() -> None:
    long = "word " * 60_000
    made = chunked("a", long, window=None)
    assert made.ids.to_pylist() == [[1, 1, 2], None]
    assert made.tokens.tolist() == [3, 60_002]


def test_ids_stand_for_texts() -> None:
    window = joined([chunked("a bb", "a b c d e f g"), chunked("ccc", "d")], 0)
    assert window.ids.type == pa.list_(pa.int32())
    (run,) = runs_of(window, 1000, longest_first=True)
    values = [v if isinstance(v, str) else v.tolist() for v in payloads_of([run], Text())]
    wanted = {0: [1, 1, 2, 2], 1: "a b c d", 2: "e f g", 3: [1, 3, 2], 4: [1, 1, 2]}
    assert values == [wanted[i] for i in run.chunks.tolist()]


def test_a_model_without_ids_gets_texts() -> None:
    documents = block(document(0, "a bb"))
    (made,) = Chunker(EmbedConfig(), FakeEncoder(window=6)).chunk(documents)
    assert made.ids is None
    (run,) = runs_of(made, 1000, longest_first=True)
    assert payloads_of([run], Text()) == ["a bb"]
