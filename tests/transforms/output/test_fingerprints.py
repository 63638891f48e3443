"""The index of an output's fingerprints."""

import dataclasses

import numpy as np
import outputs
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.output import fingerprints
from transforms.output.fingerprints import SHARD, SPAN, find, halves, index_of, span, unspan
from transforms.output.reader import open_output


def binary(values):
    return pa.array(values, pa.binary(16))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=30), st.integers(0, 3))
def test_found_are_the_first_of_their_fingerprint(pairs, offset):
    """Many share their first half, which hardly ever happens by chance."""
    known = [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in pairs]
    high, low = halves(binary(known)[offset:])
    order = np.lexsort((np.arange(len(high)), low, high))
    spans = span(np.arange(len(high)), np.ones(len(high)))
    index = np.stack([high, low, np.zeros(len(high), np.uint64), spans])[:, order]
    asked = [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high in range(4) for low in range(5)]
    found = find(index, *halves(binary(asked)))
    left = known[offset:]
    expected = [left.index(one) if one in left else None for one in asked]
    assert [None if at < 0 else int(unspan(index[SPAN, [at]])[0][0]) for at in found] == expected


@pytest.mark.parametrize("form", ["parquet", "tfrecord"])
def test_of_an_output(tmp_path, form):
    made = outputs.make(tmp_path / "out", output_format=form)
    output = open_output(str(made.path))
    index = index_of(output)
    firsts, rows = {}, []
    for receipt in output.receipts:
        of_part = [
            row.as_py() for block in output.part(receipt.part, ["fingerprint"]) for row in block.column(0)
        ]
        rows += of_part
        for place, row in enumerate(of_part):
            firsts.setdefault(row, (int(receipt.shard_id, 16), place))
    found = find(index, *halves(binary([*rows, b"?" * 16])))
    assert found[-1] == -1
    first, many = unspan(index[SPAN, found[:-1]])
    assert list(zip(index[SHARD, found[:-1]].tolist(), first.tolist(), strict=True)) == [
        firsts[r] for r in rows
    ]
    assert set(many.tolist()) == {1}
    [file] = (tmp_path / "out" / "_embedbeam").glob("fingerprints-*")
    stamp = file.stat().st_mtime_ns
    assert (index_of(open_output(str(made.path))) == index).all()
    assert file.stat().st_mtime_ns == stamp


def test_chunks_of_a_document_are_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_BLOCK", 3)
    made = outputs.make(tmp_path / "out", long_documents="chunks", shards=2, per_shard=5)
    output = open_output(str(made.path))
    index = index_of(output)
    firsts, rows = unspan(index[SPAN])
    ids = sorted(int(receipt.shard_id, 16) for receipt in output.receipts)
    assert sorted(zip(index[SHARD].tolist(), firsts.tolist(), rows.tolist(), strict=True)) == [
        (ids[0], 0, 5),
        (ids[1], 0, 5),
    ]


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    made = outputs.make(tmp_path / "out")
    output = open_output(str(made.path))

    def refuse(name):
        raise PermissionError

    monkeypatch.setattr(type(output.folder), "create", lambda folder, name: refuse(name))
    assert index_of(output).shape == (4, 60)


def test_shards_without_rows_and_damaged_parts(tmp_path):
    """An index that lacks a part serves this process alone: when the part is mended, all of it is found."""
    made = outputs.make(tmp_path / "out")
    output = open_output(str(made.path))
    empty = dataclasses.replace(output.receipts[0], shard_id="f" * 16, part=None, rows=0, part_sha256=None)
    vars(output)["receipts"] = (*output.receipts, empty)
    part = made.path / output.receipts[1].part
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + b"?")
    assert index_of(output).shape == (4, 40)
    assert list((made.path / "_embedbeam").glob("fingerprints-*")) == []
    part.write_bytes(whole)
    assert index_of(output).shape == (4, 60)
    assert len(list((made.path / "_embedbeam").glob("fingerprints-*"))) == 1
