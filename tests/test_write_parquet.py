import datetime
import gc
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from transforms.elements import Document, Embedding
from transforms.output.schema import RowSchema, arrow_schema
from transforms.output.sinks.parquet import ParquetSink

FULL = RowSchema(
    4,
    chunks=True,
    keep_text=True,
    kept=(
        *(("title", "string"), ("year", "int64"), ("score", "double"), ("fresh", "bool"), ("tags", "json")),
        *(("raw", "binary"), ("at", "timestamp[us]"), ("small", "int32"), ("price", "decimal128(10, 2)")),
        *(("half", "float"), ("day", "date32[day]")),
    ),
)
KEPT: dict[str, Any] = {
    "title": "Ünïcode \U0001f600",
    "year": -5,
    "score": 0.1,
    "fresh": True,
    "tags": '["a"]',
    "raw": b"\x00\xff",
    "at": datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
    "small": -(2**31),
    "price": Decimal("-12.30"),
    "half": 0.5,
    "day": datetime.date(1969, 12, 31),
}


def make_rows(count: int, dim: int = 4, *, kept: dict[str, Any] | None = None) -> list[Embedding]:
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    return [
        Embedding(
            Document(
                f"文/ä-{i}", f"text {i} ✓", f"f{i // 3}.txt", i * 2**33, kept=(kept or {}) if i % 2 else {}
            ),
            vectors[i],
            tokens=None if i == 1 else i,
            tokens_dropped=None if i == 1 else 0,
            chunk=i,
            start=0,
            end=6,
        )
        for i in range(count)
    ]


def write(rows: list[Embedding], schema: RowSchema, *, at_once: int = 1000, **options: Any) -> bytes:
    file = io.BytesIO()
    sink = ParquetSink(file, schema, {"model": "sha256:abc"}, **options)
    for begin in range(0, len(rows), at_once):
        sink.write(rows[begin : begin + at_once])
    sink.close()
    sink.close()
    assert not file.closed
    return file.getvalue()


def expected(rows: list[Embedding], schema: RowSchema) -> list[dict[str, Any]]:
    plain = []
    for row in rows:
        values: dict[str, Any] = {
            "doc_id": row.doc_id,
            "embedding": row.vector.astype(schema.vector_dtype).astype(np.float64).tolist(),
            "tokens": row.tokens,
            "tokens_dropped": row.tokens_dropped,
            "source": row.document.source,
            "position": row.document.position,
        }
        if schema.chunks:
            values |= {"chunk": row.chunk, "start": row.start, "end": row.end}
        if schema.keep_text:
            values["text"] = row.document.text[row.start : row.end] if schema.chunks else row.document.text
        plain.append(values | {name: row.document.kept.get(name) for name, _ in schema.kept})
    return plain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output directory as a job leaves it: two part files and the job's own state."""
    out = tmp_path / "out"
    (out / "_embedbeam" / "receipts").mkdir(parents=True)
    (out / "_SUCCESS").touch()
    (out / "_embedbeam" / "plan.jsonl").write_text('{"a": 1}\n')
    (out / "_embedbeam" / "receipts" / "0.json").write_text(json.dumps({"rows": 3}))
    rows = make_rows(7, kept=KEPT)
    (out / "part-000.parquet").write_bytes(write(rows[:3], FULL))
    (out / "part-001.parquet").write_bytes(write(rows[3:], FULL))
    return out


@pytest.mark.parametrize("schema", [FULL, RowSchema(4), RowSchema(4, "float16", keep_text=True)], ids=str)
def test_pyarrow_reads_the_rows(schema: RowSchema) -> None:
    rows = make_rows(7, kept=KEPT)
    table = pq.read_table(io.BytesIO(write(rows, schema)))
    assert table.schema.equals(arrow_schema(schema, {}))
    assert table.to_pylist() == expected(rows, schema)
    assert table.schema.metadata == {b"model": b"sha256:abc"}


def test_pyarrow_dataset_reads_the_folder(folder: Path) -> None:
    rows = make_rows(7, kept=KEPT)
    assert pyarrow.dataset.dataset(folder).to_table().to_pylist() == expected(rows, FULL)


