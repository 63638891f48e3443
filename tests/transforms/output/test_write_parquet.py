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
from rows import Row, batch, expected
from rows import write as write_rows

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


def make_rows(count: int, dim: int = 4, *, kept: dict[str, Any] | None = None) -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    return [
        Row(
            f"文/ä-{i}",
            vectors[i].tolist(),
            f"f{i // 3}.txt",
            i * 2**33,
            tokens=i,
            dropped=0,
            text=f"text {i} ✓",
            chunk=i,
            end=6,
            kept=(kept or {}) if i % 2 else {},
        )
        for i in range(count)
    ]


def write(rows: list[Row], schema: RowSchema, *, at_once: int = 1000, **options: Any) -> bytes:
    file = io.BytesIO()
    write_rows(ParquetSink(file, schema, {"model": "sha256:abc"}, **options), rows, schema, at_once=at_once)
    assert not file.closed
    return file.getvalue()


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
    sink.write(batch([], schema))
    sink.close()
    assert other.getvalue() == data


@pytest.mark.parametrize("schema", [FULL, RowSchema(4)], ids=str)
def test_bytes_do_not_depend_on_how_rows_are_spread_over_writes(schema: RowSchema) -> None:
    rows = make_rows(100, kept=KEPT)
    files = {write(rows, schema, at_once=n, row_group_bytes=1500) for n in (1, 7, 64, 100)}
    assert len(files) == 1
    assert pq.read_table(io.BytesIO(files.pop())).to_pylist() == expected(rows, schema)


def test_row_groups_are_cut_by_the_rows_alone() -> None:
    rows = [Row("four", [0.0] * 4) for _ in range(25)]  # a row weighs 4 * 4 + 80 + 4 = 100 bytes
    data = pq.ParquetFile(io.BytesIO(write(rows, RowSchema(4), at_once=6, row_group_bytes=1000)))
    assert [data.metadata.row_group(i).num_rows for i in range(data.num_row_groups)] == [10, 10, 5]


@pytest.mark.parametrize("kept", [False, True])
def test_row_groups_are_cut_earlier_by_long_texts(kept: bool) -> None:
    schema = RowSchema(4, kept=(("title", "string"),)) if kept else RowSchema(4, keep_text=True)
    # Two bytes a character: a row weighs 16 + 80 + 1 + 204 bytes, and 16 more where a field is kept.
    texts = ["é" * 102] * 4 + ["x" * 5000] + ["é" * 102] * 2
    rows = [Row(str(i), [0.0] * 4, text=text, kept={"title": text}) for i, text in enumerate(texts)]
    data = pq.ParquetFile(io.BytesIO(write(rows, schema, row_group_bytes=900)))
    assert [data.metadata.row_group(i).num_rows for i in range(data.num_row_groups)] == [3, 2, 2]


def test_encoding_of_each_column() -> None:
    group = pq.ParquetFile(io.BytesIO(write(make_rows(50, kept=KEPT), FULL))).metadata.row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    with_dictionary = {name for name, chunk in chunks.items() if chunk.has_dictionary_page}
    assert with_dictionary == {"source", "title", "tags"}
    without = {name for name, chunk in chunks.items() if not chunk.is_stats_set}
    assert without == {"embedding.list.element", "text", "fingerprint"}
    assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}
    used = {encoding for chunk in chunks.values() for encoding in chunk.encodings}
    assert used == {"PLAIN", "RLE", "RLE_DICTIONARY"}  # others Spark 3.5 or BigQuery do not read


def test_the_buffer_of_a_finished_row_group_is_not_seen_in_the_next() -> None:
    rows = make_rows(30)
    table = pq.read_table(io.BytesIO(write(rows, RowSchema(4), row_group_bytes=800)))
    np.testing.assert_array_equal(
        np.asarray(table["embedding"].to_pylist(), np.float32), [row.vector for row in rows]
    )


@pytest.mark.filterwarnings("error")
def test_a_sink_that_is_let_go_does_not_touch_its_file(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file:
        sink = ParquetSink(file, RowSchema(4), {})
        sink.write(batch(make_rows(3), RowSchema(4)))
    del sink
    gc.collect()
    assert b"PAR1" not in (tmp_path / "x").read_bytes()[4:]
