import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from rows import Row, block, expected

from transforms.output.column_types import arrow_type, check_kept
from transforms.output.schema import RowSchema, arrow_schema, record_batch

KEPT = (("year", "int64"), ("at", "timestamp[us, tz=Europe/Berlin]"), ("price", "decimal128(10, 2)"))


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(),
        pa.bool_(),
        *(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(pa.float16(), pa.float32(), pa.float64()),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(16)),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.timestamp("us", tz) for tz in ("UTC", "Europe/Berlin", "+05:30")),
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.decimal128(10, 2), pa.decimal128(38, -3), pa.decimal256(76, 10)),
    ],
    ids=str,
)
def test_arrow_type_reads_its_str(kind: pa.DataType) -> None:
    assert arrow_type(str(kind)) == kind


@pytest.mark.parametrize(
    "name",
    [
        "list<item: int64>",
        "struct<a: int64>",
        "dictionary<values=string, indices=int32, ordered=0>",
        "time32[us]",
        "Int64",
        "",
    ],
)
def test_arrow_type_refuses_the_rest(name: str) -> None:
    with pytest.raises(ValueError, match="expected a flat type"):
        arrow_type(name)


def test_arrow_schema_columns_in_order() -> None:
    schema = RowSchema(3, "float16", chunks=True, keep_text=True, kept=(*KEPT, ("tags", "json")))
    arrow = arrow_schema(schema, {"model": "m"})
    assert [(field.name, str(field.type), field.nullable) for field in arrow] == [
        ("doc_id", "string", False),
        ("embedding", "fixed_size_list<item: halffloat not null>[3]", False),
        ("tokens", "int32", True),
        ("tokens_dropped", "int32", True),
        ("source", "string", False),
        ("position", "int64", False),
        ("fingerprint", "fixed_size_binary[16]", False),
        ("chunk", "int32", False),
        ("start", "int64", False),
        ("end", "int64", False),
        ("text", "string", False),
        ("year", "int64", True),
        ("at", "timestamp[us, tz=Europe/Berlin]", True),
        ("price", "decimal128(10, 2)", True),
        ("tags", "string", True),
    ]
    assert arrow.metadata == {b"model": b"m"}
    assert arrow_schema(RowSchema(3), {}).names == [
        *("doc_id", "embedding", "tokens", "tokens_dropped", "source", "position", "fingerprint")
    ]


@pytest.mark.parametrize("name", [*arrow_schema(RowSchema(1, chunks=True, keep_text=True), {}).names, ""])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"keep field '{name}'.*rename"):
        RowSchema(3, chunks=True, keep_text=True, kept=((name, "string"),))


def test_names_of_columns_that_are_not_there_are_free() -> None:
    kept = (("chunk", "int64"), ("start", "int64"), ("end", "int64"), ("text", "string"))
    assert arrow_schema(RowSchema(3, kept=kept), {}).names[7:] == ["chunk", "start", "end", "text"]


def test_schema_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="'a': named twice"):
        RowSchema(3, kept=(("a", "string"), ("a", "int64")))
    with pytest.raises(ValueError, match=r"'a': expected a flat type.*'list<item: int64>'"):
        RowSchema(3, kept=(("a", "list<item: int64>"),))
    with pytest.raises(ValueError, match="dim"):
        RowSchema(0)
    with pytest.raises(ValueError, match="float64"):
        RowSchema(3, "float64")  # type: ignore[arg-type]


