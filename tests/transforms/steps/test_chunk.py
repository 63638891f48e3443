import gc
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from apache_beam.utils.shared import Shared
from fakes import (
    Doc,
    FakeEncoder,
    Piece,
    block,
    count_words,
    document,
    letters_of,
    load_fake,
    pieces,
    run,
    shared,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.blocks import ChunkBlock, DeadLetters
from transforms.elements import DeadLetter, EndOfShard, ShardFailed
from transforms.encoder.config import ModelConfig
from transforms.errors import ModelError
from transforms.modality.spans import window_spans
from transforms.modality.text import Text
from transforms.steps.chunk import _ChunkFn
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder

TEN = " ".join(f"w{i}" for i in range(10))


def count_characters(texts: Sequence[str]) -> np.ndarray:
    """Adds up: a token for each character that is neither space nor combining mark, and two special ones."""
    return np.array([2 + sum(not (c.isspace() or unicodedata.combining(c)) for c in t) for t in texts])


def count_pairs(texts: Sequence[str]) -> np.ndarray:
    """Does not add up: a text has more tokens than its parts together."""
    return np.array([2 + len("".join(t.split())) + len(t.split()) ** 2 // 4 for t in texts])


def test_estimate_counts_bytes() -> None:
    assert Text().estimate(["", "four", "fives", "漢字"]).tolist() == [2, 3, 4, 4]


words = st.text(alphabet="aé漢 \t\n\u0301", max_size=60)


@given(
    texts=st.lists(words, max_size=4),
    window=st.integers(4, 20),
    overlap=st.integers(0, 30),
    count=st.sampled_from([count_characters, count_pairs]),
)
def test_spans_cover_every_word_in_order_and_fit(texts, window, overlap, count) -> None:
    cut = window_spans(texts, window=window, overlap=overlap, count=count)
    assert len(cut) == len(texts)
    for text, spans in zip(texts, cut, strict=True):
        covered = {i for start, end, _ in spans for i in range(start, end)}
        assert [i for i, c in enumerate(text) if not c.isspace() and i not in covered] == []
        assert [span[0] for span in spans] == sorted(span[0] for span in spans)
        for start, end, tokens in spans:
            assert tokens == count([text[start:end]])[0]
            assert tokens <= window


@given(text=words, window=st.integers(4, 20), overlap=st.integers(0, 30))
def test_each_span_goes_on_from_the_one_before_and_repeats_no_more_than_the_overlap(
    text, window, overlap
) -> None:
    (spans,) = window_spans([text], window=window, overlap=overlap, count=count_characters)
    for (start, end, _), (next_start, next_end, _) in itertools.pairwise(spans):
        assert start < next_start
        assert end < next_end
        assert count_characters([text[next_start : max(next_start, end)]])[0] - 2 <= overlap


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (0, ["w0 w1 w2 w3", "w4 w5 w6 w7", "w8 w9"]),
        (1, ["w0 w1 w2 w3", "w3 w4 w5 w6", "w6 w7 w8 w9"]),
        (2, ["w0 w1 w2 w3", "w2 w3 w4 w5", "w4 w5 w6 w7", "w6 w7 w8 w9"]),
        # No more than half a window is repeated, however much is asked for.
        (6, ["w0 w1 w2 w3", "w2 w3 w4 w5", "w4 w5 w6 w7", "w6 w7 w8 w9"]),
        (1000, ["w0 w1 w2 w3", "w2 w3 w4 w5", "w4 w5 w6 w7", "w6 w7 w8 w9"]),
    ],
)
def test_overlap(overlap: int, expected: list[str]) -> None:
    (spans,) = window_spans([TEN], window=6, overlap=overlap, count=count_words)
    assert [TEN[start:end] for start, end, _ in spans] == expected


def test_nothing_is_repeated_where_the_next_word_needs_the_room() -> None:
    text = "aaaa bbbb cccccccccc d"  # of 4, 4, 10 and 1 tokens in a window of 10
    (spans,) = window_spans([text], window=12, overlap=5, count=count_characters)
    assert [text[start:end] for start, end, _ in spans] == ["aaaa bbbb", "cccccccccc", "d"]


def test_text_without_spaces_is_halved() -> None:
    text = "漢" * 25
    (spans,) = window_spans([text], window=12, overlap=0, count=count_characters)
    assert spans.tolist() == [[0, 6, 8], [6, 12, 8], [12, 18, 8], [18, 25, 9]]


def test_a_huge_word_among_others() -> None:
    text = "a " + "b" * 1000 + " c"
    (spans,) = window_spans([text], window=102, overlap=0, count=count_characters)
    assert "".join(text[start:end] for start, end, _ in spans).replace(" ", "") == text.replace(" ", "")
    assert max(tokens for _, _, tokens in spans) <= 102


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_no_cut_before_a_combining_mark(marks: list[int]) -> None:
    text = "".join("e" + "\u0301" * n for n in marks)
    (spans,) = window_spans([text], window=5, overlap=0, count=count_characters)
    assert "".join(text[start:end] for start, end, _ in spans) == text
    assert [start for start, _, _ in spans if unicodedata.combining(text[start])] == []


def test_a_mark_is_not_torn_off_even_where_marks_fill_the_second_half() -> None:
    text = "abc" + "\u0301" * 9  # the middle and all that follows are marks
    lengths = lambda texts: np.array([2 + len(t) for t in texts])  # noqa: E731
    (spans,) = window_spans([text], window=12, overlap=0, count=lengths)
    assert [text[start:end] for start, end, _ in spans] == ["ab", "c" + "\u0301" * 9]


def plain(elements: Sequence[Any]) -> list[Any]:
    """Chunks and dead letters one by one."""
    return [p for e in letters_of(elements) for p in (pieces(e) if isinstance(e, ChunkBlock) else [e])]


def chunks_of(encoder: FakeEncoder, config: EmbedConfig, *documents: Doc) -> list[Any]:
    return plain(run(_ChunkFn(shared(encoder), config), [block(*documents)]))


SHORT, LONG = document(0, "a b"), document(1, TEN)


def part(doc: Doc, number: int, text: str, n: int | None, **fields) -> Piece:
    total = None if n is None else 2 + len(doc.text.split())
    values = {"tokens": n, "document_tokens": total, "dropped": None if n is None else 0, "cost": n}
    return Piece(doc.doc_id, number, doc.text.index(text), text, **(values | fields))


def test_mean_and_chunks_keep_every_word() -> None:
    expected = [
        part(SHORT, 0, "a b", 4),
        part(LONG, 0, "w0 w1 w2 w3", 6),
        part(LONG, 1, "w3 w4 w5 w6", 6),
        part(LONG, 2, "w6 w7 w8 w9", 6),
    ]
    for mode in ("mean", "chunks"):
        assert chunks_of(FakeEncoder(window=6), EmbedConfig(mode, overlap=1), SHORT, LONG) == expected


def test_truncate_gives_a_model_that_cuts_by_itself_more_than_it_can_take() -> None:
    first = part(LONG, 0, "w0 w1 w2 w3 w4 w5 w6 w7", 6, dropped=6)
    got = chunks_of(FakeEncoder(window=6), EmbedConfig("truncate", overlap=0), SHORT, LONG)
    assert got == [part(SHORT, 0, "a b", 4), first]


def test_truncate_where_tokens_do_not_add_up_tells_the_true_number() -> None:
    def count_distinct(texts: Sequence[str]) -> np.ndarray:
        return np.array([2 + len(set(text.split())) for text in texts])

    doc = document(0, "a a a a a a a a b c d e f g")  # 9 tokens, and its first two windows have 3
    (got,) = chunks_of(FakeEncoder(window=6, count=count_distinct), EmbedConfig("truncate", overlap=0), doc)
    assert (got.text, got.tokens, got.document_tokens, got.dropped) == ("a a a a a a a a", 3, 9, 6)


def test_truncate_to_a_window_that_the_model_does_not_know() -> None:
    first = part(LONG, 0, "w0 w1 w2 w3", 6, dropped=6)
    assert chunks_of(FakeEncoder(), EmbedConfig("truncate", max_tokens=6), LONG) == [first]


@pytest.mark.parametrize(("own", "given"), [(6, 12), (12, 6), (6, None), (None, 6)])
def test_the_smaller_of_the_models_window_and_max_tokens_holds(own: int | None, given: int | None) -> None:
    got = chunks_of(FakeEncoder(window=own), EmbedConfig(max_tokens=given, overlap=0), LONG)
    assert [c.text for c in got] == ["w0 w1 w2 w3", "w4 w5 w6 w7", "w8 w9"]


def test_without_any_window_nothing_is_cut() -> None:
    assert chunks_of(FakeEncoder(), EmbedConfig(), LONG) == [part(LONG, 0, TEN, 12)]


@pytest.mark.parametrize("mode", ["mean", "truncate", "chunks"])
def test_a_model_that_cannot_count_gives_no_numbers(mode: str) -> None:
    encoder = FakeEncoder(count=None)
    (short, *long) = chunks_of(encoder, EmbedConfig(mode, overlap=0, max_tokens=6), SHORT, LONG)
    assert short == part(SHORT, 0, "a b", None, cost=3)
    assert {(c.tokens, c.document_tokens, c.dropped) for c in long} == {(None, None, None)}
    # Estimated: 4 bytes a token, so a word of 2 is one, and 4 of them fill the window of 6.
    texts = ["w0 w1 w2 w3", "w4 w5 w6 w7", "w8 w9"]
    assert [c.text for c in long] == (texts[:1] if mode == "truncate" else texts)
    assert [c.cost for c in long] == [5, 5, 4][: len(long)]


def test_no_chunk_costs_more_than_the_budget() -> None:
    (got,) = chunks_of(FakeEncoder(), EmbedConfig(batch_tokens=7), LONG)
    assert (got.tokens, got.cost) == (12, 7)


def test_chunks_of_large_documents_weigh_what_waits_with_them() -> None:
    """A mini-batch of first windows holds megabytes of documents, not as many as it has tokens for."""
    large = document(1, "word " * (1 << 18))  # 1.25 of 8 MiB
    encoder = FakeEncoder(window=6)
    truncated = chunks_of(encoder, EmbedConfig("truncate", batch_tokens=800), SHORT, large)
    assert [(c.tokens, c.cost) for c in truncated] == [(4, 4), (6, 125)]
    merged = chunks_of(encoder, EmbedConfig(overlap=0, batch_tokens=800), SHORT, large)
    assert {(c.tokens, c.cost) for c in merged} == {(4, 4), (6, 6)}


def refuse(word: str, texts: Sequence[str]) -> np.ndarray:
    if any(word in text for text in texts):
        raise RuntimeError(f"cannot tokenize {word}\nat great length")
    return count_words(texts)


def test_only_the_text_that_the_tokenizer_refuses_is_lost() -> None:
    encoder = FakeEncoder(count=lambda texts: refuse("BAD", texts), window=6)
    bad = document(1, "BAD text", source="a.jsonl", position=17)
    ok, last = document(0, "fine"), document(2, "good too")
    assert chunks_of(encoder, EmbedConfig(), ok, bad, last) == [
        DeadLetter(
            *("doc1", "a.jsonl", 17, "chunk"),
            *("the model cannot count its tokens", "cannot tokenize BAD", "BAD text", 1),
        ),
        part(ok, 0, "fine", 3),
        part(last, 0, "good too", 4),
    ]


def test_a_block_of_which_all_are_refused() -> None:
    encoder = FakeEncoder(count=lambda texts: refuse("BAD", texts))
    (letter,) = chunks_of(encoder, EmbedConfig(), document(0, "BAD"))
    assert (letter.doc_id, letter.kind) == ("doc0", "the model cannot count its tokens")


def test_a_tokenizer_that_broke_stops_the_job() -> None:
    def broken(texts: Sequence[str]) -> np.ndarray:
        raise RuntimeError("device lost")

    with pytest.raises(ModelError, match=r"^the model no longer counts tokens: device lost$"):
        chunks_of(FakeEncoder(count=broken), EmbedConfig(), document(0), document(1))


def test_an_error_of_our_own_is_no_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*args, **kwargs):
        raise AssertionError("a bug")

    monkeypatch.setattr("transforms.modality.text.window_spans", bug)
    with pytest.raises(AssertionError, match="a bug"):
        chunks_of(FakeEncoder(window=3), EmbedConfig(), LONG)


