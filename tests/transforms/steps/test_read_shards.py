import dataclasses
import errno
import gzip
import itertools
import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Doc, flat

from transforms.blocks import DeadLetters, DocumentBlock
from transforms.elements import DeadLetter, EndOfShard, Shard, ShardFailed, Slice
from transforms.errors import EmbedbeamError, StoreError
from transforms.formats import registry
from transforms.formats.base import ReadOptions
from transforms.observer import Read, observe
from transforms.output import layout, plan_file
from transforms.output.column_types import check_kept
from transforms.output.folder import Folder
from transforms.steps.documents import kept_column
from transforms.steps.open import OpenShards, open_shards
from transforms.steps.shards import ReadConfig, read_shard

SHARD = "a1"


def shard_of(tmp_path: Path, *files: tuple[str, str | bytes], shard_id: str = SHARD) -> Shard:
    slices = []
    for name, data in files:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        state = path.stat()
        fields = {"size": state.st_size, "mtime": state.st_mtime, "bytes": state.st_size}
        slices.append(Slice(str(path), name, registry.format_of(name), **fields))
    return Shard(shard_id, tuple(slices))


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(shard: Shard, config: ReadConfig) -> list[Any]:
    return flat(list(read_shard(shard, config)))


def test_documents_are_numbered_through_the_files_of_a_shard(tmp_path: Path) -> None:
    first, second = lines({"text": "a"}, {"text": ""}), lines({"text": "b"})
    shard = shard_of(tmp_path, ("1.jsonl", first), ("2.jsonl", second))
    blocks = list(read_shard(shard, ReadConfig(ReadOptions())))
    assert flat(blocks) == [
        Doc("1.jsonl:0", "a", "1.jsonl", 0, 0),
        DeadLetter("1.jsonl:14", "1.jsonl", 14, "read", "blank text", "", '{"text": ""}', 1),
        Doc("2.jsonl:0", "b", "2.jsonl", 0, 2),
        EndOfShard(SHARD, 3),
    ]
    assert [type(block) for block in blocks] == [DeadLetters, DocumentBlock, EndOfShard]  # put together
    assert [one.shard_id for one in blocks] == [SHARD] * 3


def test_notes_are_put_together_to_blocks(tmp_path: Path) -> None:
    notes = [(f"{i:04}.txt", f"note {i}" if i != 700 else " ") for i in range(1200)]
    shard = shard_of(tmp_path, *notes)
    blocks = list(read_shard(shard, ReadConfig(ReadOptions())))
    assert [one.columns.num_rows for one in blocks if isinstance(one, DocumentBlock)] == [512, 512, 175]
    expected = [Doc(name, text, name, 0, i) for i, (name, text) in enumerate(notes)]
    expected[700] = DeadLetter("0700.txt", "0700.txt", 0, "read", "blank text", "", " ", 700)
    assert flat(blocks) == [*expected, EndOfShard(SHARD, 1200)]


def test_blocks_are_bounded_in_rows_and_bytes(tmp_path: Path) -> None:
    records = [{"text": f"{i} " + "x" * (i * 7919 % 30_000)} for i in range(2000)]
    records[100] = {"text": "large " * 400_000}
    shard = shard_of(tmp_path, ("1.jsonl", lines(*records)))
    blocks = [b for b in read_shard(shard, ReadConfig(ReadOptions())) if isinstance(b, DocumentBlock)]
    sizes = [b.columns.column("payload").nbytes for b in blocks]
    assert [b.columns.num_rows for b, size in zip(blocks, sizes, strict=True) if size > 1 << 20] == [1]
    assert max(b.columns.num_rows for b in blocks) <= 512
    assert [d.text for d in flat(blocks)] == [record["text"] for record in records]


def test_dead_letters_come_in_bounded_elements(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, ("1.jsonl", "".join(f'{{"text": "{"b" * 5000}", {i}\n' for i in range(2000))))
    *letters, marker = read_shard(shard, ReadConfig(ReadOptions()))
    assert marker == EndOfShard(SHARD, 2000)
    assert all(isinstance(one, DeadLetters) and len(one.letters) <= 512 for one in letters)
    assert max(sum(len(letter.payload) for letter in one.letters) for one in letters) <= 1 << 20
    assert [letter.index for one in letters for letter in one.letters] == list(range(2000))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("parts", [1, 7])