UTC = datetime.UTC
DAY, MOMENT = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "ä\U0001f600", "ä\U0001f600"),
        ("int64", -(2**63), -(2**63)),
        ("int64", 2**63 - 1, 2**63 - 1),
        ("int64", np.int32(7), 7),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("double", 2**53 + 1, float(2**53)),
        ("double", 1.5, 1.5),
        ("float", 3, 3.0),
        ("bool", True, True),
        ("json", "[1]", "[1]"),
        ("binary", b"\x00\xff", b"\x00\xff"),
        ("fixed_size_binary[2]", b"ab", b"ab"),
        ("date32[day]", DAY, DAY),
        ("timestamp[us]", MOMENT, MOMENT),
        ("timestamp[us, tz=UTC]", MOMENT.replace(tzinfo=UTC), MOMENT.replace(tzinfo=UTC)),
        ("timestamp[ns]", 1, 1),
        ("time64[us]", datetime.time(1, 2), datetime.time(1, 2)),
        ("duration[us]", datetime.timedelta(1), datetime.timedelta(1)),
        ("decimal128(5, 2)", Decimal("123.45"), Decimal("123.45")),
    ],
)
def test_check_kept_accepts(kind: str, value: object, expected: object) -> None:
    got = check_kept("f", kind, value)
    assert got == expected
    assert type(got) is type(expected)
    assert pa.array([got], arrow_type(kind)).null_count == 0
    assert check_kept("f", kind, None) is None


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int64", "1999a", "keep field 'f': expected int64, got string '1999a'"),
        ("int64", True, "keep field 'f': expected int64, got bool True"),
        ("int64", 3.0, "keep field 'f': expected int64, got double 3.0"),
        ("int64", 2**63, "keep field 'f': expected int64, got integer 9223372036854775808 (out of its range"),
        ("int8", 128, "keep field 'f': expected int8, got int64 128 (out of its range, -128 to 127)"),
        ("double", False, "keep field 'f': expected double, got bool False"),
        ("double", 10**400, "keep field 'f': expected double, got integer 1000"),
        ("string", 5, "keep field 'f': expected string, got int64 5"),
        ("string", b"x", "keep field 'f': expected string, got binary b'x'"),
        ("string", "\ud800", "keep field 'f': expected string, got string '\\ud800' (not valid Unicode"),
        ("bool", 1, "keep field 'f': expected bool, got int64 1"),
        ("json", 5, "keep field 'f': expected json, got int64 5"),
        ("binary", "x", "keep field 'f': expected binary, got string 'x'"),
        ("null", 1, "keep field 'f': expected null, got int64 1"),
        ("date32[day]", "2024-02-29", "keep field 'f': expected date32[day], got string '2024-02-29'"),
        ("timestamp[us]", 5, "keep field 'f': expected timestamp[us], got int64 5"),
        ("timestamp[us]", DAY, "keep field 'f': expected timestamp[us], got date datetime.date(2024, 2, 29)"),
        ("decimal128(5, 2)", Decimal("1.234"), "keep field 'f': expected decimal128(5, 2), got Decimal"),
        ("fixed_size_binary[2]", b"abc", "keep field 'f': expected fixed_size_binary[2], got binary b'abc'"),
    ],
)
def test_check_kept_refuses_and_names_both_types(kind: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match="keep field") as e:
        check_kept("f", kind, value)
    assert str(e.value).startswith(message)


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ValueError, match=r"got string 'xxx.*x\.\.\.$") as e:
        check_kept("f", "int64", "x" * 10_000)
    assert len(str(e.value)) < 150


def test_a_block_s_columns_become_the_output_s() -> None:
    schema = RowSchema(2, chunks=True, keep_text=True, kept=(("index", "int64"), ("payload", "string")))
    rows = [
        Row("a", [1.0, 2.0], text="hello", chunk=0, start=0, end=5, kept={"index": 7}),
        Row("a", [3.0, 4.0], text="world", chunk=1, start=6, end=11, kept={"payload": "p"}),
    ]
    got = record_batch(schema, arrow_schema(schema, {}), block(rows, schema))
    assert got.schema == arrow_schema(schema, {})
    assert got.to_pylist() == expected(rows, schema)


def test_counts_that_the_model_does_not_know_are_null() -> None:
    schema = RowSchema(1)
    got = record_batch(schema, arrow_schema(schema, {}), block([Row("a", [0.0], tokens=None)], schema))
    assert (got.column("tokens").to_pylist(), got.column("tokens_dropped").to_pylist()) == ([None], [1])


def test_vectors_are_not_copied() -> None:
    schema = RowSchema(3)
    rows = block([Row("a", [1.0, 2.0, 3.0])] * 4, schema)
    got = record_batch(schema, arrow_schema(schema, {}), rows)
    assert np.shares_memory(got.column("embedding").flatten().to_numpy(), rows.vectors)


def test_vectors_of_another_length_are_refused() -> None:
    schema = RowSchema(3)
    with pytest.raises(ValueError, match=r"expected vectors of shape \[2, 3\], got \[2, 2\]"):
        record_batch(schema, arrow_schema(schema, {}), block([Row("a", [1.0, 2.0])] * 2, schema))


@pytest.mark.parametrize("wrong", [65505.0, -65536.0, np.inf, np.nan])
def test_float16_refuses_what_it_cannot_hold(wrong: float) -> None:
    schema = RowSchema(2, "float16")
    good, bad = Row("ok", [65504, -65504]), Row("bad", [0, wrong])
    with pytest.raises(ValueError, match=r"document 'bad'.*65504.*write float32"):
        record_batch(schema, arrow_schema(schema, {}), block([good, bad], schema))
    got = record_batch(schema, arrow_schema(schema, {}), block([good] * 2, schema))
    assert got.column("embedding").to_pylist() == [[65504, -65504]] * 2
