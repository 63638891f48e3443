"""Near duplicates: each with the first kept text that it is like, against a reference in plain Python."""

import collections
import random
import re
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.duplicates.decide import MOST
from pipeline.duplicates.exact import owners
from pipeline.duplicates.lsh import NUMBERS, bands
from pipeline.duplicates.near import NearDuplicates
from pipeline.duplicates.shingles import shingles
from transforms.modality.text import TEXT
from transforms.output.buckets import Buckets
from transforms.output.fingerprints import halves

WORDS = [f"word{number}" for number in range(400)]
ALONE = re.compile(r"[\u4e00-\u9fff\u3040-\u30ff\u0e00-\u0e7f]")


def bag(text):
    """Shingles of a text with how often each occurs, by Python alone."""
    words = []
    for piece in text.split():
        plain = unicodedata.normalize("NFKC", piece).casefold()
        apart = (f" {c} " if ALONE.match(c) or unicodedata.category(c)[0] == "S" else c for c in plain)
        clean = (c if unicodedata.category(c)[0] in "LMNS" else " " for c in "".join(apart))
        spoken = any(unicodedata.category(c)[0] in "LN" for c in plain)
        words += ("".join(clean) if spoken else plain).split()
    size = min(3, len(words))
    return collections.Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1) if size)


def true_jaccard(one, other):
    a, b = bag(one), bag(other)
    return (a & b).total() / max(1, (a | b).total())


def found(texts, threshold, *, block=7):
    """Owners and similarity of texts, and owners of exact copies, by the functions that are tested."""
    with tempfile.TemporaryDirectory() as folder:
        prints, near = Buckets(folder, "prints", 3), NearDuplicates(folder, threshold)
        for at in range(0, len(texts), block):
            some = pa.array(texts[at : at + block])
            ordinals = np.arange(at, at + len(some))
            prints.add(*halves(TEXT.fingerprint(some, b"")), ordinals)
            near.add(ordinals, some)
        copies = owners(prints, len(texts), f"{folder}/copies")
        similarity = np.ones(len(texts), np.float32)
        return (
            np.array(near.owners(copies, similarity)).tolist(),
            similarity.tolist(),
            np.array(copies).tolist(),
        )


def check(texts, threshold, owned, similarity, copies):
    """What holds of every answer, whatever was missed."""
    for i, (owner, alike) in enumerate(zip(owned, similarity, strict=True)):
        assert owned[owner] == owner <= i
        assert copies[i] == texts.index(texts[i])
        if owner != i:
            truth = true_jaccard(texts[i], texts[owner])
            exact = texts[i] == texts[owner]
            assert alike == pytest.approx(1.0 if exact else truth)
            assert exact or truth >= threshold
        assert owned[copies[i]] == owner


def greedy(texts, threshold):
    """The answer if nothing is missed."""
    made, bags = [], list(map(bag, texts))
    for i, text in enumerate(texts):
        kept = [j for j in range(i) if made[j] == j]
        like = (
            j
            for j in kept
            if texts[j] == text or (bags[i] & bags[j]).total() >= threshold * (bags[i] | bags[j]).total() > 0
        )
        made.append(next(like, i))
    return made


def sentence(generator, words=60):
    return " ".join(generator.choices(WORDS, k=words))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    edits=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), max_size=30),
    threshold=st.sampled_from([0.5, 0.8, 0.9, 1.0]),
)
def test_every_duplicate_is_as_alike_as_was_asked_for_to_the_kept_one(seed, edits, threshold):
    generator = random.Random(seed)
    texts = [sentence(generator) for _ in range(5)]
    for which, changes in edits:
        words = texts[which % len(texts)].split()
        for _ in range(changes):
            words[generator.randrange(len(words))] = generator.choice(WORDS)
        texts.append(" ".join(words))
    check(texts, threshold, *found(texts, threshold))


def test_nothing_is_missed_that_is_well_above_the_threshold():
    generator = random.Random(1)
    texts = [sentence(generator) for _ in range(60)]
    texts += [text.replace(text.split()[30], "other", 1) for text in texts]  # 0.9 and more
    assert found(texts, 0.7)[0] == greedy(texts, 0.7) == [*range(60), *range(60)]


@pytest.mark.parametrize(
    "other",
    [
        "the  QUICK brown\tfox, jumps over the lazy dog!",
        "The quick (brown) fox... jumps over the 'lazy' dog",
        "ｔｈｅ quick brown ﬁ".replace("ﬁ", "fox") + " jumps over the lazy dog",
    ],
)
def test_case_space_and_punctuation_are_no_difference(other):
    texts = ["The quick brown fox jumps over the lazy dog.", "something else that is not like it", other]
    assert found(texts, 1.0) == ([0, 1, 0], [1, 1, 1], [0, 1, 2])


def test_order_of_words_repetition_and_numbers_are_a_difference():
    texts = ["one two three four", "four three two one", "one two three four " * 10, "one two three 4"]
    texts += ["Same as a + b", "Same as a - b", "Same as a - b.", "Same as a+b"]
    texts += ["Same as a &= b", "Same as a //= b"]
    assert found(texts, 0.5)[0] == [0, 1, 2, 3, 4, 5, 5, 4, 8, 9]


