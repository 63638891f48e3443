"""What mini-batches cost travels to the writer, and to Beam's metrics."""

import threading
import time
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from fakes import FakeEncoder, block, document, load_fake, one_run, run, shared, whole

from transforms.blocks import EmbeddedBatch, MiniBatches
from transforms.elements import Element, EndOfShard, ShardFailed
from transforms.encoder.config import ModelConfig
from transforms.observer import MiniBatchDone
from transforms.steps.chain import EmbedBlocks
from transforms.steps.config import EmbedConfig
from transforms.steps.embed import _EmbedFn
from transforms.steps.encoder import SharedEncoder
from transforms.steps.timing import Timing


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.steps.embed.available_cores", lambda: 2)


def embedded(number: int, shard_id: str = "s") -> EmbeddedBatch:
    done = MiniBatchDone(number, 1, 1, 1, 0.5, waited=0.1, calls=1)
    batch = one_run(whole(document(number), shard_id=shard_id))
    return EmbeddedBatch((batch,), np.zeros((1, 3), np.float32), {}, done)


def told(elements: list[Any]) -> list[Any]:
    return [[one.chunks for one in e.done] if isinstance(e, MiniBatches) else e for e in elements]


def test_it_comes_before_the_marker_of_its_shard() -> None:
    batches, end = [embedded(i) for i in range(3)], EndOfShard("s", 3)
    other, end_other = embedded(7, "t"), EndOfShard("t", 1)
    got = list(Timing(trace=False).follow([*batches, end, other, end_other]))
    assert told(got) == [*batches, [0, 1, 2], end, other, [7], end_other]


def test_a_shard_of_many_gives_some_at_a_time() -> None:
    batches = [embedded(i) for i in range(1000)]
    got = told(list(Timing(trace=False).follow([*batches, EndOfShard("s", 1000)])))
    assert [e for e in got if isinstance(e, list)] == [list(range(512)), list(range(512, 1000))]


def test_what_failed_leaves_nothing() -> None:
    timing, failed = Timing(trace=False), ShardFailed("s", "a", None, "bad")
    assert told(list(timing.follow([embedded(1), failed])))[1:] == [failed]
    assert told(list(timing.follow([EndOfShard("t", 0)]))) == [EndOfShard("t", 0)]


def test_a_users_own_pipeline_gets_none() -> None:
    assert not [e for e in Timing(trace=False).follow([embedded(1, "")]) if isinstance(e, MiniBatches)]


def test_the_embedding_step_tells_where_and_when() -> None:
    batch = [one_run(whole(document(0, "a"), document(1, "b b"), costs=[3, 4]))]
    fn = _EmbedFn(shared(FakeEncoder()), EmbedConfig())
    got = [e for e in run(fn, [batch, [EndOfShard("s", 2)]]) if isinstance(e, MiniBatches)]
    [done] = got[0].done
    assert (got[0].shard_id, done.chunks, done.cost, done.padded, done.calls) == ("s", 2, 7, 8, 1)
    assert done.device == "fake"
    assert done.thread.startswith("embed")
    assert done.begun > 1.7e18
    assert done.span >= done.idle >= 0


def test_a_trace_is_beams_metrics_on_any_runner() -> None:
    documents = block(*(document(i, "word " * (1 + i % 4)) for i in range(40)))
    pipeline = beam.Pipeline(runner=FnApiRunner())
    elements = [documents, EndOfShard("s", 40)]
    encoder = SharedEncoder(ModelConfig("fake"), load_fake)
    _ = (
        pipeline
        | beam.Create([None], reshuffle=False)
        | beam.FlatMap(lambda _: elements).with_output_types(Element)
        | EmbedBlocks(encoder, EmbedConfig(batch_tokens=20, trace=True))
        | "Forget" >> beam.Filter(lambda _: False)
    )
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace("embedbeam"))
    counters = {one.key.metric.name: one.committed for one in found["counters"]}
    distributions = {one.key.metric.name: one.committed for one in found["distributions"]}
    assert counters == {"mini_batches": distributions["chunks"].count, "retries": 0}
    assert distributions["chunks"].sum == 40
    assert distributions["tokens"].sum == sum(3 + i % 4 for i in range(40))
    assert set(distributions) == {"chunks", "tokens", "padding_permille", "model_ms", "wait_ms"}


def test_without_a_trace_no_metric_is_told() -> None:
    assert Timing(trace=False)._metrics is None


def test_instances_and_threads_of_a_process_share_one_clock() -> None:
    """Four runner threads, two slots, of which each is busy all the time but at the ends."""
    encoder = shared(FakeEncoder(before=lambda texts: time.sleep(0.03)))
    got: list[Any] = []

    def runner_thread(n: int) -> None:
        batches = [[one_run(whole(document(i), shard_id=str(n)))] for i in range(6)]
        fn = _EmbedFn(encoder, EmbedConfig())
        got.extend(run(fn, [*batches, [EndOfShard(str(n), 6)]]))

    began = time.monotonic()
    threads = [threading.Thread(target=runner_thread, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    seconds = time.monotonic() - began
    done = [one for e in got if isinstance(e, MiniBatches) for one in e.done]
    span, idle = sum(one.span for one in done), sum(one.idle for one in done)
    assert len(done) == 24
    assert 24 * 0.03 / 2 <= span <= seconds  # once, however many instances there are
    busy = sum(one.seconds for one in done)
    assert idle == pytest.approx(span - busy / 2, abs=0.1)
