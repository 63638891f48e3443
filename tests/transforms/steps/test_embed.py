import threading
import time
from typing import Any

import numpy as np
import pytest
from apache_beam.transforms.window import IntervalWindow
from fakes import FakeEncoder, bundle, document, finish, one_run, pieces, run, shared, vector_of, whole

from transforms import observer
from transforms.blocks import DeadLetters, EmbeddedBatch, MiniBatches, Run
from transforms.elements import DeadLetter, Document, EndOfShard, Origin
from transforms.encoder.robust import RobustEncoder
from transforms.errors import ModelError
from transforms.steps.config import EmbedConfig
from transforms.steps.embed import _EmbedFn, embed_mini_batch

WAIT = 30  # seconds before a test that would hang fails


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.steps.embed.available_cores", lambda: 2)


def plain(elements: list[Any]) -> list[Any]:
    """Embedded batches as lists that compare: [(text, vector)]."""
    elements = [e for e in elements if not isinstance(e, MiniBatches)]
    return [texts_of(e) if isinstance(e, EmbeddedBatch) else e for e in elements]


def texts_of(batch: EmbeddedBatch) -> list[tuple[str, list[float]]]:
    texts = [piece.text for run in batch.runs for piece in pieces(run.window, run.chunks.tolist())]
    return list(zip(texts, batch.vectors.tolist(), strict=True))


def embedded(*texts: str) -> list[tuple[str, list[float]]]:
    return [(text, vector_of(text).tolist()) for text in texts]


def batch(*texts: str) -> list[Run]:
    return [one_run(whole(*(document(i, text) for i, text in enumerate(texts))))]


LETTERS = DeadLetters("s", (DeadLetter("x", "", 0, "read", "blank text"),))


def test_results_come_in_order_though_the_first_is_slow() -> None:
    second_done = threading.Event()

    def before(texts: list[str]) -> None:
        if texts == ["first"]:
            assert second_done.wait(WAIT)
        else:
            second_done.set()

    marker = EndOfShard("s", 2)
    got = run(
        _EmbedFn(shared(FakeEncoder(before=before)), EmbedConfig()),
        [batch("first"), batch("second"), [marker]],
    )
    assert plain(got) == [embedded("first"), embedded("second"), marker]


def test_two_mini_batches_are_in_the_model_at_once() -> None:
    both_inside = threading.Barrier(2)
    encoder = FakeEncoder(before=lambda texts: both_inside.wait(WAIT) and None)
    got = run(_EmbedFn(shared(encoder), EmbedConfig()), [batch("a", "b"), batch("c")])
    assert plain(got) == [embedded("a", "b"), embedded("c")]


