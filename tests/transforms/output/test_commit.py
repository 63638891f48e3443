import gc
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import rows
from fakes import run

from transforms import observer
from transforms.blocks import DeadLetters, RowBlock
from transforms.elements import DeadLetter, EndOfShard, ShardFailed, ShardReceipt
from transforms.errors import LedgerError
from transforms.output import attempts, layout, ledger, plan_file
from transforms.output.beside import letter_line
from transforms.output.folder import Folder
from transforms.output.schema import RowSchema
from transforms.output.shard import ShardWriter
from transforms.steps import write as steps
from transforms.steps.write import WriteConfig, _WriteFn

SHARD, OTHER = "a1" * 8, "b2" * 8
PART, LETTERS = f"part-{SHARD}.parquet", f"_dead_letters/part-{SHARD}.jsonl"
RECEIPT, FAILURE = f"_embedbeam/receipts/{SHARD}.json", f"_embedbeam/failures/{SHARD}.json"
PLAN = "_embedbeam/plan.jsonl"
SCHEMA = RowSchema(dim=2)


def plan(output: Path | str, model: str = "a") -> str:
    """Gives the folder to a job; returns its identity."""
    Folder(str(output)).write(PLAN, plan_file.to_bytes({"model": model}, []))
    return plan_file.job_of(Folder(str(output))) or ""


def row(*numbers: int, shard: str = SHARD, documents: int | None = None, **fields: Any) -> RowBlock:
    some = [rows.Row(f"doc{i}", [i, 0.5], position=i * 10, **fields) for i in numbers]
    return rows.block(some, SCHEMA, shard_id=shard, documents=documents)


def letter(index: int, kind: str = "blank text", detail: str = "", shard: str = SHARD) -> DeadLetters:
    one = DeadLetter(f"doc{index}", "in.jsonl", index * 10, "read", kind, detail, "\ud800 é", index)
    return DeadLetters(shard, (one,))


def config(output: Path | str, **fields: Any) -> WriteConfig:
    job = plan_file.job_of(Folder(str(output))) or plan(output)
    values = {"job": job, "format": "parquet", "schema": SCHEMA, "metadata": {"k": "v"}} | fields
    return WriteConfig(str(output), **values)


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder, without temporary ones and the plan."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and layout.TEMPORARY not in path.as_posix() and path.name != "plan.jsonl"
    }


def temporary(folder: Path) -> list[str]:
    return [path.name for path in (folder / layout.TEMPORARY).glob("*")]


ELEMENTS = [row(0), letter(1), row(2), letter(3, "embed", "why"), EndOfShard(SHARD, 4)]


def write(folder: Path | str, elements: list[Any], **fields: Any) -> list[Any]:
    fn = _WriteFn(config(folder, **fields))
    fn.setup()
    try:
        fn.start_bundle()
        out = [result for element in elements for result in fn.process(element)]
        return out + [value.value for value in fn.finish_bundle()]
    finally:
        fn.teardown()


def test_a_whole_shard(tmp_path: Path) -> None:
    (receipt,) = write(tmp_path, ELEMENTS)
    files = tree(tmp_path)
    assert list(files) == [LETTERS, RECEIPT, PART]
    table = pq.read_table(tmp_path / PART)
    assert table.schema.metadata == {b"k": b"v", b"embedbeam.job": receipt.job.encode()}
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
        job=plan_file.job_of(Folder(str(tmp_path))),
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
    dead, empty = write(tmp_path, [letter(0), EndOfShard(SHARD, 1), EndOfShard(OTHER, 0)])
    assert list(tree(tmp_path)) == [LETTERS, RECEIPT, f"_embedbeam/receipts/{OTHER}.json"]
    assert (dead.part, dead.part_bytes, dead.part_sha256, dead.rows, dead.documents) == (None, 0, None, 0, 1)
    assert (empty.part, empty.dead_letters, empty.dead_letters_sha256, empty.documents) == (None, {}, None, 0)


