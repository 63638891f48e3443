"""Metrics against worked examples that others have published, and rankings made by hand."""

import math

import numpy as np
import pytest

from pipeline.evaluation.intervals import interval, of_means
from pipeline.evaluation.pairs import correlations
from pipeline.evaluation.retrieval import measures


def test_ndcg_of_wikipedias_example():
    """Gains 3, 2, 3, 0, 1, 2, and two relevant documents (3 and 2) not in the ranking: nDCG@6 is 0.785."""
    judged = {"q": {"D1": 3, "D2": 2, "D3": 3, "D4": 0, "D5": 1, "D6": 2, "D7": 3, "D8": 2}}
    found = measures(judged, {"q": ["D1", "D2", "D3", "D4", "D5", "D6"]}, 6)
    assert found["nDCG@6"][0] == pytest.approx(0.785, abs=5e-4)
    dcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate([3, 2, 3, 0, 1, 2], 1))
    ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate([3, 3, 3, 2, 2, 2], 1))
    assert (round(dcg, 3), round(ideal, 3)) == (6.861, 8.740)  # as there
    assert found["nDCG@6"][0] == pytest.approx(dcg / ideal)
    assert found["recall@6"][0] == pytest.approx(5 / 7)


def test_mrr_of_wikipedias_example():
    """cat, torus and virus: the right plural stands third, second and first; (1/3 + 1/2 + 1) / 3 = 0.61."""
    judged = {"cat": {"cats": 1}, "torus": {"tori": 1}, "virus": {"viruses": 1}}
    ranked = {
        "cat": ["catten", "cati", "cats"],
        "torus": ["torii", "tori", "toruses"],
        "virus": ["viruses", "virii", "viri"],
    }
    found = measures(judged, ranked, 3)["MRR@3"]
    np.testing.assert_allclose(found, [1 / 3, 1 / 2, 1])
    assert round(float(found.mean()), 2) == 0.61


@pytest.mark.parametrize(
    ("ranked", "ndcg", "recall", "mrr"),
    [
        (["a", "b", "x"], 1, 1, 1),
        (["x", "y", "z"], 0, 0, 0),
        (["x", "a", "y"], (1 / math.log2(3)) / (1 + 1 / math.log2(3)), 0.5, 0.5),
        (["x", "y", "b", "a"], (1 / math.log2(4)) / (1 + 1 / math.log2(3)), 0.5, 1 / 3),  # a comes too late
        ([], 0, 0, 0),
    ],
)
def test_rankings_made_by_hand(ranked, ndcg, recall, mrr):
    found = measures({"q": {"a": 1, "b": 1, "c": 0}}, {"q": ranked}, 3)
    got = [found[name][0] for name in ("nDCG@3", "recall@3", "MRR@3")]
    np.testing.assert_allclose(got, [ndcg, recall, mrr], rtol=1e-6)


def test_ndcg_is_scikit_learns():
    from sklearn.metrics import ndcg_score

    random = np.random.default_rng(0)
    gains = random.integers(0, 4, (20, 30))
    judged = {f"q{i}": {f"d{j}": int(gain) for j, gain in enumerate(row)} for i, row in enumerate(gains)}
    ranked = {query: [f"d{j}" for j in range(30)] for query in judged}
    found = measures(judged, ranked, 10)["nDCG@10"]
    theirs = [ndcg_score([row], [np.arange(30, 0, -1)], k=10) for row in gains]
    np.testing.assert_allclose(found, theirs, rtol=1e-6)


def test_spearman_by_its_formula():
    """1 - 6 sum d^2 / (n (n^2 - 1)): IQ and hours of TV in Wikipedia's example are -29/165."""
    iq = np.array([106, 100, 86, 101, 99, 103, 97, 113, 112, 110], float)
    hours = np.array([7, 27, 2, 50, 28, 29, 20, 12, 6, 17], float)
    found = correlations([iq], hours, 0)["outputs"][0]
    assert found["value"] == pytest.approx(-29 / 165, abs=1e-6)
    assert found["low"] < found["value"] < found["high"]


def test_intervals_are_the_same_twice_and_hold_the_mean():
    values = np.random.default_rng(0).normal(0.3, 0.1, 400)
    found = interval((values,), np.mean, 7, vectorized=True)
    assert found == interval((values,), np.mean, 7, vectorized=True)
    assert found["value"] == pytest.approx(values.mean(), abs=1e-6)
    half = 1.96 * values.std() / 20  # by the central limit theorem
    assert found["low"] == pytest.approx(values.mean() - half, abs=half / 5)
    assert found["high"] == pytest.approx(values.mean() + half, abs=half / 5)
    assert interval((values[:1],), np.mean, 0, vectorized=True)["low"] is None


def test_the_difference_is_paired():
    """Two that differ by the same in every case: of that there is no doubt, however much cases differ."""
    first = np.random.default_rng(1).uniform(0, 1, 50)
    found = of_means([first, first + 0.25], 0)
    assert found["difference"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert found["outputs"][0]["high"] - found["outputs"][0]["low"] > 0.1


def test_the_difference_of_two_correlations():
    scores = np.arange(40.0)
    good, bad = scores**2, np.random.default_rng(3).permutation(scores)
    found = correlations([good, bad], scores, 0)
    first, second = (one["value"] for one in found["outputs"])
    assert first == 1
    assert found["difference"]["value"] == pytest.approx(second - 1, abs=1e-6)
    assert found["difference"]["high"] < 0