def test_instances_beside_each_other_share_the_threads() -> None:
    """A runner with many threads of its own makes many instances: the model's threads do not multiply."""
    inside, most, lock = 0, 0, threading.Lock()

    def before(texts: list[str]) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1

    encoder = shared(FakeEncoder(before=before))
    got: dict[int, list[Any]] = {}

    def runner_thread(n: int) -> None:
        got[n] = plain(run(_EmbedFn(encoder, EmbedConfig()), [batch(f"{n}-{i}") for i in range(5)]))

    threads = [threading.Thread(target=runner_thread, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert got == {n: [embedded(f"{n}-{i}") for i in range(5)] for n in range(4)}
    assert most == 2


def test_no_more_than_three_mini_batches_wait() -> None:
    """Memory does not grow with the bundle: at each step all but three mini-batches were given on."""
    fn = _EmbedFn(shared(FakeEncoder(before=lambda texts: time.sleep(0.002))), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    out: list[Any] = []
    for i in range(20):
        out += fn.process(batch(f"t{i}"))
        assert len(out) >= i + 1 - 3
    out += [value.value for value in finish(fn)]
    assert plain(out) == [embedded(f"t{i}") for i in range(20)]


def test_an_error_lands_on_its_own_mini_batch() -> None:
    def before(texts: list[str]) -> None:
        if texts[0].startswith("broken"):
            raise ModelError("the model gave [1, 2] for 1 texts")

    fn = _EmbedFn(shared(FakeEncoder(before=before)), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    out: list[Any] = []

    def whole_bundle() -> None:
        for texts in (["good"], ["better"], ["broken"], ["never seen"]):
            out.extend(fn.process(batch(*texts)))
        out.extend(value.value for value in fn.finish_bundle())

    with pytest.raises(ModelError, match=r"^the model gave"):
        whole_bundle()
    # What stood before the broken one came out, or waits in front of it; nothing behind it did.
    assert plain(out) == [embedded("good"), embedded("better")][: len(out)]
    assert "never seen" not in str(plain(out))
    fn.teardown()


def test_an_error_in_finish_bundle_comes_after_the_good_ones() -> None:
    started = threading.Event()

    def before(texts: list[str]) -> None:
        started.wait(WAIT)
        if texts == ["broken"]:
            raise ModelError("no")

    fn = _EmbedFn(shared(FakeEncoder(before=before)), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    assert [list(fn.process(batch(text))) for text in ("good", "broken")] == [[], []]
    started.set()
    results = fn.finish_bundle()
    assert plain([next(results).value]) == [embedded("good")]
    with pytest.raises(ModelError, match=r"^no$"):
        next(results)


def test_markers_and_letters_wait_for_the_vectors_before_them() -> None:
    gate = threading.Event()
    fn = _EmbedFn(shared(FakeEncoder(before=lambda texts: gate.wait(WAIT) and None)), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    marker = EndOfShard("s", 2)
    assert [list(fn.process(b)) for b in ([*batch("a"), LETTERS], [marker])] == [[], []]
    gate.set()
    assert plain([value.value for value in finish(fn)]) == [LETTERS, embedded("a"), marker]


def test_letters_behind_a_slow_mini_batch_do_not_pile_up() -> None:
    gate = threading.Event()
    fn = _EmbedFn(shared(FakeEncoder(before=lambda texts: gate.wait(WAIT) and None)), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    got = list(fn.process(batch("a")))
    threading.Timer(0.3, gate.set).start()
    for _ in range(8):
        got += fn.process([LETTERS, LETTERS])
    assert gate.is_set()  # it waited
    assert plain(got) == [embedded("a"), *[LETTERS] * 16]
    assert finish(fn) == []


def test_futures_of_a_failed_bundle_do_not_reach_the_next() -> None:
    gate = threading.Event()
    encoder = FakeEncoder(before=lambda texts: gate.wait(WAIT) and None)
    fn = _EmbedFn(shared(encoder), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    for text in ("old 1", "old 2", "old 3"):
        list(fn.process(batch(text)))
    threading.Timer(0.2, gate.set).start()
    fn.start_bundle()  # the bundle above was given up; what had begun is waited for
    assert plain(bundle(fn, [batch("new")])) == [embedded("new")]
    assert ["old 3"] not in encoder.calls  # it had not begun, so the model is not bothered with it


def test_teardown_after_a_setup_that_failed() -> None:
    def load(config: Any) -> Any:
        raise ModelError("cannot be loaded")

    encoder = shared(FakeEncoder())
    encoder._load = load
    fn = _EmbedFn(encoder, EmbedConfig())
    with pytest.raises(ModelError, match=r"^cannot be loaded$"):
        fn.setup()
    fn.teardown()


def test_results_at_the_end_of_a_bundle_keep_their_windows() -> None:
    gate = threading.Event()
    fn = _EmbedFn(shared(FakeEncoder(before=lambda texts: gate.wait(WAIT) and None)), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    first, second = (1, IntervalWindow(0, 10)), (12, IntervalWindow(10, 20))
    origin = Origin(Document("x", ""), *second)
    letter = DeadLetters("", (DeadLetter("x", "", 0, "read", "blank text", origin=origin),))
    assert list(fn.process([one_run(whole(document(0, "a", origin=first))), letter])) == []
    gate.set()
    values = finish(fn)
    assert plain([value.value for value in values]) == [letter, embedded("a")]
    assert [(v.timestamp.micros / 1e6, v.windows) for v in values] == [(12, (second[1],)), (1, (first[1],))]


class Constant(FakeEncoder):
    """A number a text: its vector is that number, thrice."""

    def embed(self, texts):
        return np.array([[float(text)] * 3 for text in texts], np.float32)


def test_a_vector_beyond_float16_is_a_failure() -> None:
    runs = batch("1", "65504", "-65505", "2", "1e30")
    got = embed_mini_batch(RobustEncoder(Constant()), runs, EmbedConfig(vector_dtype="float16"))
    why = ("beyond float16", "a number above 65504; use vector_dtype=float32")
    assert got.failures == {2: why, 4: why}
    whole_ones = embed_mini_batch(RobustEncoder(Constant()), runs)
    assert whole_ones.failures == {}
    assert whole_ones.vectors[:, 0].tolist() == np.array([1, 65504, -65505, 2, 1e30], np.float32).tolist()


def test_a_refused_text_is_a_failure_among_good_ones() -> None:
    def before(texts: list[str]) -> None:
        if "bad" in texts:
            raise ValueError("not this one")

    got = embed_mini_batch(RobustEncoder(FakeEncoder(before=before)), [*batch("a", "bad"), *batch("b")])
    assert texts_of(got) == [*embedded("a"), ("bad", [0.0] * 3), *embedded("b")]
    assert got.failures == {1: ("the model refuses it", "ValueError: not this one")}


def test_observers_are_told_of_each_mini_batch() -> None:
    told: list[Any] = []
    end = observer.observe(told.append)
    try:
        runs = [one_run(whole(document(0, "a"), document(1, "b"), costs=[3, 7]))]
        embed_mini_batch(RobustEncoder(FakeEncoder()), runs, handed_over=time.monotonic() - 1)
    finally:
        end()
    begun, done = told
    assert begun == observer.MiniBatchBegun()
    assert (done.chunks, done.tokens, done.cost, done.padded, done.calls) == (2, 10, 10, 14, 1)
    assert done.seconds >= 0
    assert done.waited >= 1
    embed_mini_batch(RobustEncoder(FakeEncoder()), runs)
    assert len(told) == 2