def test_rows_of_many_blocks_and_of_chunks(tmp_path: Path) -> None:
    blocks = [row(*range(i, i + 100), documents=50) for i in range(0, 2100, 100)]
    (receipt,) = write(tmp_path, [*blocks, EndOfShard(SHARD, 1050)])
    assert (receipt.rows, receipt.documents) == (2100, 1050)
    assert pq.read_table(tmp_path / PART).column("doc_id").to_pylist() == [f"doc{i}" for i in range(2100)]


def test_tokens_that_nobody_counted(tmp_path: Path) -> None:
    blocks = [row(0), row(1, tokens=None, dropped=None), row(2)]
    (receipt,) = write(tmp_path, [*blocks, EndOfShard(SHARD, 3)])
    assert (receipt.tokens, receipt.tokens_dropped) == (None, None)


def test_dead_letters_come_in_any_order_and_lie_in_the_input_s(tmp_path: Path) -> None:
    order = [5, 0, 3, 1, 4, 2]
    write(tmp_path / "a", [*map(letter, order), EndOfShard(SHARD, 6)])
    (receipt,) = write(tmp_path / "b", [*map(letter, sorted(order)), EndOfShard(SHARD, 6)])
    assert tree(tmp_path / "a")[LETTERS] == tree(tmp_path / "b")[LETTERS]
    assert [json.loads(line)["doc_id"] for line in tree(tmp_path / "a")[LETTERS].splitlines()] == [
        f"doc{i}" for i in range(6)
    ]
    assert receipt.dead_letters_sha256 == hashlib.sha256(tree(tmp_path / "a")[LETTERS]).hexdigest()
    assert temporary(tmp_path / "a") == []


def test_dead_letters_are_on_the_disk_and_not_in_memory(tmp_path: Path) -> None:
    """Letters of 1 MB: forty of them pass, and none is held."""
    writer = ShardWriter(SHARD, Folder(str(tmp_path)), config(tmp_path))
    for i in reversed(range(40)):
        one = DeadLetter(f"doc{i}", "in.jsonl", i, "read", "blank text", "", "x" * 1_000_000, i)
        writer.add_letters(DeadLetters(SHARD, (one,)))
        del one
    gc.collect()
    held = [o for o in gc.get_objects() if isinstance(o, DeadLetter) and len(o.payload or "") > 1000]
    assert held == []
    receipt = writer.commit(EndOfShard(SHARD, 40))
    assert receipt.dead_letters == {"blank text": 40}
    lines = (tmp_path / LETTERS).read_text().splitlines()
    assert [json.loads(line)["doc_id"] for line in lines] == [f"doc{i}" for i in range(40)]


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

    patched = {"create": Folder, "sync": os, "sink": steps.ShardWriter}.get(step, os)
    name = {"create": "create", "sync": "fsync", "sink": "add_rows"}.get(step, "replace")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        config(out)  # its plan is there
        patch.setattr(patched, name, rename if step.startswith("rename") else fail)
        if step == "rename receipt":  # which is a new file or none
            patch.setattr(os, "link", fail)
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
    folder.create(PART).write(b"half")
    folder.create(LETTERS).write(b"half")
    assert tree(tmp_path) == {}
    assert len(temporary(tmp_path)) == 2
    assert folder.sweep() == 2
    assert temporary(tmp_path) == []


