"""What the first look at the input tells: fields that exist, types of kept fields, files of no known kind."""

import json

import jobs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.options.options import Options
from pipeline.plan.kept import take_sample
from pipeline.plan.plan import make_plan
from transforms.errors import UsageError


def types(tmp_path, records, *keep, **options):
    path = jobs.write_jsonl(tmp_path / "in" / "k.jsonl", records)
    chosen = Options(input=str(path), output=str(tmp_path / "out"), keep_field=keep, **options)
    plan = make_plan(chosen)
    return dict(take_sample(plan, chosen).kept)


def test_every_value_of_a_small_input_has_a_say(tmp_path):
    ints = [{"text": "t", "n": 1} for _ in range(500)]
    assert types(tmp_path, ints, "n") == {"n": "int64"}
    assert types(tmp_path, [*ints, {"text": "t", "n": 0.5}], "n") == {"n": "double"}
    nulls = [{"text": "t", "n": None} for _ in range(300)]
    assert types(tmp_path, [*nulls, {"text": "t", "n": True}], "n") == {"n": "bool"}


def test_a_parquet_file_without_rows_states_its_types(tmp_path):
    (tmp_path / "in").mkdir()
    columns = pa.schema([("text", pa.string()), ("n", pa.int64())])
    pq.write_table(columns.empty_table(), tmp_path / "in" / "1.parquet")
    options = Options(input=str(tmp_path / "in"), output=str(tmp_path / "out"), keep_field=("n",))
    assert dict(take_sample(make_plan(options), options).kept) == {"n": "int64"}
    pq.write_table(pa.table({"text": ["a"], "n": ["one"]}), tmp_path / "in" / "2.parquet")
    with pytest.raises(UsageError, match=r"--keep-field n: int64 \(1.parquet.*\) and string \(2.parquet"):
        take_sample(make_plan(options), options)


def test_mixed_types_are_an_error_that_names_both(tmp_path):
    records = [{"text": "t", "n": 1}, {"text": "t", "n": "one"}]
    says = r"--keep-field n: int64 \(k.jsonl at 0\) and string \(k.jsonl at 22\); a column has one type"
    with pytest.raises(UsageError, match=says):
        types(tmp_path, records, "n")


def test_a_field_that_is_nowhere(tmp_path):
    with pytest.raises(UsageError, match="--keep-field nn: has no value in any of the 1 records"):
        types(tmp_path, [{"text": "t", "n": 1}], "nn")


def test_text_field_that_is_missing_everywhere(tmp_path):
    says = "missing field 'text', and so in all 2 records looked at; name the right one with --text-field"
    with pytest.raises(UsageError, match=says):
        types(tmp_path, [{"body": "a"}, {"body": "b"}])


def test_bad_texts_are_no_missing_field(tmp_path):
    assert types(tmp_path, [{"text": None}, {"text": 5}, {"x": 1}]) == {}


def test_plain_text_has_no_ids(tmp_path):
    (tmp_path / "a.txt").write_text("a text")
    options = Options(input=str(tmp_path / "a.txt"), output=str(tmp_path / "out"), id_field="id")
    with pytest.raises(UsageError, match="--id-field id: the input is plain text"):
        take_sample(make_plan(options), options)


def test_new_and_unknown_files_are_named(tmp_path, model, capfd):
    from pipeline import embed

    folder, output = tmp_path / "in", tmp_path / "out"
    jobs.write_jsonl(folder / "a.jsonl", jobs.documents(3))
    (folder / "notes.xyz").write_text("?")
    embed(input=str(folder), output=str(output), model=model)
    assert "not read: 1 files of unknown kind, e.g. " + str(folder / "notes.xyz") in capfd.readouterr().err
    jobs.write_jsonl(folder / "b.jsonl", jobs.documents(2))
    assert embed(input=f"file://{folder}", output=str(output), model=model).documents == 3
    said = capfd.readouterr().err
    assert f"1 files came after the plan was made and are not embedded, e.g. {folder / 'b.jsonl'}" in said


def test_dry_run_of_compressed_files_counts_about_right(tmp_path, capsys):
    import gzip

    from pipeline.cli import main

    lines = "".join(json.dumps({"text": f"document {i} " + "word " * (i % 20)}) + "\n" for i in range(20_000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert main(["embed", f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--dry-run"]) == 0
    text = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("documents"))
    assert 10_000 < int(text.split()[2].replace(",", "")) < 40_000


def test_types_of_a_column_are_decided_together(tmp_path):
    """What an Example does not tell from record to record: text or bytes, one value or a list of one."""
    from tfrecords import example, frame

    rows = [{"raw": b"text", "tags": "a", "word": "a"} for _ in range(100)]
    rows += [{"raw": b"\xff", "tags": ["a", "b"], "word": "b"}]
    (tmp_path / "in").mkdir()
    data = b"".join(frame(example(text="t", **row)) for row in rows)
    (tmp_path / "in" / "a.tfrecord").write_bytes(data)
    chosen = Options(input=f"{tmp_path}/in", output=str(tmp_path / "out"), keep_field=("raw", "tags", "word"))
    plan = make_plan(chosen)
    found = take_sample(plan, chosen).kept
    assert found == (("raw", "binary"), ("tags", "json"), ("word", "string"))


def test_a_look_at_compressed_input_holds_none_of_it(tmp_path):
    """7 MB of gz that are 256 MB of records, looked at as a whole."""
    import gzip
    import subprocess
    import sys

    (tmp_path / "in").mkdir()
    lines = "".join(json.dumps({"text": "word " * 200, "n": i}) + "\n" for i in range(4000)).encode()
    with gzip.open(tmp_path / "in" / "a.jsonl.gz", "wb", compresslevel=1) as file:
        for _ in range(24):
            file.write(lines)
    code = f"""
from pipeline.options.options import Options
from pipeline.plan.kept import take_sample
from pipeline.plan.plan import make_plan
import pyarrow, pyarrow.compute, pyarrow.parquet, orjson, transforms.steps.documents
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
chosen = Options(input={str(tmp_path / "in")!r}, output="/nowhere/out", keep_field=("n",))
before = peak()
plan = make_plan(chosen)
sample = take_sample(plan, chosen)
print(sample.kept, sample.documents, peak() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *found, grown = ran.stdout.split()
    assert " ".join(found) == "(('n', 'int64'),) 96000"
    assert int(grown) < 80  # MiB; all records together took 300
