"""Options: values, defaults, and the two ways to give them."""

import argparse
import dataclasses
import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.job import Job
from pipeline.options.arguments import add_embed_arguments, in_flags
from pipeline.options.fields import stated
from pipeline.options.options import (
    GROUPS,
    RECORDED,
    Options,
    PayloadOptions,
    most_dead_letters,
    size,
)
from transforms.encoder.config import ModelConfig
from transforms.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def options(**given):
    return Options(**({"input": "in", "output": "out"} | given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": ()}, "--input is empty"),
        ({"input": ("a", "")}, "--input is empty"),
        ({"output": ""}, "--output is empty"),
        ({"input_format": "xml"}, "--input-format xml: expected one of auto, "),
        ({"output_format": "csv"}, "--output-format csv: expected one of parquet, tfrecord"),
        ({"vector_dtype": "float64"}, "--vector-dtype float64: expected one of float32, float16, "),
        ({"long_documents": "drop"}, "--long-documents drop: expected one of mean, truncate, chunks"),
        ({"limit": 0}, "--limit 0: expected a number of 1 or more"),
        ({"max_tokens": -1}, "--max-tokens -1: expected a number of 1 or more"),
        ({"batch_tokens": 0}, "--batch-tokens 0: expected a number of 1 or more"),
        ({"shard_bytes": 0}, "--shard-bytes 0: expected a number of 1 or more"),
        ({"chunk_overlap": -1}, "--chunk-overlap -1: expected a number of 0 or more"),
        ({"worker_gpus": -1}, "--worker-gpus -1: expected a number of 0 or more"),
        ({"tfrecord_gzip": True}, "--tfrecord-gzip needs --output-format tfrecord"),
        ({"keep_field": ["a", "b", "a"]}, "--keep-field a is given twice"),
        ({"max_dead_letters": "some"}, "--max-dead-letters some: expected a number like 10 or a percentage"),
    ],
)
def test_wrong_values(given, message):
    with pytest.raises(UsageError) as e:
        options(**given)
    assert in_flags(e.value).startswith(message)
    assert "\n" not in str(e.value)
    # In Python it has its Python name, in the text and for programs.
    name = message.removeprefix("--").partition(" ")[0].replace("-", "_")
    assert e.value.argument == name
    assert str(e.value).startswith(name)
    assert "--" not in str(e.value).replace("-1", "")


@pytest.mark.parametrize(
    ("message", "argument", "shown"),
    [
        ("text_field title: not there", "text_field", "--text-field title: not there"),
        ("no such file: x", "model", "--model no such file: x"),
        ("--flink_master x: no", None, "--flink_master x: no"),
        ("model m: name one with `model_output`", "model", "--model m: name one with --model-output"),
        ("x: see `embedbeam export`, `no_option`", None, "x: see `embedbeam export`, `no_option`"),
        ("input_format of x", "input", "--input input_format of x"),
    ],
)
def test_messages_in_flags(message, argument, shown):
    assert in_flags(UsageError(message, argument=argument)) == shown


def test_values_become_their_types():
    made = options(input="a", keep_field=["x", "y"], max_dead_letters=5, beam_args=["--temp_location=t"])
    assert made.input == ("a",)
    assert made.keep_field == ("x", "y")
    assert made.max_dead_letters == "5"
    assert made.beam_args == ("--temp_location=t",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.output = "other"


def test_python_and_options_agree():
    parameters = inspect.signature(pipeline.embed).parameters
    assert parameters.keys() == Options.fields()
    assert [n for n, p in parameters.items() if p.default is p.empty] == ["output", "input"]
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_type_checkers_know_the_signature(tmp_path):
    """A wrong type, an unknown and a missing option are errors, and paths may be Paths, one or several."""
    (tmp_path / "use.py").write_text(
        "from pathlib import Path\n"
        "import pipeline\n"
        "from pipeline.options.options import Options\n"
        "pipeline.embed(input=Path('a'), output=Path('b'), max_dead_letters=3, keep_field=['x'])\n"
        "pipeline.embed(input=['a', Path('b')], output='b', limit=3)\n"
        "pipeline.embed(input='a', output='b', limit='3')\n"
        "pipeline.embed(input='a', output='b', txt_field='3')\n"
        "pipeline.embed(input='a')\n"
        "names: tuple[str, ...] = Options(input='a', output='b').input\n"
        "wrong: int = Options(input='a', output='b').output\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", tmp_path / "use.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = [
        line.split(":")[1] for line in done.stdout.splitlines() if "use.py:" in line and ": error" in line
    ]
    assert found == ["6", "7", "8", "10"], done.stdout


def test_command_line_and_options_agree():
    parser = argparse.ArgumentParser()
    add_embed_arguments(parser)
    names = {action.dest for action in parser._actions} - {"help"}
    assert names == Options.fields() - {"beam_args"}
    parsed = parser.parse_args(["--input", "a", "--output", "b"])
    assert Options(**vars(parsed)) == Options(input=("a",), output="b")


def test_each_option_is_stated_once():
    names = [one.name for one in stated(*GROUPS)]
    assert sorted(names) == sorted(Options.fields())
    recorded = {one.name for one in stated(*RECORDED)}
    assert recorded < {field.name for field in dataclasses.fields(Job)}
    assert Options.fields() - recorded == {
        *("output", "skip_bad_files", "max_dead_letters", "overwrite", "dry_run", "runner", "reuse"),
        *("worker_gpus", "trace", "shared_filesystem", "quiet", "verbose", "beam_args"),
    }


def test_what_makes_the_models_input_is_told_to_the_model():
    fields = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    for one in stated(PayloadOptions):
        assert fields[one.name] == one.default


def test_the_page_of_options_is_made_of_them():
    text = (ROOT / "docs/options.md").read_text()
    found = runpy.run_path(str(ROOT / "tools/options_page.py"))
    assert found["tables"]() in text, "run `make docs`"
    assert text == found["page"](text), "run `make docs`"
    assert all(f"| `--{name.replace('_', '-')}`" in text for name in Options.fields() - {"beam_args"})


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
    with pytest.raises(UsageError, match="max_dead_letters"):
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