def test_files_of_an_earlier_attempt_do_not_stay(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    job = plan(tmp_path)
    for name in (PART, LETTERS):
        folder.write(name, b"stale")
    ledger.write_failure(folder, ShardFailed(SHARD, "in.gz", None, "changed"), job)
    assert [failure.shard_id for failure in ledger.read_failures(folder, job)] == [SHARD]
    write(tmp_path, [letter(0), EndOfShard(SHARD, 1, attempt=2)])
    assert tree(tmp_path)[LETTERS] == letter_line(letter(0).letters[0])
    assert list(tree(tmp_path)) == [LETTERS, FAILURE, RECEIPT]
    assert ledger.read_failures(folder, job) == []  # it is committed after all


def test_dead_letters_of_an_earlier_attempt_do_not_stay_beside_rows_alone(tmp_path: Path) -> None:
    Folder(str(tmp_path)).write(LETTERS, b"stale")
    write(tmp_path, [row(0), EndOfShard(SHARD, 1, attempt=2)])
    assert list(tree(tmp_path)) == [RECEIPT, PART]


def test_the_first_attempt_asks_a_store_to_delete_nothing_but_its_note(tmp_path: Path) -> None:
    deleted: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "delete", lambda self, name: deleted.append(name))
        for block in (row(0), letter(0)):
            plan(tmp_path)
            write(tmp_path, [block, EndOfShard(SHARD, 1)])
            (tmp_path / RECEIPT).unlink()
    assert deleted == []  # these attempts have no notes


def test_a_commit_of_another_attempt_stands(tmp_path: Path) -> None:
    """A worker that was thought dead comes late: it changes nothing, and leaves nothing behind."""
    first = write(tmp_path, [row(0), EndOfShard(SHARD, 1)])
    before = tree(tmp_path)
    assert write(tmp_path, [row(0), letter(1), EndOfShard(SHARD, 2, attempt=2)]) == first
    assert tree(tmp_path) == before
    assert temporary(tmp_path) == []


def test_a_failed_shard_is_discarded_and_says_why(tmp_path: Path) -> None:
    failed = ShardFailed(SHARD, "in/\udcff.gz", 17, "truncated")
    job = plan(tmp_path)
    out = write(tmp_path, [row(0), letter(1), failed, row(0, shard=OTHER), EndOfShard(OTHER, 1)])
    assert out[0] == failed
    files = tree(tmp_path)
    assert list(files) == [FAILURE, f"_embedbeam/receipts/{OTHER}.json", f"part-{OTHER}.parquet"]
    assert json.loads(files[FAILURE])["job"] == job
    assert ledger.read_failures(Folder(str(tmp_path)), job) == [failed]
    assert ledger.read_failures(Folder(str(tmp_path)), "another") == []
    assert temporary(tmp_path) == []


@pytest.mark.parametrize("documents", [1, 3])
def test_books_that_do_not_balance(tmp_path: Path, documents: int) -> None:
    message = f"^shard {SHARD}: {documents} documents read, 2 written; nothing of it was committed$"
    with pytest.raises(LedgerError, match=message):
        write(tmp_path, [row(0), letter(1), EndOfShard(SHARD, documents)])
    assert tree(tmp_path) == {}
    assert temporary(tmp_path) == []


def test_a_bundle_that_ends_too_early(tmp_path: Path) -> None:
    message = f"^shard {SHARD}: the bundle ended before its end-of-shard marker came$"
    with pytest.raises(LedgerError, match=message):
        write(tmp_path, [letter(0)])
    assert tree(tmp_path) == {}
    assert temporary(tmp_path) == []


def test_a_shard_within_another(tmp_path: Path) -> None:
    with pytest.raises(
        LedgerError, match=rf"^shard {OTHER} began before the end-of-shard marker of {SHARD}$"
    ):
        write(tmp_path, [letter(0), row(0, shard=OTHER)])
    assert temporary(tmp_path) == []


def test_a_failed_bundle_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    fn = _WriteFn(config(tmp_path))
    fn.setup()
    fn.start_bundle()
    list(fn.process(letter(0)))
    fn.start_bundle()
    assert temporary(tmp_path) == []
    out = [r for e in (row(0), EndOfShard(SHARD, 1)) for r in fn.process(e)]
    assert [r.documents for r in [*out, *(value.value for value in fn.finish_bundle())]] == [1]
    fn.teardown()


