from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fakes import DIM, FakeEncoder, vector_of
from hypothesis import given
from hypothesis import strategies as st
from models import save_hash_model

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.robust import RobustEncoder
from transforms.errors import ModelError

REFUSED = ("the model refuses it", "ValueError: refused")
NAN = ("the model gives NaN or infinity", "")
ALONE = ("out of memory", "the model cannot embed it even alone")


class Moody(FakeEncoder):
    """Refuses texts with BAD, gives NaN or inf for those that say so, and fits `fits` words at a time."""

    def __init__(self, fits: int | None = None):
        super().__init__()
        self.fits = fits
        self.before_each = False  # refuse everything from now on

    def embed(self, texts):
        vectors = super().embed(texts)
        if self.before_each:
            raise ValueError("refused")
        if self.fits is not None and sum(len(text.split()) for text in texts) > self.fits:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        if any("BAD" in text for text in texts):
            raise ValueError("refused")
        for i, text in enumerate(texts):
            if text.startswith(("nan", "inf")):
                vectors[i, 1] = float(text[:3])
        return vectors


class Fragile(Moody):
    """Cannot prepare texts with CURSED."""

    def prepare(self, texts):
        if any("CURSED" in text for text in texts):
            raise TypeError("no such thing")
        return super().prepare(texts)


def test_a_payload_that_cannot_be_prepared_leaves_its_neighbours_alone() -> None:
    robust = RobustEncoder(Fragile())
    prepared = robust.prepare(["a", "CURSED", "b c", "BAD"])
    vectors, failures, _ = robust.embed(prepared, [1, 1, 2, 1])
    assert failures == {
        1: ("cannot be prepared for the model", "TypeError: no such thing"),
        3: ("the model refuses it", "ValueError: refused"),
    }
    assert vectors[[0, 2]].tolist() == Moody().embed(["a", "b c"]).tolist()


def embed(robust: RobustEncoder, texts: list[str]) -> tuple[list[list[float]], dict[int, tuple[str, str]]]:
    vectors, failures, _ = robust.embed((texts, {}), [len(text.split()) for text in texts])
    assert vectors.dtype == np.float32
    return vectors.tolist(), failures


def expected(texts: list[str]) -> tuple[list[list[float]], dict[int, tuple[str, str]]]:
    failures = {}
    for i, text in enumerate(texts):
        if "BAD" in text:
            failures[i] = REFUSED
        elif text.startswith(("nan", "inf")):
            failures[i] = NAN
    vectors = [[0.0] * DIM if i in failures else vector_of(text).tolist() for i, text in enumerate(texts)]
    return vectors, failures


@given(
    kinds=st.lists(st.sampled_from(["good", "good", "good", "BAD", "nan", "inf"]), max_size=30),
    fits=st.sampled_from([None, 2, 5]),
)
def test_every_bad_row_is_isolated_and_its_neighbours_keep_their_vectors(kinds, fits) -> None:
    texts = ["one good text", *(f"{kind} {i}" for i, kind in enumerate(kinds))]
    assert embed(RobustEncoder(Moody(fits if fits != 2 else 3)), texts) == expected(texts)


def test_memory_runs_out_and_what_fits_is_remembered() -> None:
    encoder = Moody(fits=3)
    robust = RobustEncoder(encoder)
    texts = [f"t{i}" for i in range(8)]
    assert embed(robust, texts) == expected(texts)
    assert [len(call) for call in encoder.calls] == [8, 4, 2, 2, 2, 2]
    encoder.calls.clear()
    assert embed(robust, texts) == expected(texts)
    assert encoder.calls == [texts[0:2], texts[2:4], texts[4:6], texts[6:8]]  # no failure any more


def test_the_remembered_size_is_one_of_costs_not_of_rows() -> None:
    encoder = Moody(fits=4)
    robust = RobustEncoder(encoder)
    embed(robust, ["a b c", "d e f", "g"])  # 7 words: what fits is 3
    encoder.calls.clear()
    texts = ["a", "b", "c", "d e f", "g h", "i", "j k l"]
    assert embed(robust, texts) == expected(texts)
    assert encoder.calls == [["a", "b", "c"], ["d e f"], ["g h", "i"], ["j k l"]]


def test_a_text_that_alone_exhausts_memory_is_a_failure_and_changes_no_size() -> None:
    encoder = Moody(fits=3)
    robust = RobustEncoder(encoder)
    assert embed(robust, ["a b c d"]) == ([[0.0] * DIM], {0: ALONE})
    texts = ["a", "b", "c"]
    encoder.calls.clear()
    assert embed(robust, texts) == expected(texts)
    assert encoder.calls == [texts]


