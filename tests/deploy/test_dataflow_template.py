"""The Flex Template: its parameters are the options of `embed`, and come out as those."""

import argparse
import doctest
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.options.arguments import add_embed_arguments
from pipeline.options.options import Options

FOLDER = Path(__file__).resolve().parents[2] / "deploy/dataflow"
METADATA = json.loads((FOLDER / "metadata.json").read_text())
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
# Options of Beam that a template has.
BEAMS = {"sdk_container_image", "dataflow_service_options"}


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_metadata = load("make_metadata")
LEFT_OUT = make_metadata.LEFT_OUT


@pytest.fixture(scope="module")
def template():
    return load("template")


def actions():
    parser = argparse.ArgumentParser()
    add_embed_arguments(parser)
    return {action.dest: action for action in parser._actions}


def test_the_file_is_made_of_the_options():
    assert (FOLDER / "metadata.json").read_text() == make_metadata.metadata(), "run `make docs`"


def test_every_option_is_a_parameter_or_left_out_for_a_reason():
    assert len(PARAMETERS) == len(METADATA["parameters"])
    assert PARAMETERS.keys() | LEFT_OUT.keys() == Options.fields() | BEAMS
    assert not PARAMETERS.keys() & LEFT_OUT.keys()


def test_types_choices_and_defaults_are_those_of_the_options():
    for name, action in actions().items():
        if name not in PARAMETERS:
            continue
        found = PARAMETERS[name]
        assert found["isOptional"] is not action.required, name
        choices = [option["value"] for option in found.get("enumOptions", [])]
        assert choices == list(action.choices or []), name
        if choices:
            assert found["paramType"] == "ENUM"
            assert found["regexes"] == [f"^({'|'.join(choices)})$"]
        assert (found["paramType"] == "BOOLEAN") == (action.nargs == 0), name
        assert (found["paramType"] == "NUMBER") == (action.type is int), name
        default = {"True": "true", "False": "false"}.get(str(getattr(Options, name, None)))
        default = default or str(getattr(Options, name, None))
        assert found.get("defaultValue", "None" if default in ("None", "()") else None) == (
            "None" if default == "()" else default
        ), name


def test_every_parameter_explains_itself():
    keys = {"name", "label", "helpText", "paramType", "isOptional", "groupName", "regexes"}
    for name, found in PARAMETERS.items():
        assert keys <= found.keys() <= keys | {"defaultValue", "enumOptions"}, name
        assert found["helpText"].endswith(".") or ". Example: " in found["helpText"] or name == "input"
        assert re.fullmatch("[a-z_]+", name)
        if "defaultValue" in found:
            assert all(re.fullmatch(regex, found["defaultValue"]) for regex in found["regexes"]), name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "input",
            ["gs://b/docs/*.jsonl", "gs://b/a;gs://b/c d"],
            ["/local/a", "gs://b", "gs://b/a;", "s3://b/a"],
        ),
        ("output", ["gs://b/out"], ["gs://b", "gs://b/", "out", "/out"]),
        (
            "model",
            ["minilm", "gs://b/m", "https://example.com/m.tar.gz"],
            ["http://a/m", "https://u:p@h/m", "m"],
        ),
        ("keep_field", ["title", "title;lang"], ["title;", ""]),
        ("limit", ["1", "100"], ["0", "-1", "1.5", ""]),
        ("chunk_overlap", ["0", "32"], ["-1"]),
        ("shard_bytes", ["64MiB", "1000000", "8 MB"], ["64 apples", ""]),
        ("max_dead_letters", ["10", "1%", "0.5%", "100%"], ["101%", "1.5", "%"]),
        ("keep_text", ["true", "false"], ["yes", "True"]),
        ("sdk_container_image", ["eu-docker.pkg.dev/p/r/embedbeam:0.1.0"], ["embedbeam", "gs://b/i"]),
        (
            "dataflow_service_options",
            ["worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"],
            ["nvidia-tesla-t4", "worker_accelerator=type:nvidia-tesla-t4;count:2;install-nvidia-driver"],
        ),
    ],
)
def test_patterns(name, good, bad):
    (regex,) = PARAMETERS[name]["regexes"]
    assert [value for value in good if not re.fullmatch(regex, value)] == []
    assert [value for value in bad if re.fullmatch(regex, value)] == []


def test_shard_bytes_pattern_takes_what_the_option_takes():
    from pipeline.options.values import size

    (regex,) = PARAMETERS["shard_bytes"]["regexes"]
    for text in ("123", "10k", "10kb", "64MiB", "64 MiB", "1g", "1GiB"):
        assert re.fullmatch(regex, text)
        assert size(text) > 0


def test_parameters_become_the_command(template):
    given = [
        "--input=gs://b/a*;gs://b/c",
        "--output=gs://b/out",
        "--keep_field=title;lang",
        "--keep_text=true",
        "--overwrite=false",
        "--limit=",
        "--input_format=jsonl",
        "--runner=DataflowRunner",
        "--project=p",
        "--experiments=a,b",
    ]
    assert template.command(given, {"EMBEDBEAM_WORKER_IMAGE": "r/i:1"}) == [
        "--input=gs://b/a*",
        "--input=gs://b/c",
        "--output=gs://b/out",
        "--keep-field=title",
        "--keep-field=lang",
        "--keep-text",
        "--input-format=jsonl",
        "--runner=DataflowRunner",
        "--project=p",
        "--experiments=a,b",
        "--sdk_container_image=r/i:1",
    ]


def test_another_worker_image_wins(template):
    given = ["--sdk_container_image=r/other:2"]
    assert template.command(given, {"EMBEDBEAM_WORKER_IMAGE": "r/i:1"}) == given


def test_every_parameter_reaches_embed(template):
    """With a value of each, the parser of `embed` takes them all, and nothing of ours is left for Beam."""
    values = {"BOOLEAN": "true", "NUMBER": "7", "TEXT": "x", "GCS_WRITE_FOLDER": "gs://b/out"}
    own = {name: found for name, found in PARAMETERS.items() if name not in BEAMS}

    def value(found):
        given = found.get("enumOptions", [{}])[-1].get("value") or values[found["paramType"]]
        fits = all(re.fullmatch(regex, given) for regex in found.get("regexes", []))
        return given if fits else "0.5"

    given = [f"--{name}={value(found)}" for name, found in own.items() if name != "shard_bytes"]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_embed_arguments(parser)
    parsed, rest = parser.parse_known_args(template.command([*given, "--shard_bytes=64MiB"], {}))
    assert rest == []
    assert vars(parsed).keys() == own.keys()
    assert (parsed.keep_field, parsed.keep_text, parsed.shard_bytes) == (["x"], True, 64 << 20)


def test_a_flag_that_is_neither(template):
    with pytest.raises(SystemExit, match="parameter keep_text=maybe: expected true or false"):
        template.command(["--keep_text=maybe"], {})


def test_doctest(template):
    assert doctest.testmod(template).failed == 0


def test_the_file_runs_the_job_as_the_launcher_starts_it(tmp_path, model):
    """The same file on the local runner: the process that the launcher starts, and rows at its end."""
    (tmp_path / "a.jsonl").write_text('{"text": "one two", "lang": "en"}\n{"text": "three", "lang": "de"}\n')
    given = [f"--input={tmp_path}/a.jsonl", f"--output={tmp_path}/out", f"--model={model}"]
    given += ["--keep_field=lang", "--keep_text=true", "--limit=", "--quiet=true"]
    done = subprocess.run(
        [sys.executable, FOLDER / "template.py", *given],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent.parent)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [(row["text"], row["lang"]) for row in rows] == [("one two", "en"), ("three", "de")]
