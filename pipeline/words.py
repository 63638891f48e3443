"""Words that tell one group of texts from the others."""

from __future__ import annotations

from collections.abc import Iterable


def characteristic_words(groups: Iterable[tuple[int, str]], *, top: int = 5) -> dict[int, list[str]]:
    """The words of each group that are frequent in it and rare in the others, best first.

    Class-based TF-IDF (Grootendorst, BERTopic, 2022, section 3.3): a word's frequency in the group, times
    log(1 + words of an average group / its frequency in all groups).

    Args:
      groups: of each text the number of its group.
      top: how many words of a group at most.
    """
    import numpy as np
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    pairs = list(groups)
    names = sorted({group for group, _ in pairs})
    counter = CountVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_]{2,}\b")
    try:
        counts = counter.fit_transform(text for _, text in pairs)
    except ValueError:  # not one word in all of them
        return {name: [] for name in names}
    rows = np.searchsorted(names, [group for group, _ in pairs])
    member = csr_matrix((np.ones(len(pairs)), (rows, np.arange(len(pairs)))), (len(names), len(pairs)))
    summed = (member @ counts).toarray().astype(np.float64)
    weight = summed * np.log1p(summed.sum() / len(names) / summed.sum(axis=0))
    vocabulary = counter.get_feature_names_out()
    best = np.argsort(-weight, axis=1, kind="stable")[:, :top]
    return {
        name: [str(vocabulary[i]) for i in best[row] if weight[row, i] > 0] for row, name in enumerate(names)
    }
