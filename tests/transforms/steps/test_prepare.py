"""Payloads are prepared (decoded) on threads of their own, and cut late where their modality says so."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from fakes import FakeEncoder, shared

from transforms.blocks import ChunkBlock, DocumentBlock, Run
from transforms.encoder.robust import RobustEncoder
from transforms.errors import ModelError
from transforms.modality.protocol import Encoded
from transforms.steps.chunk import Chunker
from transforms.steps.config import EmbedConfig
from transforms.steps.embed import _EmbedFn, embed_mini_batch, payloads_of, together

WAIT = 30  # seconds until a test that hangs gives up


@dataclasses.dataclass(frozen=True)
class Bytes(Encoded):
    """Bytes whose spans are bytes, cut when they are embedded."""

    name: ClassVar[str] = "bytes"
    field: ClassVar[str] = "data"
    bytes_a_token: ClassVar[int] = 4096
    cuts_late: ClassVar[bool] = True

    def length(self, payload: Any) -> int:
        return len(payload)

    def estimate(self, payloads: Any) -> np.ndarray:
        return np.array([len(payload) for payload in payloads], np.int64)

    def split(self, payloads: Any, *, window: int, overlap: int, count: Any, most: Any = None) -> Any:
        def spans(length: int) -> np.ndarray:
            starts = np.arange(0, length, window)
            ends = np.minimum(starts + window, length)
            return np.stack([starts, ends, ends - starts], axis=1)

        return [spans(len(payload)) for payload in payloads]

    def cut(self, payload: Any, start: int, end: int) -> bytes:
        return bytes(memoryview(payload)[start:end])

    def decode(self, columns: Any) -> Any:
        raise NotImplementedError

    def shown(self, payload: Any) -> str:
        return f"{len(payload)} bytes"


class Decoding(FakeEncoder):
    """Embeds the first byte; refuses payloads that begin with b'!'."""

    modality = Bytes()
    prepares = True
    sample = b"a"

    def __init__(self, **about: Any):
        super().__init__(window=4, count=None, **about)
        self.threads: set[str] = set()

    def prepare(self, payloads: Any) -> Any:
        self.threads.add(threading.current_thread().name.partition("_")[0])
        refused = {i: ("not an image", "so it begins") for i, p in enumerate(payloads) if p[:1] == b"!"}
        return [None if i in refused else p.decode() for i, p in enumerate(payloads)], refused


def window_of(*payloads: bytes, config: EmbedConfig | None = None) -> ChunkBlock:
    """Documents through the chunker."""
    numbers = range(len(payloads))
    columns = pa.record_batch(
        {
            "doc_id": pa.array([f"d{i}" for i in numbers]),
            "source": pa.array([""] * len(payloads)),
            "position": pa.array(list(numbers), pa.int64()),
            "index": pa.array(list(numbers), pa.int64()),
            "payload": pa.array(payloads, pa.binary()),
        }
    )
    config = config or EmbedConfig()
    (chunks,) = Chunker(config, Decoding()).chunk(DocumentBlock("s", columns))
    assert isinstance(chunks, ChunkBlock)
    return chunks


def run_of(window: ChunkBlock, *rows: int) -> Run:
    return Run(window, np.array(rows), int(window.costs[list(rows)].sum()))


def test_a_document_is_cut_when_it_is_embedded() -> None:
    window = window_of(b"abcdefghij", b"xy")
    assert window.cut is None
    assert window.owners.tolist() == [0, 0, 0, 1]
    assert window.costs.tolist() == [4, 4, 2, 2]
    runs = [run_of(window, 3), run_of(window, 1), run_of(window, 2, 0)]
    assert payloads_of(runs, Bytes()) == [b"xy", b"efgh", b"ij", b"abcd"]
    (one,) = together(runs)
    assert one.chunks.tolist() == [3, 1, 2, 0]
    assert one.cost == 12


def test_truncated_to_the_first_window() -> None:
    window = window_of(b"abcdefghij", b"xy", config=EmbedConfig("truncate"))
    assert (window.starts.tolist(), window.ends.tolist()) == ([0, 0], [4, 2])
    assert payloads_of([run_of(window, 0, 1)], Bytes()) == [b"abcd", b"xy"]


def test_what_cannot_be_prepared_is_a_failure_and_its_neighbours_are_embedded() -> None:
    encoder = Decoding()
    window = window_of(b"ab", b"!", b"cd", b"!!")
    made = embed_mini_batch(RobustEncoder(encoder), [run_of(window, 0, 1, 2, 3)])
    assert made.failures == {1: ("not an image", "so it begins"), 3: ("not an image", "so it begins")}
    assert encoder.calls == [["ab", "cd"]]
    assert made.vectors[[0, 2]].tolist() == Decoding().embed(["ab", "cd"]).tolist()
    assert not made.vectors[[1, 3]].any()


def test_a_mini_batch_of_which_none_can_be_prepared_calls_no_model() -> None:
    encoder = Decoding()
    made = embed_mini_batch(RobustEncoder(encoder), [run_of(window_of(b"!", b"!x"), 0, 1)])
    assert sorted(made.failures) == [0, 1]
    assert encoder.calls == []


def test_the_model_is_to_blame_only_if_it_fails_on_a_prepared_sample() -> None:
    def refuse(prepared: list[str]) -> None:
        if "a" not in prepared or broken:
            raise ValueError("no")

    broken: list[int] = []
    robust = RobustEncoder(Decoding(before=refuse))
    assert robust.embed((["bad"], {}), [1])[1] == {0: ("the model refuses it", "ValueError: no")}
    broken.append(1)
    with pytest.raises(ModelError, match="the model fails on the document of a mini-batch"):
        robust.embed((["bad"], {}), [1])


def test_the_next_mini_batch_is_prepared_while_the_model_works() -> None:
    prepared_two, encoder = threading.Event(), Decoding()
    prepare = encoder.prepare

    def counted(payloads: Any) -> Any:
        if payloads == [b"bb"]:
            prepared_two.set()
        return prepare(payloads)

    encoder.prepare = counted  # type: ignore[method-assign]
    # The model's first call ends only when the second mini-batch was prepared.
    encoder._before = lambda prepared: prepared != ["aa"] or assert_set(prepared_two)
    fn = _EmbedFn(shared(encoder), EmbedConfig())
    fn.setup()
    fn.start_bundle()
    window = window_of(b"aa", b"bb")
    got = [*fn.process([run_of(window, 0)]), *fn.process([run_of(window, 1)])]
    got += [value.value for value in fn.finish_bundle()]
    fn.teardown()
    assert [batch.vectors.tolist() for batch in got] == [
        Decoding().embed(["aa"]).tolist(),
        Decoding().embed(["bb"]).tolist(),
    ]
    assert encoder.threads == {"prepare"}


def assert_set(event: threading.Event) -> None:
    assert event.wait(WAIT)
