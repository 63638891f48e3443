"""open_output: everything that a job wrote, back; and verify's defects of folders that were tampered with."""

import datetime
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import outputs
import pytest
import rows

from transforms.elements import DeadLetter
from transforms.errors import UsageError
from transforms.output import layout, ledger, plan_file
from transforms.output.defects import find_defects
from transforms.output.folder import Folder
from transforms.output.reader import open_output

KEPT: dict[str, Any] = {
    "title": ("string", "ü"),
    "tags": ("json", "[1]"),
    "year": ("int64", -7),
    "small": ("uint8", 200),
    "fresh": ("bool", True),
    "score": ("double", 0.5),
    "raw": ("binary", b"\x00\xff"),
    "code": ("fixed_size_binary[2]", b"ab"),
    "day": ("date32[day]", datetime.date(1969, 12, 31)),
    "at": ("timestamp[us]", datetime.datetime(2024, 2, 29, 1, 2, 3, 4)),
    "there": ("timestamp[ms, tz=UTC]", datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC)),
    "hour": ("time64[us]", datetime.time(1, 2, 3)),
    "big": ("uint64", 2**64 - 1),
    "price": ("decimal128(10, 2)", Decimal("-12.30")),
    "took": ("duration[us]", datetime.timedelta(1, 2)),
}
HEADS = {
    "parquet": {},
    "tfrecord": {"output_format": "tfrecord"},
    "gzip": {"output_format": "tfrecord", "tfrecord_gzip": True},
    "float16": {"vector_dtype": "float16"},
    "tfrecord float16": {"vector_dtype": "float16", "output_format": "tfrecord"},
    "chunks": {"long_documents": "chunks", "keep_text": True},
    "tfrecord chunks": {"long_documents": "chunks", "keep_text": True, "output_format": "tfrecord"},
}


def fields(**head: Any) -> dict[str, Any]:
    kept = [[name, kind] for name, (kind, _) in KEPT.items()]
    return head | {"kept": kept, "values": {name: value for name, (_, value) in KEPT.items()}}


