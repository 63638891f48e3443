"""verify: clean is 0; each defect is one line that names the file."""

import hashlib
import json

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import embed


def change_receipt(output, receipt, **values):
    path = output / "_embedbeam" / "receipts" / f"{receipt['shard_id']}.json"
    path.write_text(json.dumps(receipt | values))


def rewrite(output, receipt, change):
    """Puts another table into a part, with a receipt that fits it."""
    path = output / receipt["part"]
    table = change(pq.read_table(path))
    pq.write_table(table, path, compression="zstd")
    data = path.read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    change_receipt(output, receipt, part_sha256=sha, part_bytes=len(data))


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def with_nan(table):
    vectors = np.array(table["embedding"].combine_chunks().flatten(), np.float32).copy()
    vectors[8 * 2 + 3] = np.nan
    kind = table.schema.field("embedding").type
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors), type=kind)
    return table.set_column(1, table.schema.field("embedding"), column)


def with_id(other):
    def change(table):
        ids = table["doc_id"].to_pylist()
        ids[1] = other
        return table.set_column(0, table.schema.field("doc_id"), pa.array(ids))

    return change


def test_clean(finished, cli):
    code, out, err = cli("verify", finished)
    assert (code, err) == (0, "")
    shards = len(jobs.receipts(finished))
    assert out == f"{finished}: {shards} shards, 291 rows, 9 dead letters: all as committed\n"


def first_two(output):
    receipts = [r for r in jobs.receipts(output) if r["rows"] > 3 and r["dead_letters"]]
    return receipts[0], receipts[1]


DEFECTS = {
    "flipped byte": (
        lambda out, r, s: flip(out / r["part"], 200),
        "{part}: checksum differs from the receipt's",
    ),
    "flipped footer": (
        lambda out, r, s: flip(out / r["part"], -10),
        "{part}: checksum differs from the receipt's",
    ),
    "truncated part": (
        lambda out, r, s: (out / r["part"]).write_bytes((out / r["part"]).read_bytes()[:-7]),
        "{part}: {part_bytes_less_7} bytes, the receipt says {part_bytes}",
    ),
    "missing part": (
        lambda out, r, s: (out / r["part"]).unlink(),
        "{part}: missing; the receipt says {rows} rows",
    ),
    "stray part": (
        lambda out, r, s: (out / "part-0123456789abcdef.parquet").write_bytes(b"x"),
        "part-0123456789abcdef.parquet: no receipt knows this file",
    ),
    "foreign file": (
        lambda out, r, s: (out / "notes.csv").write_bytes(b"x"),
        "notes.csv: no receipt knows this file",
    ),
    "stray letters": (
        lambda out, r, s: (out / "_dead_letters" / "part-0123456789abcdef.jsonl").write_bytes(b"x"),
        "_dead_letters/part-0123456789abcdef.jsonl: no receipt knows this file",
    ),
    "missing receipt": (
        lambda out, r, s: (out / "_embedbeam" / "receipts" / f"{r['shard_id']}.json").unlink(),
        "1 of {shards} shards are not committed, e.g. no _embedbeam/receipts/{shard_id}.json; run ",
    ),
    "broken receipt": (
        lambda out, r, s: (out / "_embedbeam" / "receipts" / f"{r['shard_id']}.json").write_text("{"),
        "{out}/_embedbeam/receipts/{shard_id}.json: not a receipt (",
    ),
    "receipt of no shard": (
        lambda out, r, s: change_receipt(out, r | {"shard_id": "f" * 16}, part=None, rows=0, dead_letters={}),
        "receipt ffffffffffffffff: its shard is not in the plan",
    ),
    "truncated letters": (
        lambda out, r, s: (out / "_dead_letters" / f"part-{r['shard_id']}.jsonl").write_text("{"),
        "_dead_letters/part-{shard_id}.jsonl: checksum differs from the receipt's",
    ),
    "missing letters": (
        lambda out, r, s: (out / "_dead_letters" / f"part-{r['shard_id']}.jsonl").unlink(),
        "_dead_letters/part-{shard_id}.jsonl: missing; the receipt says {letters} dead letters",
    ),
    "not a number": (
        lambda out, r, s: rewrite(out, r, with_nan),
        "{part}: 1 vectors with NaN or infinity, e.g. of ",
    ),
    "rows gone": (
        lambda out, r, s: rewrite(out, r, lambda table: table.slice(1)),
        "{part}: {rows_less_1} rows, the receipt says {rows}",
    ),
    "no parquet": (
        lambda out, r, s: rewrite_bytes(out, r, b"PAR1 nothing PAR1"),
        "{part}: cannot be read: ",
    ),
    "duplicate in a part": (
        lambda out, r, s: rewrite(
            out, r, lambda table: pa.concat_tables([table.slice(1), table.slice(1, 1)])
        ),
        "{part}: id ",
    ),
    "no success": (lambda out, r, s: (out / "_SUCCESS").unlink(), "no _SUCCESS: the job has not finished"),
    "no manifest": (
        lambda out, r, s: (out / "_embedbeam" / "manifest.json").unlink(),
        "_embedbeam/manifest.json: missing or unreadable, though there is _SUCCESS",
    ),
    "broken manifest": (
        lambda out, r, s: (out / "_embedbeam" / "manifest.json").write_text("["),
        "_embedbeam/manifest.json: missing or unreadable, though there is _SUCCESS",
    ),
}


