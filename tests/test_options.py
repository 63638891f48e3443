"""Options: values, defaults, and the two ways to give them."""

import argparse
import dataclasses

import pytest

from pipeline.options.options import Options, OptionsDict, add_embed_arguments, most_dead_letters, size
from transforms.errors import UsageError


def options(**given):
    return Options(**({"input": "in", "output": "out"} | given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": ()}, "--input is empty"),
        ({"input": ("a", "")}, "--input is empty"),
        ({"output": ""}, "--output is empty"),
        ({"input_format": "xml"}, "--input-format xml: expected one of auto, lines, txt, jsonl"),
        ({"output_format": "csv"}, "--output-format csv: expected one of parquet, tfrecord"),
        ({"vector_dtype": "int8"}, "--vector-dtype int8: expected one of float32, float16"),
        ({"long_documents": "drop"}, "--long-documents drop: expected one of mean, truncate, chunks"),
        ({"limit": 0}, "--limit 0: expected a number of 1 or more"),
        ({"max_tokens": -1}, "--max-tokens -1: expected a number of 1 or more"),
        ({"batch_tokens": 0}, "--batch-tokens 0: expected a number of 1 or more"),
        ({"shard_bytes": 0}, "--shard-bytes 0: expected a number of 1 or more"),
        ({"chunk_overlap": -1}, "--chunk-overlap -1: expected 0 or more tokens"),
        ({"tfrecord_gzip": True}, "--tfrecord-gzip needs --output-format tfrecord"),
        ({"keep_field": ["a", "b", "a"]}, "--keep-field a is given twice"),
        ({"max_dead_letters": "some"}, "--max-dead-letters some: expected a number like 10 or a percentage"),
    ],
)
def test_wrong_values(given, message):
    with pytest.raises(UsageError) as e:
        options(**given)
    assert str(e.value).startswith(message)
    assert "\n" not in str(e.value)


def test_values_become_their_types():
    made = options(input="a", keep_field=["x", "y"], max_dead_letters=5, beam_args=["--temp_location=t"])
    assert made.input == ("a",)
    assert made.keep_field == ("x", "y")
    assert made.max_dead_letters == "5"
    assert made.beam_args == ("--temp_location=t",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.output = "other"


def test_python_and_options_agree():
    assert set(OptionsDict.__annotations__) == Options.fields() - {"input", "output"}


def test_command_line_and_options_agree():
    parser = argparse.ArgumentParser()
    add_embed_arguments(parser)
    names = {action.dest for action in parser._actions} - {"help"}
    assert names == Options.fields() - {"beam_args"}
    parsed = parser.parse_args(["--input", "a", "--output", "b"])
    assert Options(**vars(parsed)) == Options(input=("a",), output="b")


@pytest.mark.parametrize(
    ("limit", "documents", "most"),
    [
        ("1%", 0, 0),
        ("1%", 99, 0),
        ("1%", 100, 1),
        ("1%", 199, 1),
        ("0.5%", 1000, 5),
        ("0.29%", 10_000, 29),  # floats would make 28 of it
        ("0.07%", 100_000, 70),
        ("100%", 7, 7),
        ("0%", 7, 0),
        ("0", 7, 0),
        ("12", 7, 12),
        (" 12 ", 7, 12),
    ],
)
def test_most_dead_letters(limit, documents, most):
    assert most_dead_letters(limit, documents) == most


@pytest.mark.parametrize("limit", ["", "%", "-1", "1.5", "101%", "1 %%", "ten", "1e3", "nan%"])
def test_wrong_dead_letter_limits(limit):
    with pytest.raises(UsageError, match="--max-dead-letters"):
        most_dead_letters(limit, 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("10k", 10_000), ("10 KB", 10_000), ("2MiB", 2 << 20), ("1g", 10**9), ("3Gi", 3 << 30)],
)
def test_sizes(text, expected):
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5M", "1T", "MiB"])
def test_wrong_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected bytes"):
        size(text)