@pytest.mark.parametrize(
    ("error", "remembered"),
    [
        (MemoryError(), True),
        (tf.errors.InternalError(None, None, "CUBLAS_STATUS_ALLOC_FAILED"), True),
        (tf.errors.InternalError(None, None, "illegal address"), False),
        (ValueError("ALLOC_FAILED"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, remembered: bool) -> None:
    def before(texts: list[str]) -> None:
        if len(texts) > 1:
            raise error

    encoder = FakeEncoder(before=before)
    robust = RobustEncoder(encoder)
    assert embed(robust, ["a", "b"]) == expected(["a", "b"])
    encoder.calls.clear()
    assert embed(robust, ["a", "b"]) == expected(["a", "b"])
    assert encoder.calls == ([["a"], ["b"]] if remembered else [["a", "b"], ["a"], ["b"]])


def test_a_lone_bad_document_of_a_model_that_works() -> None:
    assert embed(RobustEncoder(Moody()), ["BAD"]) == expected(["BAD"])


def test_a_few_bad_documents_after_good_ones() -> None:
    robust = RobustEncoder(Moody())
    embed(robust, ["good"])
    assert embed(robust, ["BAD 1", "BAD 2"]) == expected(["BAD 1", "BAD 2"])


@pytest.mark.parametrize("before", [[], ["good"]])
@pytest.mark.parametrize("count", [2, 40])
def test_a_mini_batch_of_which_all_are_refused_is_no_fault_of_a_model_that_works(before, count) -> None:
    """Whatever their number, and whatever came before: what is known to work is tried."""
    robust = RobustEncoder(Moody())
    if before:
        embed(robust, before)
    texts = [f"BAD {i}" for i in range(count)]
    assert embed(robust, texts) == expected(texts)
    assert embed(robust, ["good"]) == expected(["good"])


@pytest.mark.parametrize("count", [1, 40])
def test_a_model_that_fails_on_what_it_embedded_before_stops_the_job(count: int) -> None:
    encoder = Moody()
    robust = RobustEncoder(encoder)
    embed(robust, ["good"])
    encoder.before_each = True
    all_of = "the document" if count == 1 else f"all {count} documents"
    message = f"^the model fails on {all_of} of a mini-batch, and on one that it embedded before: "
    with pytest.raises(ModelError, match=message + "the model refuses it: ValueError: refused$"):
        embed(robust, [f"text {i}" for i in range(count)])


def test_a_mini_batch_that_fails_for_different_reasons_is_not() -> None:
    texts = [f"{'BAD' if i % 2 else 'nan'} {i}" for i in range(10)]
    assert embed(RobustEncoder(Moody()), texts) == expected(texts)


def test_a_model_that_breaks_after_it_worked() -> None:
    encoder = Moody()
    robust = RobustEncoder(encoder)
    embed(robust, ["good"])
    encoder.fits = 0
    with pytest.raises(
        ModelError,
        match=f"^the model fails on the document of a mini-batch, and on one .*: {': '.join(ALONE)}$",
    ):
        embed(robust, ["good too"])


def test_a_wrong_shape_is_passed_on_and_no_rows_fault() -> None:
    def before(texts: list[str]) -> None:
        raise ModelError("the model gave [2, 7] for 2 texts, expected [2, 3]")

    encoder = FakeEncoder(before=before)
    with pytest.raises(ModelError, match=r"^the model gave"):
        embed(RobustEncoder(encoder), ["a", "b"])
    assert len(encoder.calls) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> HubEncoder:
    """A real model in which three rows fit."""
    return HubEncoder(ModelConfig(save_hash_model(tmp_path_factory.mktemp("small"), fits=3)))


def test_a_real_model_runs_out_of_memory(small: HubEncoder) -> None:
    status = Path("/proc/self/status")
    before = status.read_text() if status.exists() else ""
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM when allocating tensor"):
        small.embed(["a"] * 4)
    peaks = [int(t.split("VmHWM:")[1].split()[0]) for t in (before, status.read_text())] if before else [0, 0]
    assert peaks[1] - peaks[0] < 100_000  # kB: what was asked for was never given


def test_real_rows_are_the_same_alone_and_after_memory_ran_out(small: HubEncoder) -> None:
    texts = ["a b", "c", "POISON d", "e", "NOTANUMBER f", "g h i", "j"]
    vectors, failures, calls = RobustEncoder(small).embed((texts, {}), [2] * len(texts))
    assert failures == {
        2: ("the model refuses it", "InvalidArgumentError: assertion failed: [refused text]"),
        4: NAN,
    }
    assert calls > 1
    for i, text in enumerate(texts):
        assert vectors[i].tolist() == ([0.0] * 8 if i in failures else small.embed([text])[0].tolist())


def test_a_real_model_that_breaks_after_its_warm_up(tmp_path: Path) -> None:
    robust = RobustEncoder(HubEncoder(ModelConfig(save_hash_model(tmp_path, breaks=True))))
    reason = r"the model refuses it: InvalidArgumentError: assertion failed: \[broken model\]"
    with pytest.raises(ModelError, match=f"^the model fails on all 2 documents .* before: {reason}$"):
        robust.embed((["a", "b"], {}), [1, 1])
