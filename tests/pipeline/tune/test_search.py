"""Which settings are tried, and which one wins."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tune import search
from pipeline.tune.search import Setting, Trial, Tried

USUAL = Setting(1000, 2, 1)


def trial(rate, *, ran_out=False):
    return Trial(2.0, int(2 * rate), 10, 4, 0.1, 0.2, 0.0, 1 << 20, ran_out)


def tried(budget, *rates, in_flight=2, intra_op=1, why=""):
    return Tried(Setting(budget, in_flight, intra_op), [trial(rate) for rate in rates], why)


def twice(budget, rate, **about):
    return tried(budget, rate, rate, **about)


def test_medians_and_quartiles():
    one = tried(1000, 100, 300, 200, 500)
    assert (one.rate, one.quartiles) == (250, (175, 350))
    assert (tried(1000, 70).quartiles, tried(1000).rate) == ((70, 70), 0)
    assert (trial(150).tokens_per_second, trial(150).documents_per_second) == (150, 5)


@given(usual=st.integers(1, 1 << 20), tokens=st.integers(0, 1 << 30), in_flight=st.integers(1, 64))
def test_budgets_double_and_the_sample_can_tell_of_each_but_the_first(usual, tokens, in_flight):
    found = search.budgets(usual, tokens, in_flight)
    assert found[0] == max(1, usual // 8)
    assert all(b == 2 * a for a, b in itertools.pairwise(found))
    assert all(b * in_flight * search.MINI_BATCHES <= tokens for b in found[1:])
    if search.is_large_enough(usual, tokens, in_flight) and usual >= 8 and not usual % 8:
        assert usual in found


def test_cores_are_used_otherwise():
    def pairs(device, cores):
        return [(one.in_flight, one.intra_op) for one in search.threads(device, cores)]

    assert pairs("CPU", 1) == [(2, 1)]
    assert pairs("CPU", 4) == [(2, 2), (1, 4), (5, 1)]
    assert pairs("CPU", 16) == [(8, 2), (4, 4), (1, 16), (20, 1)]
    assert pairs("GPU", 16) == [(1, 0), (3, 0), (4, 0)]


@pytest.mark.parametrize(
    ("rates", "stop"),
    [
        ([], False),
        ([50, 80, 100], False),
        ([50, 100, 80], False),  # one slow one may be noise
        ([50, 100, 80, 70], True),
        ([50, 100, 80, 95], False),
    ],
)
def test_larger_budgets_are_tried_until_two_are_slow(rates, stop):
    assert search.falls([tried(2**i, rate) for i, rate in enumerate(rates)]) is stop


def test_out_of_memory_ends_the_search():
    assert search.falls([tried(100, 50), tried(200, why="out of memory")])


def test_other_threads_are_tried_around_the_best_budget():
    found = [tried(100, 50), tried(200, 90), tried(400, 80), tried(800, 60), tried(1600, why="out of memory")]
    assert search.around(found) == [100, 200, 400]
    assert search.around(found[:2]) == [100, 200]
    assert search.around([tried(100)]) == []


def test_the_hopeless_are_not_repeated_and_the_order_is_one_of_chance():
    found = [tried(2**i, 100 - i, 60, 100) for i in range(10)] + [
        tried(5000, 84, 84),
        tried(9000, 100, why="out of memory"),
    ]
    orders = [[one.setting for one in search.again(found, seed)] for seed in range(5)]
    assert all(sorted(order) == [Setting(2**i, 2, 1) for i in range(10)] for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert orders[3] == [one.setting for one in search.again(found, 3)]


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ([twice(500, 90), twice(1000, 100), twice(2000, 120)], Setting(2000, 2, 1)),
        ([twice(500, 99), twice(1000, 98.5), twice(2000, 100)], USUAL),  # as fast as the best
        ([twice(500, 99), twice(1000, 90), twice(2000, 100)], Setting(500, 2, 1)),
        ([twice(1000, 90), twice(1000, 100, in_flight=1, intra_op=2)], Setting(1000, 1, 2)),
        ([twice(1000, 90), twice(2000, 100, why="out of memory")], USUAL),
        ([twice(1000, 90), tried(2000, 100)], USUAL),  # once is not enough
        ([twice(500, 90), twice(1000, 100, why="out of memory")], Setting(500, 2, 1)),
        ([twice(250, 90), tried(500, why="out of memory")], Setting(250, 2, 1)),
    ],
)
def test_the_winner(found, best):
    assert search.winner(found, USUAL).setting == best


@pytest.mark.parametrize(
    "found",
    [
        [],
        [tried(1000), tried(2000, 5, why="out of memory")],
        [twice(125, 50), twice(250, 60), tried(1000, 70)],  # what is usual was tried once
        [tried(500, why="out of memory")],
    ],
)
def test_nothing_wins_where_trials_cannot_tell(found):
    assert search.winner(found, USUAL) is None


def test_one_slow_trial_leaves_nothing_out():
    slow, twice_slow, best = tried(100, 10), tried(200, 10, 11), tried(400, 100, 100)
    assert sorted(one.setting.batch_tokens for one in search.again([slow, twice_slow, best], 1)) == [100, 400]