def test_a_row_that_cannot_be_written_fails_the_bundle_and_leaves_nothing(tmp_path: Path) -> None:
    fields = {"schema": RowSchema(2, "float16")}
    with pytest.raises(ValueError, match="document 'doc70000'"):
        write(tmp_path, [row(1), row(70000), row(2), EndOfShard(SHARD, 3)], **fields)
    assert tree(tmp_path) == {}
    assert temporary(tmp_path) == []


def test_shards_before_a_failure_are_committed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="document 'doc70000'"):
        write(
            tmp_path,
            [row(1), EndOfShard(SHARD, 1), row(70000, shard=OTHER), EndOfShard(OTHER, 1)],
            schema=RowSchema(2, "float16"),
        )
    assert list(tree(tmp_path)) == [RECEIPT, PART]


def test_rows_are_encoded_and_committed_while_the_chain_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_commit, commit = threading.Event(), ShardWriter.commit

    def slow(self: ShardWriter, marker: EndOfShard) -> ShardReceipt:
        assert may_commit.wait(30)
        return commit(self, marker)

    monkeypatch.setattr(steps.ShardWriter, "commit", slow)
    fn = _WriteFn(config(tmp_path))
    fn.setup()
    fn.start_bundle()
    elements = [row(0), EndOfShard(SHARD, 1), row(1, shard=OTHER)]
    assert [r for element in elements for r in fn.process(element)] == []
    assert tree(tmp_path) == {}
    may_commit.set()
    assert list(fn.process(EndOfShard(OTHER, 1))) in ([], [ledger.read_receipt(Folder(str(tmp_path)), SHARD)])
    fn.finish_bundle()
    fn.teardown()
    assert {RECEIPT, f"_embedbeam/receipts/{OTHER}.json"} <= tree(tmp_path).keys()


def test_events(tmp_path: Path) -> None:
    heard: list[Any] = []
    end = observer.observe(heard.append)
    try:
        write(tmp_path, [*ELEMENTS, ShardFailed(OTHER, "in.gz", None, "changed")])
    finally:
        end()
    written = [event for event in heard if isinstance(event, observer.Written)]
    assert (sum(w.documents for w in written), sum(w.dead_letters for w in written)) == (4, 2)
    assert [event.failed for event in heard if isinstance(event, observer.ShardDone)] == [False, True]


def test_write_fn_life(tmp_path: Path) -> None:
    ids = [OTHER, "c3" * 8]
    assert [r.shard_id for r in write(tmp_path, [EndOfShard(i, 0) for i in ids])] == ids
    with pytest.raises(LedgerError):
        run(_WriteFn(config(tmp_path)), [row(0)])


def test_a_late_worker_of_an_earlier_job_commits_nothing(tmp_path: Path) -> None:
    """Job 1 embeds with model a; its folder is given to job 2, of model b; then a worker of job 1 commits."""
    folder = Folder(str(tmp_path))
    first = config(tmp_path)
    assert attempts.begin(folder, SHARD, first.job) == 1
    late = ShardWriter(SHARD, folder, first)
    late.add_rows(row(0))
    second = plan(tmp_path, model="b")
    assert second != first.job
    with pytest.raises(LedgerError, match="the folder belongs to another job now"):
        late.commit(EndOfShard(SHARD, 1))
    late.discard()
    assert not {PART, RECEIPT} & tree(tmp_path).keys()
    assert attempts.begin(folder, SHARD, second) == 1  # and its note does not count either
    (receipt,) = write(tmp_path, [row(1), EndOfShard(SHARD, 1)])
    assert (receipt.job, pq.read_table(tmp_path / PART)["doc_id"].to_pylist()) == (second, ["doc1"])


def test_a_late_worker_whose_folder_has_no_plan_yet_commits_nothing(tmp_path: Path) -> None:
    late = ShardWriter(SHARD, Folder(str(tmp_path)), config(tmp_path))
    late.add_rows(row(0))
    (tmp_path / PLAN).unlink()
    with pytest.raises(LedgerError, match="one without a plan"):
        late.commit(EndOfShard(SHARD, 1))