def test_pandas_reads_the_folder(folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    rows = make_rows(7, kept=KEPT)
    frame = pd.read_parquet(folder)
    assert frame["doc_id"].tolist() == [row.doc_id for row in rows]
    np.testing.assert_array_equal(np.stack(frame["embedding"]), np.stack([row.vector for row in rows]))
    assert frame["position"].tolist() == [i * 2**33 for i in range(7)]
    assert frame["price"][1] == Decimal("-12.30")
    assert frame["at"][1] == pd.Timestamp(KEPT["at"])


def test_duckdb_reads_the_folder(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = make_rows(7, kept=KEPT)
    found = duckdb.sql(f"select * from '{folder}/*.parquet' order by chunk")
    got = [dict(zip(found.columns, values, strict=True)) for values in found.fetchall()]
    assert got == [
        one | {"embedding": pytest.approx(one["embedding"], rel=0)} for one in expected(rows, FULL)
    ]


def test_polars_reads_the_folder(folder: Path) -> None:
    pl = pytest.importorskip("polars")
    got = pl.scan_parquet(f"{folder}/*.parquet").collect()
    assert got.to_dicts() == expected(make_rows(7, kept=KEPT), FULL)


@pytest.mark.parametrize("reader", ["pandas", "duckdb", "polars"])
def test_float16_in_other_readers(reader: str, tmp_path: Path) -> None:
    rows = make_rows(5)
    path = str(tmp_path / "part-0.parquet")
    Path(path).write_bytes(write(rows, RowSchema(4, "float16")))
    module = pytest.importorskip(reader)
    if reader == "pandas":
        vectors: Any = module.read_parquet(path)["embedding"].tolist()
    elif reader == "duckdb":
        vectors = [vector for (vector,) in module.sql(f"select embedding from '{path}'").fetchall()]
    else:
        vectors = module.scan_parquet(path).collect()["embedding"].to_list()
    np.testing.assert_array_equal(np.asarray(vectors, np.float16), np.float16([row.vector for row in rows]))


@pytest.mark.parametrize("schema", [FULL, RowSchema(4, "float16")], ids=str)
def test_empty_file_is_valid(schema: RowSchema) -> None:
    data = write([], schema)
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.metadata.num_rows == 0
    assert file.metadata.num_row_groups == 0
    assert file.schema_arrow.equals(arrow_schema(schema, {}))
    sink = ParquetSink(other := io.BytesIO(), schema, {"model": "sha256:abc"})
    sink.write([])
    sink.close()
    assert other.getvalue() == data


@pytest.mark.parametrize("schema", [FULL, RowSchema(4)], ids=str)
def test_bytes_do_not_depend_on_how_rows_are_spread_over_writes(schema: RowSchema) -> None:
    rows = make_rows(100, kept=KEPT)
    files = {write(rows, schema, at_once=n, row_group_bytes=1500) for n in (1, 7, 64, 100)}
    assert len(files) == 1
    assert pq.read_table(io.BytesIO(files.pop())).to_pylist() == expected(rows, schema)


def test_row_groups_are_cut_by_the_schema_alone() -> None:
    rows = make_rows(25)  # a row weighs 4 * 4 + 64 = 80 bytes
    data = pq.ParquetFile(io.BytesIO(write(rows, RowSchema(4), at_once=6, row_group_bytes=800)))
    assert [data.metadata.row_group(i).num_rows for i in range(data.num_row_groups)] == [10, 10, 5]


def test_row_groups_are_cut_earlier_by_long_texts() -> None:
    rows = [Embedding(Document(str(i), "x" * 220), np.zeros(4, np.float32), 1, 0) for i in range(7)]
    rows[4:5] = [Embedding(Document("4", "x" * 5000), np.zeros(4, np.float32), 1, 0)]
    data = pq.ParquetFile(io.BytesIO(write(rows, RowSchema(4, keep_text=True), row_group_bytes=900)))
    assert [data.metadata.row_group(i).num_rows for i in range(data.num_row_groups)] == [3, 2, 2]


def test_encoding_of_each_column() -> None:
    group = pq.ParquetFile(io.BytesIO(write(make_rows(50, kept=KEPT), FULL))).metadata.row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    with_dictionary = {name for name, chunk in chunks.items() if chunk.has_dictionary_page}
    assert with_dictionary == {"source", "title", "tags"}
    without = {name for name, chunk in chunks.items() if not chunk.is_stats_set}
    assert without == {"embedding.list.element", "text"}
    assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}


def test_the_buffer_of_a_finished_row_group_is_not_seen_in_the_next() -> None:
    rows = make_rows(30)
    table = pq.read_table(io.BytesIO(write(rows, RowSchema(4), row_group_bytes=800)))
    np.testing.assert_array_equal(
        np.asarray(table["embedding"].to_pylist(), np.float32), [row.vector for row in rows]
    )


@pytest.mark.parametrize(
    ("document", "column"),
    [
        (Document("bad", "", "\ud800"), "source"),
        (Document("bad", "\ud800"), "text"),
        (Document("bad", "", kept={"year": 2**70}), "year"),
    ],
)
def test_a_value_that_does_not_fit_names_its_document(document: Document, column: str) -> None:
    schema = RowSchema(1, keep_text=True, kept=(("year", "int64"),))
    rows = [Embedding(d, np.zeros(1, np.float32), 1, 0) for d in (Document("ok", ""), document)]
    with pytest.raises(ValueError, match=rf"column '{column}', document 'bad'"):
        write(rows, schema)


@pytest.mark.filterwarnings("error")
def test_a_sink_that_is_let_go_does_not_touch_its_file(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file:
        sink = ParquetSink(file, RowSchema(4), {})
        sink.write(make_rows(3))
    del sink
    gc.collect()
    assert b"PAR1" not in (tmp_path / "x").read_bytes()[4:]