@pytest.mark.parametrize("marker", [EndOfShard("s", 2), ShardFailed("s", "f", None, "why")])
def test_markers_and_letters_pass(marker) -> None:
    letters = DeadLetters("s", (DeadLetter("x", "", 0, "read", "blank text"),))
    got = run(_ChunkFn(shared(FakeEncoder()), EmbedConfig()), [block(SHORT), letters, marker, block(LONG)])
    assert plain(got) == [part(SHORT, 0, "a b", 4), *letters.letters, marker, part(LONG, 0, TEN, 12)]


def test_tokens_of_a_block_are_counted_in_one_call() -> None:
    calls = []
    encoder = FakeEncoder(count=lambda texts: calls.append(list(texts)) or count_words(texts))
    documents = [document(i) for i in range(600)]
    got = chunks_of(encoder, EmbedConfig(), *documents)
    assert [p.doc_id for p in got] == [d.doc_id for d in documents]
    assert calls == [[d.text for d in documents]]


def test_a_huge_document_is_counted_in_pieces() -> None:
    longest = []
    encoder = FakeEncoder(
        count=lambda texts: longest.append(max(map(len, texts))) or count_words(texts), window=100
    )
    huge, small = document(0, "word " * 400_000), document(1, "a b")
    got = chunks_of(encoder, EmbedConfig(overlap=0), huge, small)
    assert max(longest) <= 1 << 18
    assert {p.document_tokens for p in got if p.doc_id == "doc0"} == {400_002}
    assert sum(p.tokens - 2 for p in got if p.doc_id == "doc0") == 400_000
    assert got[-1] == part(small, 0, "a b", 4)