def rewrite_bytes(output, receipt, data):
    (output / receipt["part"]).write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    change_receipt(output, receipt, part_sha256=sha, part_bytes=len(data))


@pytest.mark.parametrize("name", DEFECTS)
def test_one_defect_is_one_line(name, copy_of, cli):
    receipt, other = first_two(copy_of)
    damage, expected = DEFECTS[name]
    shards = len(jobs.receipts(copy_of))
    damage(copy_of, receipt, other)
    code, out, err = cli("verify", copy_of)
    assert (code, err) == (1, "")
    line, last = out.splitlines()
    expected = expected.format(
        **receipt,
        shards=shards,
        out=copy_of,
        part_bytes_less_7=receipt["part_bytes"] - 7,
        rows_less_1=receipt["rows"] - 1,
        letters=sum(receipt["dead_letters"].values()),
    )
    assert line.startswith(f"defect: {expected}")
    assert last == f"{copy_of}: 1 defects"


def test_the_same_id_in_two_shards(copy_of, cli):
    first, second = first_two(copy_of)
    twice = pq.read_table(copy_of / first["part"])["doc_id"][2].as_py()
    rewrite(copy_of, second, with_id(twice))
    (copy_of / jobs.receipts(copy_of)[-1]["part"]).unlink()  # and a part that cannot be read beside it
    code, out, err = cli("verify", copy_of)
    assert (code, err) == (1, "")
    duplicate = [line for line in out.splitlines() if repr(twice) in line]
    parts = sorted([first["part"], second["part"]])
    assert duplicate == [f"defect: {parts[1]}: id {twice!r} is in {parts[0]} already"]
    assert out.splitlines()[-1] == f"{copy_of}: 2 defects"


@pytest.mark.parametrize(
    "options",
    [
        {"output_format": "tfrecord"},
        {"output_format": "tfrecord", "tfrecord_gzip": True, "vector_dtype": "float16"},
        {"long_documents": "chunks"},
        {"long_documents": "chunks", "output_format": "tfrecord"},
        {"vector_dtype": "float16"},
    ],
)
def test_every_kind_of_output(tmp_path, model, cli, options):
    records = [{"id": f"d{i}", "text": "word " * (i + 1)} for i in range(40)]
    jobs.write_jsonl(tmp_path / "a.jsonl", records)
    jobs.write_jsonl(tmp_path / "b.jsonl", [{"id": "d7", "text": "the same id in another shard"}])
    out = tmp_path / "out"
    base = {"model": model, "shard_bytes": 1500, "id_field": "id"}
    embed(input=f"{tmp_path}/a.jsonl", output=str(out), **base, **options)
    assert cli("verify", out)[0] == 0
    embed(input=[f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"], output=f"{tmp_path}/two", **base, **options)
    code, text, _ = cli("verify", tmp_path / "two")
    assert code == 1
    (line, _) = text.splitlines()
    assert "id 'd7'" in line
    part = next(out.glob("part-*"))
    flip(part, 100)
    code, text, _ = cli("verify", out)
    assert code == 1
    assert text.splitlines() == [
        f"defect: {part.name}: checksum differs from the receipt's",
        f"{out}: 1 defects",
    ]
