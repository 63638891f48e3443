"""Known documents among those that are embedded: the order of the input, whatever comes when."""

import dataclasses

import numpy as np
import outputs
import pyarrow as pa
import pytest
from fakes import bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.blocks import PAYLOAD, DeadLetters, DocumentBlock, RowBlock
from transforms.elements import DeadLetter, EndOfShard, ShardFailed
from transforms.errors import LedgerError
from transforms.output.reader import open_output
from transforms.steps import known as known_rows
from transforms.steps.reuse import Earlier, ReuseConfig, _FindFn, _TakeFn, in_indexes


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """An output of 60 rows, with their vectors by fingerprint."""
    made = outputs.make(tmp_path_factory.mktemp("earlier") / "out")
    output = open_output(str(made.path))
    found = [(row.fingerprint, row.vector) for rows in made.rows.values() for row in rows]
    return output, dict(reversed(found))  # the first of those with the same fingerprint


def documents(fingerprints, first):
    count = len(fingerprints)
    columns = {
        "doc_id": pa.array([f"n{first + i}" for i in range(count)]),
        "source": pa.array(["in"] * count),
        "position": pa.array(range(first, first + count), pa.int64()),
        "index": pa.array(range(first, first + count), pa.int64()),
        "payload": pa.array([f"text {first + i}" for i in range(count)]),
        "fingerprint": pa.array(fingerprints, pa.binary(16)),
        "kept": pa.array(range(count)),
    }
    return DocumentBlock("s", pa.RecordBatch.from_pydict(columns))


def embedded(blocks):
    columns = pa.concat_batches([block.columns for block in blocks])
    index = columns.column(3).to_numpy()
    counts = np.full(len(index), 7, np.int64)
    return RowBlock(
        "s", len(index), columns.remove_column(PAYLOAD), np.stack([index] * 3, 1).astype("f"), counts, counts
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(["known", "new", "dead"]), max_size=40), st.data())
def test_the_order_of_the_input(earlier, monkeypatch, kinds, data):
    output, vectors = earlier
    monkeypatch.setattr(known_rows, "_BYTES_AT_ONCE", data.draw(st.sampled_from([1, 2000, 1 << 20])))
    config = ReuseConfig((Earlier(output.folder.path, output.plan.job),))
    known = data.draw(st.lists(st.sampled_from(sorted(vectors)), min_size=40, max_size=40))
    prints = [known[i] if kind == "known" else b"new".ljust(16) for i, kind in enumerate(kinds)]
    blocks, at = [], 0
    while at < len(kinds):
        size = data.draw(st.integers(1, 9))
        blocks.append(documents(prints[at : at + size], at))
        at += size
    find, take = _FindFn(config, in_indexes), _TakeFn(config)
    find.setup(), take.setup()
    # Windows of some blocks: their rows come when the window is whole, and its dead letters behind them.
    elements, window, most = [], [], data.draw(st.integers(1, 4))

    def release():
        if window:
            whole = pa.concat_batches([block.columns for block in window])
            alive = [kinds[i] == "new" for i in whole.column(3).to_pylist()]
            if any(alive):
                elements.append(embedded([DocumentBlock("s", whole.filter(pa.array(alive)))]))
            dead = [i for i, lives in zip(whole.column(3).to_pylist(), alive, strict=True) if not lives]
            if dead:
                letters = (DeadLetter(f"n{i}", "in", i, "embed", "why", "", None, i) for i in dead)
                elements.append(DeadLetters("s", tuple(letters)))
            window.clear()

    for element in bundle(find, blocks):
        if isinstance(element, DocumentBlock):
            window.append(element)
            if len(window) == most:
                release()
        else:
            elements.append(element)
    release()
    out = bundle(take, [*elements, EndOfShard("s", len(kinds))])
    assert isinstance(out[-1], EndOfShard)
    rows = [block for block in out if isinstance(block, RowBlock)]
    index = [i for block in rows for i in block.columns.column(3).to_pylist()]
    assert index == [i for i, kind in enumerate(kinds) if kind != "dead"]
    assert sum(block.reused for block in rows) == kinds.count("known")
    assert sum(block.documents for block in rows) == len(index)
    ids = [one for block in rows for one in block.columns.column(0).to_pylist()]
    assert ids == [f"n{i}" for i in index]
    for i, vector, tokens in zip(
        index,
        [vector for block in rows for vector in block.vectors.tolist()],
        [count for block in rows for count in block.tokens.tolist()],
        strict=True,
    ):
        expected = vectors[known[i]] if kinds[i] == "known" else [i] * 3
        assert vector == np.array(expected, np.float32).tolist()
        assert tokens == (5 if kinds[i] == "known" else 7)


