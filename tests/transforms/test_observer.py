"""The clock of a process's model: how long it had less to do than it could."""

import gc
import threading
import time

import pytest

from transforms.observer import MiniBatchDone, ModelClock


class Bundle:
    pass


@pytest.fixture
def now(monkeypatch):
    """The time, which tests set."""
    time = [100.0]
    monkeypatch.setattr("transforms.observer.time.monotonic", lambda: time[0])
    return time


def test_what_no_mini_batch_fills_is_idle(now):
    clock, bundle = ModelClock(), Bundle()
    clock.open(bundle, fills=2)
    now[0] = 105  # reading the first documents: nothing has begun yet
    clock.begin()
    now[0] = 106  # one of two: half of a second
    clock.begin()
    now[0] = 110  # both
    assert clock.end() == (5.0, 0.5)
    now[0] = 112  # one
    assert clock.end() == (2.0, 1.0)
    now[0] = 115  # none
    clock.begin()
    now[0] = 116
    assert clock.end() == (4.0, 3.5)


def test_more_than_fill_the_device_are_not_less_than_nothing(now):
    clock, bundle = ModelClock(), Bundle()
    clock.open(bundle, fills=1)
    clock.begin()
    clock.begin()
    now[0] = 102
    assert clock.end() == (2.0, 0.0)
    now[0] = 103
    assert clock.end() == (1.0, 0.0)


def test_between_two_bundles_nothing_counts(now):
    clock, first, second = ModelClock(), Bundle(), Bundle()
    clock.open(first, fills=1)
    clock.begin()
    now[0] = 101
    assert clock.end() == (1.0, 0.0)
    now[0] = 103  # writing what is left of the bundle
    clock.close(first)
    now[0] = 200
    clock.open(second, fills=1)
    now[0] = 204  # reading, while the chain runs
    clock.begin()
    now[0] = 205
    assert clock.end() == (1.0 + 2 + 4, 2.0 + 4)


def test_bundles_beside_each_other_share_one_clock(now):
    clock, first, second = ModelClock(), Bundle(), Bundle()
    clock.open(first, fills=2)
    clock.open(second, fills=2)
    clock.begin()
    now[0] = 101
    clock.close(first)
    now[0] = 102
    assert clock.end() == (2.0, 1.0)


def test_a_bundle_that_failed_is_over_when_its_dofn_is_gone(now):
    clock, bundle = ModelClock(), Bundle()
    clock.open(bundle, fills=1)
    clock.begin()
    clock.end()
    del bundle
    gc.collect()
    now[0] = 200
    clock.open(again := Bundle(), fills=1)
    clock.begin()
    assert clock.end() == (0.0, 0.0)
    clock.close(again)


def test_threads_at_once_add_up():
    """Two threads in a model of two slots, one of which works half as long."""
    clock, bundle = ModelClock(), Bundle()
    clock.open(bundle, fills=2)
    found, ready = [], threading.Barrier(2)

    def work(seconds):
        ready.wait()
        clock.begin()
        time.sleep(seconds)
        found.append(clock.end())

    threads = [threading.Thread(target=work, args=[seconds]) for seconds in (0.2, 0.4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    span, idle = map(sum, zip(*found, strict=True))
    assert span == pytest.approx(0.4, abs=0.15)
    assert idle == pytest.approx(0.1, abs=0.08)


def test_padding_and_retries_of_a_mini_batch():
    done = MiniBatchDone(10, 90, 75, 100, 0.5, waited=0.1, calls=3)
    assert (done.padding, done.retries) == (0.25, 2)
    failed = MiniBatchDone(1, 0, 0, 0, 0.5, waited=0.1, calls=0)
    assert (failed.padding, failed.retries) == (0.0, 0)