def test_bytes_without_tokens_cost_their_share_of_the_budget() -> None:
    word = document(0, "x" * 6400)  # one word is three tokens
    (got,) = chunks_of(FakeEncoder(), EmbedConfig(batch_tokens=1000), word)
    assert (got.tokens, got.cost) == (3, 100)
    (got,) = chunks_of(FakeEncoder(), EmbedConfig(batch_tokens=50), word)
    assert got.cost == 50


def test_the_model_is_loaded_once_though_beam_keeps_only_what_was_acquired_last() -> None:
    loads = []
    encoder = SharedEncoder(ModelConfig("fake"), lambda config: loads.append(config) or load_fake(config))
    fn = _ChunkFn(encoder, EmbedConfig())
    fn.setup()
    other = Shared().acquire(FakeEncoder)
    gc.collect()
    encoder.acquire()
    assert other is not None
    assert len(loads) == 1


@settings(max_examples=30, deadline=None)
@given(text=st.text(alphabet="ab \n", max_size=300), block=st.integers(20, 120), overlap=st.integers(0, 3))
def test_long_texts_are_cut_block_by_block(text: str, block: int, overlap: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.modality.spans._BLOCK", block)
        (spans,) = window_spans([text], window=6, overlap=overlap, count=count_words)
    assert all(count_words([text[a:b]])[0] == n <= 6 for a, b, n in spans)
    covered = {i for a, b, _ in spans for i in range(a, b)}
    assert covered >= {i for i, c in enumerate(text) if not c.isspace()}
    assert spans.tolist() == sorted(spans.tolist())
