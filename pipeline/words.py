"""Words that tell a group of texts from the other groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_TERMS = 500_000  # (group, word) counts that are held at most; the rarest are forgotten first
_LONGEST = 24  # letters of a word: what is longer is no word, or a script without spaces
_CHARACTERS = 4000  # of a text that are looked at


def characteristic_words(groups: Iterable[tuple[int, str]], *, top: int = 5) -> dict[int, list[str]]:
    """Words by class-based TF-IDF: Grootendorst, "BERTopic" (2022), equation 2.

    A word's weight in a group is its share of the group's words times log(1 + A / f), with f the word's count
    in all groups and A the mean number of words of a group. Words are split and stop words of English left
    out by scikit-learn. Memory is bounded: beyond 500,000 counts the smallest are forgotten, as in lossy
    counting (Manku and Motwani, 2002).

    Args:
      groups: (number of a group, text), in any order, read once.
      top: most words of a group.

    Returns:
      Of each group that has words the weightiest, best first; words of the same weight by the alphabet.

    >>> characteristic_words([(0, "red apples"), (0, "green apples"), (1, "red cars")], top=1)
    {0: ['apples'], 1: ['cars']}
    """
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import CountVectorizer

    split = CountVectorizer(stop_words="english", token_pattern=rf"[^\W\d_]{{2,{_LONGEST}}}").build_analyzer()
    counts: dict[int, Counter[str]] = {}
    held = 0
    for group, text in groups:
        mine = counts.setdefault(group, Counter())
        held -= len(mine)
        mine.update(split(text[:_CHARACTERS]))
        held += len(mine)
        least = 1
        while held > _TERMS:
            counts = {g: Counter({w: n for w, n in c.items() if n > least}) for g, c in counts.items()}
            held, least = sum(map(len, counts.values())), 2 * least
    numbers = [group for group in sorted(counts) if counts[group]]
    if not numbers:
        return {}
    vectorizer = DictVectorizer(dtype=np.float64)
    table = vectorizer.fit_transform([counts[group] for group in numbers]).tocsr()
    words = vectorizer.get_feature_names_out()  # sorted
    rarity = np.log1p(table.sum() / len(numbers) / np.asarray(table.sum(axis=0)).ravel())
    found = {}
    for row, group in enumerate(numbers):
        places = table.indices[table.indptr[row] : table.indptr[row + 1]]
        weights = table.data[table.indptr[row] : table.indptr[row + 1]] * rarity[places]
        best = np.lexsort((places, -weights))[:top]
        found[group] = [str(words[place]) for place in places[best]]
    return found


def texts_of(rows: pa.Table, columns: Sequence[str]) -> Iterator[str]:
    """Of each row the values of these columns as one text."""
    for values in zip(*(rows.column(name).to_pylist() for name in columns), strict=True):
        yield " ".join(str(value) for value in values if value is not None)