@pytest.mark.parametrize("name", HEADS)
def test_rows_come_back(name: str, tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out", **fields(**HEADS[name]))
    output = open_output(str(made.path))
    assert (output.complete, output.missing, output.count, output.dim) == (True, (), 60, 3)
    assert output.plan.job == made.job
    assert (output.job["model"], output.manifest.job) == ("m", made.job)
    assert [r.shard_id for r in output.receipts] == made.shards  # the plan's order, and not that of the ids
    assert made.shards != sorted(made.shards)
    wanted = [row for i in made.shards for row in rows.expected(made.rows[i], output.schema)]
    if output.format == "tfrecord":
        wanted = [row | {name: row[name] and str(row[name]) for name in ("took", "hour")} for row in wanted]
    blocks = list(output.rows(block_rows=7))
    assert all(block.schema == output.arrow and block.num_rows <= 7 for block in blocks)
    assert [row for block in blocks for row in block.to_pylist()] == wanted


@pytest.mark.parametrize("name", HEADS)
def test_chosen_columns_come_in_the_wanted_order(name: str, tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out", **HEADS[name])
    output = open_output(str(made.path))
    blocks = list(output.rows(["position", "doc_id"]))
    assert {tuple(block.schema.names) for block in blocks} == {("position", "doc_id")}
    ids = [doc_id for block in blocks for doc_id in block.column(1).to_pylist()]
    assert ids == [row.doc_id for i in made.shards for row in made.rows[i]]
    with pytest.raises(UsageError, match="no column 'nn'; there are doc_id, embedding, "):
        list(output.rows(["nn"]))


@pytest.mark.parametrize("name", HEADS)
def test_vectors_are_float32_blocks(name: str, tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out", **HEADS[name])
    some = [row for i in made.shards for row in made.rows[i]]
    ids, blocks = zip(*open_output(str(made.path)).vectors(block_rows=6), strict=True)
    assert {(block.dtype, block.shape[1]) for block in blocks} == {(np.dtype(np.float32), 3)}
    assert [doc_id for block in ids for doc_id in block] == [row.doc_id for row in some]
    tolerance = 1e-3 if "float16" in name else 0
    np.testing.assert_allclose(
        np.concatenate(blocks), np.float32([row.vector for row in some]), atol=tolerance
    )


def test_dead_letters_come_back(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out")
    found = list(open_output(str(made.path)).dead_letters())
    assert found == [letter for i in made.shards for letter in made.letters[i]]
    assert found[0] == DeadLetter(f"{made.shards[1]}:dead0", "in", 0, "read", "not JSON", "line 0", "{", 0)


def test_what_is_committed_of_a_job_that_is_not_complete(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out", leave=1)
    output = open_output(str(made.path))
    assert (output.complete, output.missing, output.manifest) == (False, (made.shards[2],), None)
    assert output.count == 40
    ids = [doc_id for block, _ in output.vectors() for doc_id in block]
    assert ids == [row.doc_id for i in made.shards[:2] for row in made.rows[i]]


def test_what_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no job here: expected the output folder of `embedbeam embed`"):
        open_output(str(tmp_path))


def test_a_plan_that_lost_lines_opens_nothing(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out")
    path = made.path / layout.PLAN
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(UsageError, match="has 1 shards, its first line says 3"):
        open_output(str(made.path))


def defects(path: Path) -> list[str]:
    return list(find_defects(open_output(str(path))))


@pytest.mark.parametrize("name", HEADS)
def test_a_sound_output_has_no_defect(name: str, tmp_path: Path) -> None:
    assert defects(outputs.make(tmp_path / "out", **HEADS[name]).path) == []


def give_to(path: Path, model: str) -> str:
    """Another plan in place of the job's, of the same shards."""
    folder = Folder(str(path))
    shards = plan_file.read(folder).shards
    folder.write(layout.PLAN, plan_file.to_bytes(outputs.HEAD | {"model": model}, shards))
    return plan_file.job_of(folder)


def test_receipts_and_a_manifest_of_another_job_are_named_and_count_for_nothing(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out")
    give_to(made.path, "b")
    output = open_output(str(made.path))
    assert (output.complete, output.receipts, output.count, output.manifest) == (False, (), 0, None)
    assert defects(made.path) == [
        f"_embedbeam/receipts/{i}.json: is of another job ({made.job}); run the job again"
        for i in sorted(made.shards)
    ]


def test_a_part_of_another_job_is_named(tmp_path: Path) -> None:
    """Receipts that were written for another job's part: the part says whose it is."""
    made = outputs.make(tmp_path / "out")
    job = give_to(made.path, "b")
    for path in [*(made.path / layout.RECEIPTS).iterdir(), made.path / layout.MANIFEST]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"job": job}))
    parts = sorted(path.name for path in made.path.glob("part-*"))
    assert defects(made.path) == [f"{part}: is of another job ({made.job})" for part in parts]


def test_a_manifest_of_another_job_is_named(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out")
    path = made.path / layout.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"job": "f" * 32}))
    assert defects(made.path) == [
        f"_embedbeam/manifest.json: is of another job ({'f' * 32}); run the job again"
    ]


def test_stray_names_among_receipts_are_no_defect(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out")
    for name in (".nfs0001", "x.tmp"):
        (made.path / layout.RECEIPTS / name).write_bytes(b"")
    assert defects(made.path) == []
    assert open_output(str(made.path)).complete


def test_a_part_under_another_attempt_s_receipt(tmp_path: Path) -> None:
    """Same size, other bytes: verify always reads."""
    made = outputs.make(tmp_path / "out")
    part = next(iter(made.path.glob("part-*")))
    data = bytearray(part.read_bytes())
    data[50] ^= 1
    part.write_bytes(data)
    assert defects(made.path) == [f"{part.name}: checksum differs from the receipt's"]


def test_verify_reads_dead_letters_in_blocks(tmp_path: Path) -> None:
    """A file of 300 MB of them takes no such memory."""
    made = outputs.make(tmp_path / "out", shards=2)
    shard_id = made.shards[1]
    path = made.path / layout.dead_letters(shard_id)
    line = path.read_bytes().splitlines(keepends=True)[0]
    line = line.replace(b'"{"', b'"' + b"x" * 1_000_000 + b'"')
    with open(path, "wb") as f:
        for _ in range(300):
            f.write(line)
    folder = Folder(str(made.path))
    sha, _ = folder.sha256(layout.dead_letters(shard_id))
    receipt = made.path / layout.receipt(shard_id)
    record = json.loads(receipt.read_text()) | {"dead_letters_sha256": sha, "dead_letters": {"not JSON": 300}}
    receipt.write_text(json.dumps(record))
    code = (
        "import sys\n"
        "from benchmarks.common import peak_kib\n"
        "from transforms.output.reader import open_output\n"
        "from transforms.output.defects import find_defects\n"
        "output = open_output(sys.argv[1])\n"
        "list(output.rows())\n"
        "before = peak_kib()\n"
        "assert list(find_defects(output)) == []\n"
        "assert sum(1 for _ in output.dead_letters()) == 300\n"
        "print(peak_kib() - before)"
    )
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", code, str(made.path)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 100_000  # KiB; the file has 300 MB


def test_receipts_are_read_for_the_job_alone(tmp_path: Path) -> None:
    made = outputs.make(tmp_path / "out")
    folder = Folder(str(made.path))
    assert [r.shard_id for r in ledger.read_receipts(folder, made.job)] == sorted(made.shards)
    assert ledger.read_receipts(folder, made.job, made.shards[:1])[0].shard_id == made.shards[0]
    assert ledger.read_receipts(folder, "another") == []
