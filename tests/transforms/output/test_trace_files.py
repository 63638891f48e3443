"""A shard's trace: its own Parquet file, committed with it, and what TensorBoard reads of it."""

import json
import os

import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from transforms.elements import EndOfShard, ShardReceipt
from transforms.observer import MiniBatchDone
from transforms.output import layout, ledger, trace
from transforms.output.folder import Folder
from transforms.output.schema import RowSchema
from transforms.output.shard import ShardWriter, WriteConfig

SHARD, OTHER = "0123456789abcdef", "fedcba9876543210"


def done(number, **fields):
    values = {"tokens": 10 * number, "cost": 9, "padded": 12, "seconds": 0.5, "waited": 0.25, "calls": 2}
    measured = {"begun": 10**18 + number, "thread": "embed_0", "device": "A", "span": 2.0, "idle": 0.5}
    return MiniBatchDone(number, **values | measured | fields)


@pytest.fixture
def folder(tmp_path):
    made = Folder(str(tmp_path / "out"))
    head = json.dumps({"job": "j", "plan": 1})
    made.write(layout.PLAN, f"{head}\n".encode())
    return made


def writer(folder, monkeypatch, shard_id=SHARD, *, traced=True):
    monkeypatch.setattr("transforms.output.shard.check_owner", lambda *args: None)
    config = WriteConfig(folder.path, "j", "parquet", RowSchema(3), {}, trace=traced)
    return ShardWriter(shard_id, folder, config)


def tensorboard(folder):
    """Steps and values by tag, run by run, as TensorBoard's own reader has them."""
    found = {}
    for run in sorted(os.listdir(folder.join(layout.TENSORBOARD))):
        events = EventAccumulator(f"{folder.join(layout.TENSORBOARD)}/{run}").Reload()
        found[run] = {
            tag: [(one.step, one.value, one.wall_time) for one in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }
    return found


def test_a_committed_shard_has_a_line_a_mini_batch(folder, monkeypatch):
    of = writer(folder, monkeypatch)
    of.add_mini_batches([done(1), done(2)])
    of.add_mini_batches([done(3, calls=1)])
    assert not folder.names(layout.TRACE)
    receipt = of.commit(EndOfShard(SHARD, 0))
    assert (receipt.mini_batches, receipt.retries) == (3, 2)
    assert (receipt.model_span, receipt.model_idle) == (6.0, 1.5)
    assert list(folder.names(layout.TRACE)) == [f"part-{SHARD}.parquet"]
    table = pq.read_table(folder.join(layout.trace(SHARD)))
    assert table.schema.equals(trace.SCHEMA)
    first = {
        "shard": SHARD,
        "number": 0,
        "begun_ns": 10**18 + 1,
        "chunks": 1,
        "tokens": 10,
        "cost": 9,
        "padding": 0.25,
        "seconds": 0.5,
        "wait_seconds": 0.25,
        "retries": 1,
        "idle_seconds": 0.5,
        "device": "A",
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "thread": "embed_0",
    }
    assert table.to_pylist()[0] == first
    assert table["number"].to_pylist() == [0, 1, 2]
    assert table["retries"].to_pylist() == [1, 1, 0]


def test_tensorboard_reads_every_shard_of_a_process_as_one_run(folder, monkeypatch):
    for shard_id, numbers in ((SHARD, (1, 2)), (OTHER, (3,))):
        of = writer(folder, monkeypatch, shard_id)
        of.add_mini_batches([done(number) for number in numbers])
        of.commit(EndOfShard(shard_id, 0))
    [(run, scalars)] = tensorboard(folder).items()
    assert f"-{os.getpid()}-" in run
    names = ("chunks", "tokens", "padding", "seconds", "tokens_per_second", "wait_seconds", "retries")
    assert set(scalars) == {f"mini_batch/{name}" for name in names}
    assert [(step, value) for step, value, _ in scalars["mini_batch/tokens"]] == [(0, 10), (1, 20), (2, 30)]
    assert [value for _, value, _ in scalars["mini_batch/tokens_per_second"]] == [20, 40, 60]
    assert scalars["mini_batch/chunks"][0][2] == pytest.approx(1e9)


def test_a_shard_that_is_given_up_leaves_nothing(folder, monkeypatch):
    of = writer(folder, monkeypatch)
    of.add_mini_batches([done(1)])
    of.discard()
    assert folder.names(layout.TEMPORARY) == {}
    assert folder.names(layout.TRACE) == {}


def test_a_rerun_writes_over_what_was_killed_before_its_receipt(folder, monkeypatch):
    killed = writer(folder, monkeypatch)
    killed.add_mini_batches([done(1), done(2)])
    killed._trace.commit()  # and no receipt
    again = writer(folder, monkeypatch)
    again.add_mini_batches([done(1), done(2)])
    again.commit(EndOfShard(SHARD, 0, attempt=2))
    assert pq.read_table(folder.join(layout.trace(SHARD))).num_rows == 2
    assert [len(scalars["mini_batch/tokens"]) for scalars in tensorboard(folder).values()] == [2]


def test_without_trace_what_a_killed_attempt_left_is_deleted(folder, monkeypatch):
    killed = writer(folder, monkeypatch)
    killed.add_mini_batches([done(1)])
    killed._trace.commit()
    again = writer(folder, monkeypatch, traced=False)
    again.add_mini_batches([done(1)])
    assert again.commit(EndOfShard(SHARD, 0, attempt=2)).mini_batches == 1
    assert folder.names(layout.TRACE) == {}


def test_a_second_attempt_of_a_committed_shard_adds_no_line(folder, monkeypatch):
    for _ in range(2):
        of = writer(folder, monkeypatch)
        of.add_mini_batches([done(1)])
        of.commit(EndOfShard(SHARD, 0))
    assert [len(scalars["mini_batch/tokens"]) for scalars in tensorboard(folder).values()] == [1]


def test_memory_is_bounded_by_a_row_group(folder, monkeypatch):
    monkeypatch.setattr(trace, "_ROWS", 4)
    of = writer(folder, monkeypatch)
    for number in range(1, 11):
        of.add_mini_batches([done(number)])
        assert len(of._trace._waiting) < 4
    of.commit(EndOfShard(SHARD, 0))
    found = pq.ParquetFile(folder.join(layout.trace(SHARD)))
    assert (found.metadata.num_rows, found.num_row_groups) == (10, 3)


def test_no_job_fails_for_want_of_events(folder, monkeypatch):
    of = writer(folder, monkeypatch)
    of.add_mini_batches([done(1)])

    def full():
        raise OSError("no space")

    monkeypatch.setattr(of._trace._events._file, "commit", full)
    of.commit(EndOfShard(SHARD, 0))
    assert pq.read_table(folder.join(layout.trace(SHARD))).num_rows == 1


def test_the_share_in_which_the_model_waited_is_told_by_process():
    def receipt(host, pid, span, idle):
        sums = {"model_span": span, "model_idle": idle}
        return ShardReceipt("j", SHARD, 0, 0, {}, 0, 0, None, 0, None, None, 0.0, 0.0, host, pid, **sums)

    receipts = [receipt("a", 1, 10, 1), receipt("a", 1, 20, 0), receipt("a", 2, 5, 2), receipt("b", 1, 5, 0)]
    assert ledger.waiting(receipts) == {"share": 0.075, "processes": 3, "most": 0.4}
    assert ledger.waiting([receipt("a", 1, 0.0, 0.0)]) is None
    assert ledger.waiting([]) is None
