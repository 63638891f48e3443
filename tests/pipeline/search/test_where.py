"""Conditions in SQL: which rows fulfil them, and what is none."""

import outputs
import pytest

from pipeline.search.exact import parts_of
from pipeline.search.where import condition
from transforms.errors import UsageError
from transforms.output.reader import open_output


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Two shards of 20 rows; every other one has `module` json and `n` 3, the others null."""
    made = outputs.make(
        tmp_path_factory.mktemp("where") / "out",
        shards=2,
        kept=[["module", "string"], ["n", "int64"]],
        values={"module": "json", "n": 3},
    )
    return open_output(str(made.path))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("module = 'json'", range(1, 20, 2)),
        ("MODULE LIKE 'js%' AND N > 2", range(1, 20, 2)),
        ("n > 3", []),
        ("module IS NULL", range(0, 20, 2)),
        ("module = 'json' -- all of them", range(1, 20, 2)),
        ("tokens = 5 OR module = 'x'", range(20)),
        ("1 = 1", range(20)),
        ("doc_id LIKE '%:7'", [7]),
        ("#8 = 3", range(1, 20, 2)),
        ("#1 LIKE '%:7' OR n > 3", [7]),
        ("n IN (SELECT * FROM (VALUES (3)))", range(1, 20, 2)),
    ],
)
def test_rows(output, text, rows):
    keep = condition(output, text)
    for part in parts_of(output):
        assert keep(part).nonzero()[0].tolist() == list(rows)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("modul = 'json'", 'Referenced column "modul" not found'),
        ("module = json", 'Referenced column "json" not found'),
        ("embedding IS NULL", 'Referenced column "embedding" not found'),
        ("module =", "syntax error"),
        ("", "SELECT clause without selection list"),
        ("n = 1; DROP TABLE x", "modifiers"),
        ("n = 1, n = 2", "Expected a single expression"),
        ("n = 1) OR (1 = 1", "syntax error"),
        ("nothing(n) = 1", "nothing does not exist"),
        ("n > 'abc'", "Could not convert string 'abc'"),
    ],
)
def test_no_condition(output, text, reason):
    with pytest.raises(UsageError) as e:
        condition(output, text)
    said = str(e.value)
    assert said.startswith(f"--filter {text!r}: ")
    assert reason in said
    assert said.endswith("doc_id, tokens, tokens_dropped, source, position, fingerprint, module, n")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("COLUMNS('tokens.*') > 2", "has COLUMNS; name each column"),
        ("COLUMNS(*) IS NOT NULL", "has COLUMNS; name each column"),
        ("#9 = 3", "#9 of 8 columns; name the column"),
        ("__place__ = 3", 'Referenced column "__place__" not found'),
        ("doc_id IN (SELECT doc_id FROM numbered)", "Table with name numbered does not exist"),
    ],
)
def test_what_is_no_column_of_the_output(output, text, reason):
    with pytest.raises(UsageError, match="--filter ") as e:
        condition(output, text)
    assert reason in str(e.value)


def test_a_value_that_only_some_rows_have(output):
    keep = condition(output, "CAST(module AS INTEGER) = 1")
    with pytest.raises(UsageError, match="Could not convert string 'json'"):
        keep(parts_of(output)[0])


def test_a_field_named_as_a_column_of_other_vectors(tmp_path):
    """Rows of int8 have a column `scale`; those of float32 may have a field of this name."""
    kept = {"values": {"scale": 3}, "kept": [("scale", "int64")]}
    output = open_output(str(outputs.make(tmp_path / "out", shards=1, per_shard=4, **kept).path))
    [part] = parts_of(output)
    assert condition(output, "scale = 3")(part).tolist() == [False, True, False, True]
