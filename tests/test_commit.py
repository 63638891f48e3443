import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import run

from transforms.elements import DeadLetter, Document, Embedding, EndOfShard, ShardFailed, ShardReceipt
from transforms.errors import LedgerError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.schema import RowSchema
from transforms.steps.write import ShardWriter, WriteConfig, _WriteFn, kind_of, letter_line

SHARD = "a1"
PART, LETTERS = "part-a1.parquet", "_dead_letters/part-a1.jsonl"
RECEIPT, FAILURE = "_embedbeam/receipts/a1.json", "_embedbeam/failures/a1.json"


def row(index: int, shard: str = SHARD, **fields: Any) -> Embedding:
    doc = Document(f"doc{index}", f"text {index}", "in.jsonl", index * 10, index, shard)
    values = {"tokens": 5, "tokens_dropped": 1} | fields
    return Embedding(doc, np.array([index, 0.5], np.float32), **values)


def letter(index: int, reason: str = "blank text", shard: str = SHARD) -> DeadLetter:
    return DeadLetter(f"doc{index}", "in.jsonl", index * 10, "read", reason, "\ud800 é", index, shard)


def config(output: Path | str, **fields: Any) -> WriteConfig:
    values = {"format": "parquet", "schema": RowSchema(dim=2), "metadata": {"k": "v"}} | fields
    return WriteConfig(str(output), **values)


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder, without temporary ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and layout.TEMPORARY not in path.as_posix()
    }


def temporary(folder: Path) -> list[str]:
    return [path.name for path in (folder / layout.TEMPORARY).glob("*")]


ELEMENTS = [row(0), letter(1), row(2), letter(3, "embed: why"), EndOfShard(SHARD, 4)]


def write(folder: Path, elements: list[Any], **fields: Any) -> list[Any]:
    fn = _WriteFn(config(folder, **fields))
    fn.setup()
    try:
        fn.start_bundle()
        out = [result for element in elements for result in fn.process(element)]
        assert fn.finish_bundle() is None
        return out
    finally:
        fn.teardown()


def test_a_whole_shard(tmp_path: Path) -> None:
    (receipt,) = write(tmp_path, ELEMENTS)
    files = tree(tmp_path)
    assert list(files) == [LETTERS, RECEIPT, PART]
    table = pq.read_table(tmp_path / PART)
    assert table.column("doc_id").to_pylist() == ["doc0", "doc2"]
    assert table.column("embedding").to_pylist() == [[0, 0.5], [2, 0.5]]
    assert [json.loads(line) for line in files[LETTERS].splitlines()] == [
        {
            **{"doc_id": f"doc{i}", "source": "in.jsonl", "position": i * 10},
            **{"stage": "read", "reason": reason, "payload": "\ud800 é"},
        }
        for i, reason in ((1, "blank text"), (3, "embed: why"))
    ]
    assert receipt == ShardReceipt(
        shard_id=SHARD,
        documents=4,
        rows=2,
        dead_letters={"blank text": 1, "embed": 1},
        tokens=10,
        tokens_dropped=2,
        part=PART,
        part_bytes=len(files[PART]),
        part_sha256=hashlib.sha256(files[PART]).hexdigest(),
        dead_letters_sha256=hashlib.sha256(files[LETTERS]).hexdigest(),
        started=receipt.started,
        finished=receipt.finished,
        host=receipt.host,
        pid=os.getpid(),
    )
    assert receipt.started <= receipt.finished
    assert ShardReceipt(**json.loads(files[RECEIPT])) == receipt
    assert temporary(tmp_path) == []


def test_a_shard_without_rows_or_without_documents(tmp_path: Path) -> None:
    dead, empty = write(tmp_path, [letter(0), EndOfShard(SHARD, 1), EndOfShard("b", 0)])
    assert list(tree(tmp_path)) == [LETTERS, RECEIPT, "_embedbeam/receipts/b.json"]
    assert (dead.part, dead.part_bytes, dead.part_sha256, dead.rows, dead.documents) == (None, 0, None, 0, 1)
    assert (empty.part, empty.dead_letters, empty.dead_letters_sha256, empty.documents) == (None, {}, None, 0)


def test_rows_of_many_blocks_and_of_chunks(tmp_path: Path) -> None:
    rows = [row(i, last=i % 2 == 1) for i in range(2100)]
    (receipt,) = write(tmp_path, [*rows, EndOfShard(SHARD, 1050)])
    assert (receipt.rows, receipt.documents) == (2100, 1050)
    assert pq.read_table(tmp_path / PART).column("doc_id").to_pylist() == [r.doc_id for r in rows]


