"""The in-graph tokenizer against Hugging Face `tokenizers`, id by id."""

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from transforms.encoder.export.reference_classes import FOREIGN, characters
from transforms.encoder.export.tokenizer import BertTokenizer
from transforms.errors import UsageError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    "a",
    "b",
    "##a",
    "##b",
    "x",
    "##x",
    "un",
    "##aff",
    "##able",
    "word",
    "ς",
    "σ",
    "##ς",
    "##σ",
    "α",
    "##α",
    "##ɤ",
]
STRIDE = 23  # the tests' sample of the code points; prime, so that it meets every residue of a block


def _every_character_vocab() -> list[str]:
    """Each character is a token and a suffix, so that nothing hides behind [UNK]."""
    refused = characters(f"{FOREIGN} 10000-10005")
    tokens = dict.fromkeys(SPECIALS + PIECES)
    for code in range(0x21, 0x20000, 3):
        char = chr(code)
        if unicodedata.category(char)[0] not in "CZ" and char not in refused:
            tokens |= {char: None, f"##{char}": None}
    return list(tokens)


def _pair(folder, vocab: list[str], *, lower_case: bool, strip_accents: bool, max_tokens: int = 100_000):
    path = folder / "vocab.txt"
    path.write_text("\n".join(vocab) + "\n", encoding="utf-8")
    reference = BertWordPieceTokenizer(str(path), lowercase=lower_case, strip_accents=strip_accents)
    ours = BertTokenizer(vocab, lower_case=lower_case, strip_accents=strip_accents, max_tokens=max_tokens)
    tokenize = tf.function(ours.tokenize, input_signature=[tf.TensorSpec([None], tf.string)])
    return (
        lambda texts: tokenize(tf.constant(texts, tf.string)).to_list(),
        lambda texts: [encoding.ids for encoding in reference.encode_batch(texts)],
    )


Tokenize = Callable[[list[str]], list[list[int]]]


@pytest.fixture(scope="module", params=[(True, True), (False, False), (True, False)], ids=str)
def pair(request, tmp_path_factory) -> tuple[Tokenize, Tokenize]:
    """(ours, reference) for an uncased, a cased, and an accent-keeping tokenizer."""
    lower_case, strip_accents = request.param
    folder = tmp_path_factory.mktemp("vocab")
    return _pair(folder, _every_character_vocab(), lower_case=lower_case, strip_accents=strip_accents)


NASTY = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\t\n\r\x0b\x0c",
    "a\u2028b\u2029c\u0085d",
    "".join(map(chr, [0x20, 0xA0, 0x1680, *range(0x2000, 0x200C), 0x202F, 0x205F, 0x3000, 0x180E])) + "a",
    "[MASK]",
    "a[MASK]b [mask] [SEP][CLS][PAD][UNK] [MASK",
    "[MA\u200bSK] [\x00SEP]",
    "[[MASK]] ##a # ##",
    "ΑΣ ΣΑΣ Σ. Σ",
    "İI\u0307ıi ǅ ẞ ſ K Å \ua7cb \ua7dc",
    "\U00010000a \U00010003 a\U00010005b",
    "한글 \u1100\u1161\u11a8 \u302e",
    "e\u0301\u0323 \u0301 n\u0303\u0303 \u0344",
    "ﬁ ﬀ ㎏ ½ Ⅷ ①",
    "中文a日本\U00020000\U0002b820\U0002b920\U0002f800豈",
    "\ufffd \ufffe \uffff \U0010ffff \u0378 \ue000 \U000f0000 \u200b\u200d\ufeff\u00ad",
    "\u166d \U000111c9 \u2e43 \u061d a\u2e43b \u0890 a\U00013430b",
    "👨‍👩‍👧 🏳️‍🌈 🇩🇪",
    "word" * 25,
    "word" * 25 + "x",
    *(char * length for char in "aéяก한あ𐐀中-" for length in (99, 100, 101, 300)),
    "a " + "b" * 101 + " a-" + "b" * 100 + "-" + "b" * 101 + "中" + "a" * 101,
    "é" * 101 + "[MASK]" + "a\u0301" * 100,
    "a\u200b" * 101,
    "a\u00a0" * 101,
]


