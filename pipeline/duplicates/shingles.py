"""Texts as bags of shingles: runs of three words, hashed.

Broder, "On the resemblance and containment of documents" (1997), section 2: a text is what it has of runs of
w words, and those that occur more than once are numbered, so that a text said ten times is not the text.
"""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.output.buckets import begins

WORDS = 3  # of a shingle; where one word of sixty differs, 0.9 of the shingles are the same
# Words: runs of letters, marks and digits; each symbol beside them; each letter of scripts that are written
# without spaces; and what stands between spaces and has no letter or digit.
_ALONE = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\pS])"
_BETWEEN = r"[^\pL\pM\pN\pS]+"
_ODD = np.uint64(0x9E3779B97F4A7C15)


def shingles(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The shingles of texts, text after text, and how many each has.

    Words are compared in NFKC and casefolded; punctuation at words and white space are not. A text of
    fewer than three words is one shingle.

    Args:
      texts: string [n], no nulls.

    Returns:
      uint64 [shingles], no two of a text the same; int64 [n].
    """
    words, counts = _words(texts)
    starts = np.cumsum(counts) - counts
    runs = [words]  # of one word, of two, of three, by their first words
    for more in range(1, WORDS):
        runs.append(mixed(runs[-1][: max(0, len(words) - more)] * _ODD + words[more:]))
    sizes = np.where(counts < WORDS, np.minimum(counts, 1), counts - WORDS + 1)
    firsts = np.cumsum(sizes) - sizes
    owners = np.repeat(np.arange(len(texts)), sizes)
    at = np.arange(len(owners)) - firsts[owners] + starts[owners]
    short = np.flatnonzero((counts > 0) & (counts < WORDS))
    long = np.ones(len(at), bool)
    long[firsts[short]] = False
    made = np.empty(len(at), np.uint64)
    made[long] = runs[-1][at[long]]
    for length in range(1, WORDS):
        some = short[counts[short] == length]
        made[firsts[some]] = runs[length - 1][starts[some]]
    return _numbered(made, owners), sizes


def _words(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of words, text after text, and how many each text has.

    What stands between spaces is mostly one of a few thousand: each is looked at once.
    """
    lists = pc.utf8_split_whitespace(texts)
    spaced = lists.flatten().dictionary_encode()
    # Arrow's own NFKC leaves some letters of Japanese apart from their marks.
    plain = [unicodedata.normalize("NFKC", word).casefold() for word in spaced.dictionary.to_pylist()]
    whole = pa.array(plain, pa.string())
    apart = pc.replace_substring_regex(whole, _ALONE, r" \1 ")
    clean = pc.replace_substring_regex(apart, _BETWEEN, " ")
    pieces = pc.split_pattern(pc.if_else(pc.match_substring_regex(whole, r"[\pL\pN]"), clean, whole), " ")
    found = pieces.flatten().dictionary_encode()
    codes = found.indices.to_numpy()
    hashes = np.array([_hash(word) for word in found.dictionary.to_pylist()], np.uint64)[codes]
    there = np.asarray(pc.binary_length(found.dictionary))[codes] > 0  # nothing is between two spaces
    ends = np.concatenate([[0], np.cumsum(there)])[pieces.offsets.to_numpy()]
    hashes, starts, counts = hashes[there], ends[:-1], np.diff(ends)
    at = spaced.indices.to_numpy()
    own = counts[at]
    taken = np.repeat(starts[at], own) + np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
    return hashes[taken], np.diff(np.concatenate([[0], np.cumsum(own)])[lists.offsets.to_numpy()])


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers whose every bit depends on every bit: the finalizer of SplitMix64 (Steele and others, 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _numbered(made: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Shingles of which the second of a text is another than its first, and so on; of a text in any order."""
    order = np.argsort(made)
    small = owners[order].astype(np.min_scalar_type(owners[-1] if len(owners) else 0))
    order = order[np.argsort(small, kind="stable")]  # as lexsort, and several times as fast
    made, owners = made[order], owners[order]
    place = np.arange(len(made))
    number = place - np.maximum.accumulate(np.where(begins(made, owners), place, 0))
    again = number > 0
    made[again] = mixed(made[again] + number[again].astype(np.uint64) * _ODD)
    return made