def test_texts_of_one_or_two_words_are_like_the_same_words_alone():
    texts = [
        "Hello",
        "hello!",
        "hello there",
        "Hello, there",
        "there hello",
        "hello there now",
        "",
        "...",
        "!?",
    ]
    owned, similarity, _ = found(texts, 0.5)
    assert owned == [0, 0, 2, 2, 4, 5, 6, 7, 8]
    assert similarity == [1] * 9


def test_scripts_without_spaces_are_compared_letter_by_letter():
    text = "機械学習の入門書であり、基礎から応用までを丁寧に説明しています。" * 2
    texts = [text, text.replace("丁寧", "詳細"), "まったく別の文章です。"]
    owned, similarity, _ = found(texts, 0.7)
    assert owned == [0, 0, 2]
    assert similarity[1] == pytest.approx(true_jaccard(texts[0], texts[1]))


def test_a_chain_goes_no_further_than_its_first():
    words = WORDS[:60]
    first, second, third = " ".join(words), " ".join(["x", *words[1:]]), " ".join(["x", *words[1:-1], "y"])
    assert true_jaccard(first, second) > 0.95 < true_jaccard(second, third)
    assert true_jaccard(first, third) < 0.95
    assert found([first, second, third], 0.95)[0] == [0, 0, 2]


def test_an_exact_copy_goes_where_its_like_goes():
    first = " ".join(WORDS[:100])
    second = first.replace("word50 ", "")
    owned, similarity, copies = found([first, second, second, first], 0.9)
    assert (owned, copies) == ([0, 0, 0, 0], [0, 1, 1, 0])
    assert similarity == pytest.approx([1, true_jaccard(first, second), true_jaccard(first, second), 1])


def test_many_alike_texts_cost_no_comparison_of_each_with_each(monkeypatch):
    from pipeline.duplicates.jaccard import Bags

    compared = []
    jaccard = Bags.jaccard
    monkeypatch.setattr(
        Bags, "jaccard", lambda self, left, right: compared.append(len(left)) or jaccard(self, left, right)
    )
    monkeypatch.setattr("pipeline.duplicates.decide._DOCUMENTS", 256)
    generator = random.Random(2)
    template = sentence(generator, 100)
    texts = [f"{template} number {i}" + " !" * (i % 3) for i in range(1500)]
    owned, _, _ = found(texts, 0.9, block=500)
    assert set(owned) == {0}
    assert sum(compared) < 256 * MOST * bands(0.9)[0] + 1500
    far = [f"{template} {sentence(generator, 12)}" for _ in range(1000)]  # alike, but not enough
    compared.clear()
    assert found(far, 0.97, block=500)[0] == list(range(1000))
    assert sum(compared) < 1000 * 2 * MOST * bands(0.97)[0]


@given(texts=st.lists(st.text("ab c.Ａ中é\u0301+-", max_size=12), max_size=8))
def test_shingles_are_those_of_the_reference(texts):
    made, sizes = shingles(pa.array(texts, pa.string()))
    bags = np.split(made, np.cumsum(sizes)[:-1]) if texts else []
    assert sizes.tolist() == [bag(text).total() for text in texts]
    for one, its in zip(texts, bags, strict=True):
        assert len(set(its.tolist())) == len(its)
        for other, others in zip(texts, bags, strict=True):
            shared = len(set(its.tolist()) & set(others.tolist()))
            assert shared == (bag(one) & bag(other)).total()


@given(threshold=st.floats(0.05, 1.0))
def test_bands_miss_at_most_one_pair_in_a_hundred(threshold):
    count, rows = bands(threshold)
    assert count * rows <= NUMBERS
    assert (1 - threshold**rows) ** count <= 0.01
    longer = rows + 1
    assert rows == NUMBERS or (1 - threshold**longer) ** (NUMBERS // longer) > 0.01


def test_of_edits_of_real_texts_those_are_found_that_all_pairs_give():
    from benchmarks.bench_duplicates import all_pairs, edited, reformatted

    chance, docs = random.Random(3), Path(__file__).parents[3] / "docs"
    texts = [text for path in sorted(docs.glob("*.md")) for text in path.read_text().split("\n\n")]
    texts = [text for text in dict.fromkeys(texts) if len(text.split()) >= 40][:250]
    words = sorted({word for text in texts for word in text.split()})
    for number in range(250):
        text, share = chance.choice(texts), chance.choice([0.01, 0.01, 0.03, 0.2])
        texts.append(edited(text, chance, words, share) if number % 4 else reformatted(text, chance))
    chance.shuffle(texts)
    alike = collections.defaultdict(dict)
    for one, other, true in all_pairs(texts, 0.6):
        alike[one][other] = true
    for threshold in (0.6, 0.9):
        truth = []
        for one in range(len(texts)):
            like = (
                other for other, true in alike[one].items() if true >= threshold and truth[other] == other
            )
            truth.append(next(like, one))
        owned, similarity, _ = found(texts, threshold, block=100)
        ours = {one: owner for one, owner in enumerate(owned) if owner != one}
        for one, owner in ours.items():  # nothing is wrong
            assert similarity[one] == pytest.approx(alike[one][owner])
            assert alike[one][owner] >= threshold
        wanted = {one for one, owner in enumerate(truth) if owner != one}
        assert len(wanted) > 50
        assert len(wanted & ours.keys()) >= 0.97 * len(wanted)