def test_tokens_that_nobody_counted(tmp_path: Path) -> None:
    rows = [row(0), row(1, tokens=None, tokens_dropped=None), row(2)]
    (receipt,) = write(tmp_path, [*rows, EndOfShard(SHARD, 3)])
    assert (receipt.tokens, receipt.tokens_dropped) == (None, None)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "step", ["create", "rename letters", "rename part", "rename receipt", "sync", "sink"]
)
def test_whatever_step_fails_no_half_file_shows_and_a_second_attempt_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write(tmp_path / "good", ELEMENTS)
    expected = {name: data for name, data in tree(tmp_path / "good").items() if name != RECEIPT}
    replace = os.replace

    def fail(*args: Any, **kwargs: Any) -> None:
        raise Killed

    def rename(source: str, target: str) -> None:
        if target.endswith({"letters": LETTERS, "part": PART, "receipt": RECEIPT}[step.split()[1]]):
            raise Killed
        replace(source, target)

    patched = {"create": Folder, "sync": os, "sink": ShardWriter}.get(step, os)
    name = {"create": "create", "sync": "fsync", "sink": "_flush"}.get(step, "replace")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(patched, name, rename if step.startswith("rename") else fail)
        with pytest.raises(Killed):
            write(out, ELEMENTS)
    seen = tree(out)
    assert RECEIPT not in seen
    assert all(expected[file] == data for file, data in seen.items())  # whole or not there
    assert sorted(seen) == {"rename receipt": [LETTERS, PART], "rename part": [LETTERS]}.get(step, [])
    (receipt,) = write(out, ELEMENTS)
    again = tree(out)
    assert {name: data for name, data in again.items() if name != RECEIPT} == expected
    assert receipt.part_sha256 == hashlib.sha256(expected[PART]).hexdigest()


def test_temporary_files_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.create(PART).file.write(b"half")
    folder.create(LETTERS).file.write(b"half")
    assert tree(tmp_path) == {}
    assert len(temporary(tmp_path)) == 2
    assert folder.sweep() == 2
    assert temporary(tmp_path) == []


def test_files_of_an_earlier_attempt_do_not_stay(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for name in (PART, LETTERS, FAILURE):
        folder.write(name, b"stale")
    write(tmp_path, [letter(0), EndOfShard(SHARD, 1)])
    assert tree(tmp_path)[LETTERS] == letter_line(letter(0))
    assert list(tree(tmp_path)) == [LETTERS, RECEIPT]


def test_a_commit_of_another_attempt_stands(tmp_path: Path) -> None:
    """A worker that was thought dead comes late: it changes nothing, and leaves nothing behind."""
    first = write(tmp_path, [row(0), EndOfShard(SHARD, 1)])
    before = tree(tmp_path)
    assert write(tmp_path, [row(0), letter(1), EndOfShard(SHARD, 2, attempt=2)]) == first
    assert tree(tmp_path) == before
    assert temporary(tmp_path) == []


def test_a_failed_shard_is_discarded_and_says_why(tmp_path: Path) -> None:
    failed = ShardFailed(SHARD, "in/\udcff.gz", 17, "truncated")
    out = write(tmp_path, [row(0), letter(1), failed, row(0, "b"), EndOfShard("b", 1)])
    assert out[0] == failed
    files = tree(tmp_path)
    assert list(files) == [FAILURE, "_embedbeam/receipts/b.json", "part-b.parquet"]
    assert ShardFailed(**json.loads(files[FAILURE])) == failed
    assert temporary(tmp_path) == []


@pytest.mark.parametrize("documents", [1, 3])
def test_books_that_do_not_balance(tmp_path: Path, documents: int) -> None:
    message = f"^shard a1: {documents} documents read, 2 written; nothing of it was committed$"
    with pytest.raises(LedgerError, match=message):
        write(tmp_path, [row(0), letter(1), EndOfShard(SHARD, documents)])
    assert tree(tmp_path) == {}
    assert temporary(tmp_path) == []


def test_a_bundle_that_ends_too_early(tmp_path: Path) -> None:
    message = "^shard a1: the bundle ended before its end-of-shard marker came$"
    with pytest.raises(LedgerError, match=message):
        write(tmp_path, [letter(0)])
    assert tree(tmp_path) == {}
    assert temporary(tmp_path) == []


def test_a_shard_within_another(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"^shard b began before the end-of-shard marker of a1$"):
        write(tmp_path, [letter(0), row(0, "b")])
    assert temporary(tmp_path) == []


def test_a_failed_bundle_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    fn = _WriteFn(config(tmp_path))
    fn.setup()
    fn.start_bundle()
    list(fn.process(letter(0)))
    fn.start_bundle()
    assert temporary(tmp_path) == []
    assert [r.documents for e in (row(0), EndOfShard(SHARD, 1)) for r in fn.process(e)] == [1]


def test_kinds_of_reasons() -> None:
    assert [kind_of(r) for r in ("blank text", "not UTF-8: byte 0xff at 1")] == ["blank text", "not UTF-8"]


def test_write_fn_life(tmp_path: Path) -> None:
    assert [r.shard_id for r in write(tmp_path, [EndOfShard("b", 0), EndOfShard("c", 0)])] == ["b", "c"]
    with pytest.raises(LedgerError):
        run(_WriteFn(config(tmp_path)), [row(0)])