def test_nasty_texts(pair):
    ours, reference = pair
    for text, found, expected in zip(NASTY, ours(NASTY), reference(NASTY), strict=True):
        assert found == expected, ascii(text)


@pytest.mark.parametrize("frame", ["a{}b", "{}", "{}{}\u0308 \u03a3{}", "[MASK]{}"])
def test_code_points(pair, frame):
    ours, reference = pair
    codes = [code for code in range(0, 0x110000, STRIDE) if not 0xD800 <= code < 0xE000]
    codes += [ord(char) for char in characters(FOREIGN)]
    texts = [frame.replace("{}", chr(code)) for code in codes]
    wrong = [hex(c) for c, a, b in zip(codes, ours(texts), reference(texts), strict=True) if a != b]
    assert wrong == []


# Alphabets of trouble, drawn more often than their share of the code points.
_chars = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.characters(max_codepoint=0x24F),
    st.sampled_from(
        " \t\n\x00\u00a0\u2028\u200b\u0301\u0323\u0345ΣσςİıǅﬁK한\u1100\u1161\u11a8中豈ab-[]#\ufffd\U00010001"
    ),
    st.sampled_from(["[MASK]", "[SEP]", "[UNK]", "ab" * 50, "é" * 99, "中" * 40, "ΑΣ ", "e\u0301"]),
)


@settings(max_examples=150, deadline=None)
@example(texts=[])
@given(texts=st.lists(st.lists(_chars, max_size=60).map("".join), max_size=8))
def test_any_texts(pair, texts):
    ours, reference = pair
    assert ours(texts) == reference(texts)


def test_truncation_and_count(tmp_path):
    vocab = SPECIALS + PIECES
    ours = BertTokenizer(vocab, lower_case=True, strip_accents=True, max_tokens=5)
    cls, sep, a = (vocab.index(token) for token in ("[CLS]", "[SEP]", "a"))
    texts = tf.constant(["", "a", "a a a", "a a a a", "a " * 50])
    ids = ours.tokenize(texts)
    assert ids.dtype == tf.int32
    assert ids.to_list() == [[cls, sep], [cls, a, sep], *[[cls, a, a, a, sep]] * 3]
    count = ours.count(texts)
    assert count.dtype == tf.int32
    assert count.numpy().tolist() == [2, 3, 5, 6, 52]


def test_no_texts():
    ours = BertTokenizer(SPECIALS + PIECES, lower_case=True, strip_accents=True, max_tokens=5)
    assert ours.tokenize(tf.constant([], tf.string)).to_list() == []
    assert ours.count(tf.constant([], tf.string)).shape == [0]


@pytest.mark.parametrize("token", ["a\u2e43", "\U00010002", "\ua7c0"])
def test_refuses_a_vocabulary_it_cannot_reproduce(token):
    with pytest.raises(UsageError, match="younger than Unicode 8"):
        BertTokenizer([*SPECIALS, token], lower_case=True, strip_accents=True, max_tokens=5)


_LOWER = """
import sys, tensorflow as tf
from transforms.encoder.export.tokenizer import BertTokenizer
for strip_accents in (True, False):
    options = {"lower_case": True, "strip_accents": strip_accents, "max_tokens": 9}
    words = BertTokenizer(["[UNK]", "[CLS]", "[SEP]"], **options)
    sys.stdout.buffer.write(words._normalize(tf.constant([sys.argv[1]])).numpy()[0] + b"|")
"""


@pytest.mark.slow
@pytest.mark.parametrize("language", ["C", "tr_TR.UTF-8", "az", "lt_LT.UTF-8"])
def test_the_environments_language_changes_nothing(language):
    """ICU takes its default locale from the environment."""
    capitals = "ISPARTA İ I\u0307 Ì Í Ĩ Į Į\u0301 J\u0301 I\u0300 Σ"
    result = subprocess.run(
        [sys.executable, "-c", _LOWER, capitals],
        env=os.environ
        | {"LC_ALL": language, "LANG": language, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUTF8": "1"},
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        check=True,
    )
    lowered = "".join(char.lower() for char in capitals.replace("Σ", "σ"))
    stripped = "isparta i i i i i i i j i σ"
    assert result.stdout.decode() == f"{stripped}|{lowered}|"