def test_a_receipt_of_another_job_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, [row(0), EndOfShard(SHARD, 1)])
    folder, second = Folder(str(tmp_path)), plan(tmp_path, model="b")
    assert ledger.committed(folder, SHARD, second) is None
    assert ledger.read_receipts(folder, second) == []
    assert attempts.begin(folder, SHARD, second) == 1
    (receipt,) = write(tmp_path, [row(1), EndOfShard(SHARD, 1)])
    assert ledger.read_receipts(folder, second) == [receipt]
    assert ledger.is_paired(folder, receipt)


def test_receipts_of_other_jobs_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, [row(0), letter(1), EndOfShard(SHARD, 2)])
    folder, second = Folder(str(tmp_path)), plan(tmp_path, model="b")
    write(tmp_path, [row(0, shard=OTHER), letter(1, shard=OTHER), EndOfShard(OTHER, 2)])
    own = {name: data for name, data in tree(tmp_path).items() if OTHER in name}
    assert ledger.drop_others(folder, ledger.read_receipts(folder, second)) == 1
    assert tree(tmp_path) == own
    assert len(own) == 3


# Steps of two attempts at once, a and b: each gives its part its name (p), then writes its receipt (r).
@pytest.mark.parametrize("order", ["pa ra pb rb", "pa pb ra rb", "pa pb rb ra", "pb pa ra rb", "pb pa rb ra"])
def test_two_attempts_with_other_bytes_leave_a_part_with_its_own_receipt(tmp_path: Path, order: str) -> None:
    folder = Folder(str(tmp_path))
    first = config(tmp_path)
    parts: dict[str, Any] = {}
    receipts = {}
    for name in "ab":
        (done,) = write(tmp_path / name, [row(ord(name)), EndOfShard(SHARD, 1)])
        parts[name] = (tmp_path / name / PART).read_bytes()
        receipts[name] = done
    assert parts["a"] != parts["b"]
    for step in order.split():
        if step[0] == "p":
            folder.write(PART, parts[step[1]])
        else:
            ledger.write_receipt(folder, receipts[step[1]])
    (stands,) = ledger.read_receipts(folder, first.job)
    assert hashlib.sha256((tmp_path / PART).read_bytes()).hexdigest() == stands.part_sha256
    assert ledger.is_paired(folder, stands)


def test_an_attempt_that_dies_after_its_part_is_found_out(tmp_path: Path) -> None:
    """Same size, other bytes: only the checksum tells, and the note that the dead attempt left says where."""
    folder, first = Folder(str(tmp_path)), config(tmp_path)
    assert attempts.begin(folder, SHARD, first.job) == 1
    slow = ShardWriter(SHARD, folder, first)
    slow.add_rows(row(0))
    (receipt,) = write(tmp_path, [row(1), EndOfShard(SHARD, 1)])
    assert ledger.unpaired(folder, [receipt]) is None
    attempts.begin(folder, OTHER, first.job)
    folder.write(
        layout.attempt(SHARD), folder.read(layout.attempt(OTHER)) or b""
    )  # a note of a later attempt
    data = bytearray((tmp_path / PART).read_bytes())
    data[100] ^= 1
    (tmp_path / PART).write_bytes(data)
    assert ledger.unpaired(folder, [receipt]) == receipt
    slow.discard()


def test_the_note_of_a_later_attempt_stays(tmp_path: Path) -> None:
    folder, job = Folder(str(tmp_path)), config(tmp_path).job
    assert [attempts.begin(folder, SHARD, job) for _ in range(2)] == [1, 2]
    write(tmp_path, [row(0), EndOfShard(SHARD, 1, attempt=1)])
    assert folder.shards(layout.ATTEMPTS) == {SHARD}
    attempts.end(folder, SHARD, job, 2)
    assert folder.shards(layout.ATTEMPTS) == set()
