import json
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from transforms.elements import DeadLetter, Document, EndOfShard, Shard, ShardFailed, Slice
from transforms.formats import ReadOptions
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.steps.read import OpenShards, ReadConfig, read_shard

SHARD = "a1"


def shard_of(tmp_path: Path, *files: tuple[str, str | bytes], shard_id: str = SHARD) -> Shard:
    slices = []
    for name, data in files:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        format = "txt" if ".txt" in name else "jsonl"
        state = path.stat()
        slices.append(Slice(str(path), name, format, size=state.st_size, mtime=state.st_mtime))
    return Shard(shard_id, tuple(slices))


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_documents_are_numbered_through_the_files_of_a_shard(tmp_path: Path) -> None:
    first, second = lines({"text": "a"}, {"text": ""}), lines({"text": "b"})
    shard = shard_of(tmp_path, ("1.jsonl", first), ("2.jsonl", second))
    assert list(read_shard(shard, ReadConfig(ReadOptions()))) == [
        Document("1.jsonl:0", "a", "1.jsonl", 0, 0, SHARD),
        DeadLetter("1.jsonl:14", "1.jsonl", 14, "read", "blank text", '{"text": ""}', 1, SHARD),
        Document("2.jsonl:0", "b", "2.jsonl", 0, 2, SHARD),
        EndOfShard(SHARD, 3),
    ]


def test_a_kept_field_of_another_type_is_a_dead_letter(tmp_path: Path) -> None:
    records = lines({"text": "a", "year": 1999}, {"text": "b", "year": "1999"}, {"text": "c"})
    options = ReadOptions(keep_fields=("year",))
    got = list(
        read_shard(shard_of(tmp_path, ("k.jsonl", records)), ReadConfig(options, (("year", "int64"),)))
    )
    position = records.index('{"text": "b"')
    assert got[1] == DeadLetter(
        *(f"k.jsonl:{position}", "k.jsonl", position, "read"),
        "keep field 'year' expected int64, got string: '1999'",
        *("b", 1, SHARD),
    )
    assert [(d.text, d.kept) for d in (got[0], got[2])] == [("a", {"year": 1999}), ("c", {"year": None})]


def test_an_id_that_comes_twice_in_a_shard_is_a_dead_letter(tmp_path: Path) -> None:
    records = lines({"id": "x", "text": "a"}, {"id": "y", "text": "b"}, {"id": "x", "text": "c"})
    got = list(read_shard(shard_of(tmp_path, ("i.jsonl", records)), ReadConfig(ReadOptions(id_field="id"))))
    position = records.rindex('{"id"')
    reason = "duplicate id: 'x' is in this shard already"
    assert got == [
        Document("x", "a", "i.jsonl", 0, 0, SHARD),
        Document("y", "b", "i.jsonl", records.index('{"id": "y"'), 1, SHARD),
        DeadLetter("x", "i.jsonl", position, "read", reason, "c", 2, SHARD),
        EndOfShard(SHARD, 3),
    ]


def test_a_bad_file_fails_its_shard_or_is_one_dead_letter(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, ("1.jsonl", lines({"text": "a"})), ("2.jsonl.gz", b"\x1f\x8b half"))
    (failed,) = read_shard(shard, ReadConfig(ReadOptions()))
    assert isinstance(failed, ShardFailed)
    assert (failed.shard_id, failed.source) == (SHARD, "2.jsonl.gz")
    good, bad, marker = read_shard(shard, ReadConfig(ReadOptions(), skip_bad_files=True))
    assert good == Document("1.jsonl:0", "a", "1.jsonl", 0, 0, SHARD)
    position = failed.position or 0
    reason = f"bad file: {failed.reason}"
    assert bad == DeadLetter("2.jsonl.gz", "2.jsonl.gz", position, "read", reason, None, 1, SHARD)
    assert marker == EndOfShard(SHARD, 2)


_SEEN: list[Shard] = []


def _see(shard: Shard) -> None:
    _SEEN.append(shard)


def test_open_shards_are_those_without_a_receipt(tmp_path: Path) -> None:
    shards = [shard_of(tmp_path, (f"{i}.jsonl", ""), shard_id=f"s{i}") for i in range(5)]
    # Line separators of Unicode stand in JSON as they are; bytes that are no UTF-8 stand in file names.
    head = json.dumps({"input": ["a\u2028b\x85"]}, ensure_ascii=False).encode() + b" \xff"
    folder = Folder(str(tmp_path / "out"))
    folder.write(layout.PLAN, b"\n".join([head, *(s.to_line().encode() for s in shards), b""]))
    for done in ("s1", "s4"):
        folder.write(layout.receipt(done), b"{}")
    _SEEN.clear()
    with beam.Pipeline(runner=FnApiRunner()) as p:
        _ = p | OpenShards(folder.path) | beam.Map(_see)
    assert sorted(_SEEN, key=lambda shard: shard.shard_id) == [shards[0], shards[2], shards[3]]