def test_what_is_told_adds_up_to_the_plan(tmp_path: Path, suffix: str, parts: int) -> None:
    data = lines(*({"text": f"document {i} " + "word " * (i % 50)} for i in range(3000))).encode()
    data = gzip.compress(data) if suffix else data
    (whole_slice,) = shard_of(tmp_path, ("1.jsonl" + suffix, data)).slices
    cuts = [len(data) * i // parts for i in range(parts + 1)] if not suffix else [0, None]
    told: list[Read] = []
    end = observe(lambda event: told.append(event) if isinstance(event, Read) else None)
    try:
        for first, last in itertools.pairwise(cuts):
            size = (last or len(data)) - first
            piece = dataclasses.replace(whole_slice, start=first, end=last, bytes=size)
            list(read_shard(Shard(SHARD, (piece,)), ReadConfig(ReadOptions())))
            assert sum(event.bytes for event in told) == size
            assert max(event.bytes for event in told) <= (1 << 20) or suffix
            told.clear()
    finally:
        end()


def test_a_kept_field_of_another_type_is_a_dead_letter(tmp_path: Path) -> None:
    records = lines({"text": "a", "year": 1999}, {"text": "b", "year": "1999"}, {"text": "c"})
    options = ReadOptions(keep_fields=("year",))
    shard = shard_of(tmp_path, ("k.jsonl", records))
    got = read(shard, ReadConfig(dataclasses.replace(options, kept=(("year", "int64"),))))
    position = records.index('{"text": "b"')
    assert got[1] == DeadLetter(
        *(f"k.jsonl:{position}", "k.jsonl", position, "read"),
        *("keep field 'year' expected int64, got string", "'1999'", "b", 1),
    )
    assert [(d.text, d.kept) for d in (got[0], got[2])] == [("a", {"year": 1999}), ("c", {"year": None})]


KEPT_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.lists(st.integers(0, 2**70), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["int8", "int64", "uint64", "double", "string", "bool", "json"]), st.lists(KEPT_VALUES)
)
def test_a_column_takes_what_each_value_alone_may_be(kind: str, values: list[Any]) -> None:
    """By column or value by value: the same values, the same refusals."""
    column, why = kept_column("n", kind, values)
    for row, value in enumerate(values):
        refusal = ""
        try:
            expected = check_kept("n", kind, value)
        except ValueError as e:
            refusal, expected = str(e), None
        reason = " ".join(why.get(row, ()))
        assert reason.replace(":", "") == refusal.replace(":", "")  # a colon stands elsewhere
        assert column[row].as_py() == expected


def test_integers_of_any_length_and_nested_ones_stay_exact(tmp_path: Path) -> None:
    big = 2**64 + 1
    records = [{"text": "a", "n": [big]}, {"text": "b", "n": {"x": -big}}, {"text": "c", "n": [0.5]}]
    options = ReadOptions(keep_fields=("n",))
    shard = shard_of(tmp_path, ("k.jsonl", lines(*records, {"text": "d", "n": big})))
    *good, bad, _ = read(shard, ReadConfig(dataclasses.replace(options, kept=(("n", "string"),))))
    assert [d.kept["n"] for d in good] == [f"[{big}]", f'{{"x":{-big}}}', "[0.5]"]
    assert bad.reason == f"keep field 'n' expected string, got integer: {big}"


def test_an_id_that_comes_twice_is_two_documents(tmp_path: Path) -> None:
    """Whatever the cut: ids of other shards are not known here."""
    records = lines({"id": "x", "text": "a"}, {"id": "y", "text": "b"}, {"id": "x", "text": "c"})
    shard = shard_of(tmp_path, ("i.jsonl", records))
    assert read(shard, ReadConfig(ReadOptions(id_field="id"))) == [
        Doc("x", "a", "i.jsonl", 0, 0),
        Doc("y", "b", "i.jsonl", records.index('{"id": "y"'), 1),
        Doc("x", "c", "i.jsonl", records.rindex('{"id"'), 2),
        EndOfShard(SHARD, 3),
    ]