def test_a_shard_that_failed_leaves_nothing_to_the_next(earlier):
    output, vectors = earlier
    config = ReuseConfig((Earlier(output.folder.path, output.plan.job),))
    find, take = _FindFn(config, in_indexes), _TakeFn(config)
    find.setup(), take.setup()
    block = documents(sorted(vectors)[:3], 0)
    out = bundle(
        take, [*bundle(find, [block]), ShardFailed("s", "f", 0, "bad", "bad file"), EndOfShard("t", 0)]
    )
    assert [type(element) for element in out] == [ShardFailed, EndOfShard]


def test_damaged_parts_serve_nobody(tmp_path):
    made = outputs.make(tmp_path / "out")
    part = sorted(made.path.glob("part-*"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    output = open_output(str(made.path))
    damaged = next(receipt.shard_id for receipt in output.receipts if receipt.part == part.name)
    find = _FindFn(ReuseConfig((Earlier(str(made.path), made.job),)), in_indexes)
    find.setup()
    for shard_id, rows in made.rows.items():
        known, *rest = bundle(find, [documents([row.fingerprint for row in rows], 0)])
        assert len(known.rows) == (0 if shard_id == damaged else len(rows))
        assert len(rest) == (shard_id == damaged)


def test_an_earlier_output_that_changes_meanwhile_is_told(tmp_path):
    """Where a document was found another one lies by now: no vector of that is taken."""
    made = outputs.make(tmp_path / "out")
    prints = [rows[0].fingerprint for rows in made.rows.values()]
    config = ReuseConfig((Earlier(str(made.path), made.job),))
    find, take = _FindFn(config, in_indexes), _TakeFn(config)
    find.setup(), take.setup()
    [known] = bundle(find, [documents(prints, 0)])
    moved = dataclasses.replace(known, shards=np.roll(known.shards, 1))
    with pytest.raises(LedgerError, match="has changed since it was opened; run the same command again"):
        bundle(take, [moved, EndOfShard("s", 3)])


def test_what_lies_between_two_new_documents_comes_piece_by_piece(earlier, monkeypatch):
    """Few new documents in a shard never fill a window: its known ones must not all be held at once."""
    output, vectors = earlier
    monkeypatch.setattr(known_rows, "_BYTES_AT_ONCE", 100)
    config = ReuseConfig((Earlier(output.folder.path, output.plan.job),))
    find, take = _FindFn(config, in_indexes), _TakeFn(config)
    find.setup(), take.setup()
    prints = [b"new".ljust(16), *sorted(vectors) * 20, b"new".ljust(16)]
    blocks = [documents(prints[at : at + 5], at) for at in range(0, len(prints), 5)]
    found = bundle(find, blocks)
    new = [element for element in found if isinstance(element, DocumentBlock)]
    known = [element for element in found if not isinstance(element, DocumentBlock)]
    out = bundle(take, [*known, embedded(new), EndOfShard("s", len(prints))])
    rows = [block for block in out if isinstance(block, RowBlock)]
    assert [i for block in rows for i in block.columns.column(3).to_pylist()] == list(range(len(prints)))
    assert max(len(block.vectors) for block in rows) < 20
    assert sum(block.documents for block in rows) == len(prints)
    assert sum(block.reused for block in rows) == len(prints) - 2
