"""Rows: columns in the model's types, exactly or not at all; the same fingerprint from every format."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.elements import ABSENT
from transforms.modality.tabular import Tabular

INT64 = 2**63 - 1


def one(kind: str, nulls: str = "refuse") -> Tabular:
    return Tabular((("column", "feature", kind),), nulls)


def decoded(kind: str, values: object, nulls: str = "refuse") -> tuple[list[object], dict[int, str]]:
    payloads, refused = one(kind, nulls).decode({"column": values})  # type: ignore[dict-item]
    rows = payloads.to_pylist()
    assert [row is None for row in rows] == [i in refused for i in range(len(rows))]
    made = [None if row is None else row["feature"] for row in rows]
    return made, {i: ": ".join(filter(None, why)) for i, why in refused.items()}


@pytest.mark.parametrize(
    ("kind", "values", "made"),
    [
        ("float32", ["1.5", " 2 ", "1e3", "-0"], [1.5, 2.0, 1000.0, -0.0]),  # CSV
        ("int64", ["7", "3.0", str(INT64)], [7, 3, INT64]),
        ("bool", ["true", "False", "1", "0", "yes"], [True, False, True, False, True]),
        ("string", ["a", "", "東京"], ["a", "", "東京"]),
        ("float32", [1, 2.5, True], [1.0, 2.5, 1.0]),
        ("int32", pa.array([1.0, 2.0]), [1, 2]),  # what pandas makes of integers with nulls
        ("float32", pa.array([1, 1 << 24], pa.int64()), [1.0, float(1 << 24)]),
        ("float32", pa.array([0.1, math.inf]), [float(np.float32(0.1)), math.inf]),
        ("int64", pa.array([3, 5], pa.uint8()), [3, 5]),
        ("string", pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        ("string", [b"bytes"], ["bytes"]),
        ("bool", [1, 0, True], [True, False, True]),
        ("uint8", pa.array([0, 255], pa.int64()), [0, 255]),
    ],
)
def test_values_in_the_features_type(kind: str, values: object, made: list[object]) -> None:
    assert decoded(kind, values) == (made, {})


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        ("float32", ["abc"], "field 'column' does not fit float32: 'abc'"),
        ("int64", ["2.5"], "field 'column' does not fit int64: '2.5' (expected a whole number)"),
        ("int8", [300], "field 'column' does not fit int8: 300 (out of its range)"),
        ("int64", pa.array([2**63], pa.uint64()), f"does not fit int64: {2**63} (out of its range)"),
        ("float32", [(1 << 24) + 1], "16777217 (it has no such whole number)"),
        ("float32", pa.array([(1 << 24) + 1]), "16777217 (it has no such whole number)"),
        ("float32", pa.array([1e300]), "1e+300 (out of its range)"),
        ("bool", ["maybe"], "'maybe' (expected true or false)"),
        ("bool", [2], "2 (expected true or false)"),
        ("string", [5], "field 'column' does not fit string: 5"),
        ("string", [b"\xff"], "field 'column' does not fit string: b'\\xff'"),
        ("float32", [[1.0]], "field 'column' does not fit float32: [1.0]"),
        ("int64", pa.array([math.nan]), "field 'column' does not fit int64: nan"),
        ("float32", [None], "field 'column' is null"),
        ("float32", [""], "field 'column' is null"),
        ("string", [ABSENT], "missing field 'column'"),
    ],
)
def test_a_bad_cell_names_its_column_and_value(kind: str, values: object, reason: str) -> None:
    made, refused = decoded(kind, values)
    assert made == [None]
    assert reason in refused[0]


@pytest.mark.parametrize("column", [pa.array([1.0, None]), [1.0, None], ["1.0", ""]])
def test_missing_values_by_option(column: object) -> None:
    assert decoded("float32", column) == ([1.0, None], {1: "field 'column' is null"})
    assert decoded("float32", column, "zero") == ([1.0, 0.0], {})
    (_, nan), refused = decoded("float32", column, "nan")
    assert math.isnan(nan)  # type: ignore[arg-type]
    assert refused == {}


def test_what_is_zero_for_other_kinds_and_that_they_have_no_nan() -> None:
    assert decoded("string", ["a", None], "zero")[0] == ["a", ""]
    assert decoded("bool", [True, None], "zero")[0] == [True, False]
    assert decoded("int64", pa.array([4, None]), "zero")[0] == [4, 0]
    assert decoded("int64", pa.array([4, None]), "nan")[1] == {1: "field 'column' is null"}


def test_a_row_is_refused_once_and_columns_are_read_once() -> None:
    both = Tabular((("a", "x", "float32"), ("a", "y", "int64"), ("b", "z", "string")))
    assert both.fields == ("a", "b")
    payloads, refused = both.decode({"a": ["1", "1.5", "q"], "b": ["s", "t", None]})
    assert payloads.to_pylist() == [{"x": 1.0, "y": 1, "z": "s"}, None, None]
    assert set(refused) == {1, 2}


def test_rows_of_a_users_own_pipeline_are_dicts() -> None:
    payloads, refused = one("float32").decode({"payload": [{"column": 2.5}, {}, "no row"]})
    assert payloads.to_pylist() == [{"feature": 2.5}, None, None]
    assert refused[1] == ("missing field 'column'", "")


def test_files_state_types_that_do_not_fit() -> None:
    floats = one("float32")
    assert floats.mismatch({"column": "double"}) is None
    assert floats.mismatch({"other": "string"}) is None
    assert floats.mismatch({"column": "string"}) == (
        "column 'column' is string, and the model's feature 'feature' is float32"
    )
    assert one("string").mismatch({"column": "int64"}) is not None
    assert one("bool").mismatch({"column": "bool"}) is None


ROWS = st.lists(
    st.tuples(
        st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53), st.text()
    ),
    min_size=1,
    max_size=5,
)


@given(ROWS)
def test_fingerprints_are_of_values_alone(rows: list[tuple[float, int, str]]) -> None:
    of = Tabular((("f", "f", "float32"), ("i", "i", "int64"), ("s", "s", "string")))
    floats, whole, texts = map(list, zip(*rows, strict=True))
    arrow = {"f": pa.array(floats), "i": pa.array(whole), "s": pa.array(texts).dictionary_encode()}
    plain = {"s": texts, "i": whole, "f": floats}
    csv = {"f": [repr(f) for f in floats], "i": list(map(str, whole)), "s": texts}
    found = []
    for columns in (arrow, plain, csv):
        payloads, refused = of.decode(columns)
        assert refused == {}
        found.append(of.fingerprint(payloads, b"key").to_pylist())
    assert found[0] == found[1] == found[2]
    assert of.fingerprint(payloads, b"other").to_pylist() != found[0]
    distinct = {(float(f), i, s, math.copysign(1, f)) for f, i, s in rows}
    assert len(set(found[0])) == len(distinct)


def test_a_plans_record_makes_the_same_modality() -> None:
    import dataclasses
    import json

    of = Tabular((("a", "x", "float32"),), "zero")
    assert Tabular(**json.loads(json.dumps(dataclasses.asdict(of)))) == of