def test_a_bad_file_fails_its_shard_or_is_one_dead_letter(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, ("1.jsonl", lines({"text": "a"})), ("2.jsonl.gz", b"\x1f\x8b half"))
    (failed,) = read(shard, ReadConfig(ReadOptions()))
    assert isinstance(failed, ShardFailed)
    assert (failed.shard_id, failed.source, failed.kind) == (SHARD, "2.jsonl.gz", "damaged")
    good, bad, marker = read(shard, ReadConfig(ReadOptions(), skip_bad_files=True))
    assert good == Doc("1.jsonl:0", "a", "1.jsonl", 0, 0)
    position = failed.position or 0
    assert bad == DeadLetter("2.jsonl.gz", "2.jsonl.gz", position, "read", "bad file", failed.reason, None, 1)
    assert marker == EndOfShard(SHARD, 2)


def test_a_file_that_ends_badly_gives_no_document_first(tmp_path: Path) -> None:
    """Whatever its format: else a model works for hours on a file whose end is missing."""
    texts = [f"text {i}" for i in range(20_000)]
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "0.parquet", compression="none", write_page_checksum=True
    )
    parquet = bytearray((tmp_path / "0.parquet").read_bytes())
    parquet[parquet.rindex(b"text 19990")] = 0
    records = lines(*({"text": text} for text in texts)).encode()
    for name, data in (
        ("1.parquet", bytes(parquet)),
        ("1.jsonl.gz", gzip.compress(records)[:-9]),
        ("1.lines.gz", gzip.compress(records)[:-9]),
        ("1.csv", "text\n" + "a\n" * 20_000 + '"b'),
    ):
        (failed,) = read(shard_of(tmp_path, (name, data)), ReadConfig(ReadOptions()))
        assert isinstance(failed, ShardFailed), name
        assert failed.source == name


@pytest.mark.parametrize("name", ["1.jsonl", "1.txt", "1.csv", "1.parquet", "1.tfrecord"])
@pytest.mark.parametrize("code", [errno.ESTALE, errno.EMFILE, errno.EIO, errno.ETIMEDOUT])
@pytest.mark.parametrize("skip", [False, True])
def test_an_error_that_passes_is_no_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, skip: bool
) -> None:
    shard = shard_of(tmp_path, (name, "text\na\n"))

    def refuse(path: str) -> Any:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr("transforms.storage.files.open_read", refuse)
    monkeypatch.setattr("transforms.storage.files.is_local", lambda path: False)
    (piece,) = shard.slices
    monkeypatch.setattr("transforms.formats.slices.file_state", lambda _: (piece.size, piece.mtime))
    with pytest.raises(StoreError, match=f"^{name}: cannot be read for the moment: {os.strerror(code)}; "):
        list(read_shard(shard, ReadConfig(ReadOptions(), skip_bad_files=skip)))


def test_a_state_that_cannot_be_asked_for_is_no_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of(tmp_path, ("1.jsonl", lines({"text": "a"})))

    def stale(path: str) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    monkeypatch.setattr("transforms.formats.slices.file_state", stale)
    with pytest.raises(StoreError, match=r"^1\.jsonl: cannot be read for the moment: Stale file handle; "):
        list(read_shard(shard, ReadConfig(ReadOptions(), skip_bad_files=True)))


_SEEN: list[Shard] = []


def _see(shard: Shard) -> None:
    _SEEN.append(shard)


def test_open_shards_are_those_without_a_receipt(tmp_path: Path) -> None:
    shards = [shard_of(tmp_path, (f"{i}.jsonl", ""), shard_id=f"{i:016}") for i in range(5)]
    folder = Folder(str(tmp_path / "out"))
    # Line separators of Unicode stand in JSON as they are.
    plan = plan_file.to_bytes({"input": ["a\u2028b\x85"]}, shards)
    job = plan_file.job_in(plan)
    folder.write(layout.PLAN, plan)
    for done in (f"{1:016}", f"{4:016}"):
        folder.write(layout.receipt(done), b"{}")
    _SEEN.clear()
    config = ReadConfig(ReadOptions(), output=folder.path, job=job)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        _ = p | OpenShards(config) | beam.Map(_see)
    assert sorted(_SEEN, key=lambda shard: shard.shard_id) == [shards[0], shards[2], shards[3]]
    folder.write(layout.PLAN, plan_file.to_bytes({"input": ["b"]}, shards))
    with pytest.raises(EmbedbeamError, match="is gone or another job's by now"):
        list(open_shards(folder.path, job))
