"""Files of an output that cannot be read: every command that reads rows names the file, in one line."""

import errno
import os
import sys
from pathlib import Path

import jobs
import outputs
import pytest

from transforms.errors import DamagedPart, UsageError
from transforms.output.damaged import reading
from transforms.output.folder import Folder
from transforms.output.reader import open_output

SCRIPT = Path(sys.executable).with_name("embedbeam")
FOLDER = Folder("/out")


def damaged(path, how=lambda data: b"x" * len(data), **options):
    """An output with one part that is damaged, and its name."""
    made = outputs.make(path, **options)
    name = open_output(str(path)).receipts[1].part
    part = made.path / name
    if how is None:
        part.unlink()
    else:
        part.write_bytes(how(part.read_bytes()))
    return name


PARQUET = (
    "Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file"
)


@pytest.mark.parametrize(
    ("how", "options", "reason"),
    [
        (lambda data: b"x" * len(data), {}, PARQUET),
        (lambda data: data[: len(data) // 2], {}, PARQUET),
        (lambda data: b"", {}, "Parquet file size is 0 bytes"),
        (None, {}, "No such file or directory"),
        (
            lambda data: data[:-3],
            {"output_format": "tfrecord"},
            "at ",
        ),
        (
            lambda data: b"x" * len(data),
            {"output_format": "tfrecord"},
            "at 0: wrong checksum of a record's length: damaged, or not a TFRecord file",
        ),
        (
            lambda data: data[: len(data) // 2],
            {"output_format": "tfrecord", "tfrecord_gzip": True},
            "",
        ),
    ],
)
def test_the_reader_names_the_part(tmp_path, how, options, reason):
    name = damaged(tmp_path / "out", how, **options)
    with pytest.raises(DamagedPart) as e:
        list(open_output(str(tmp_path / "out")).rows(["doc_id"]))
    assert str(e.value).startswith(f"{name}: cannot be read: {reason}"), e.value
    assert str(e.value).endswith(f"; `embedbeam verify {tmp_path}/out` tells more")
    assert (e.value.name, "\n" in str(e.value), name in e.value.reason) == (name, False, False)


def test_letters_too(tmp_path):
    outputs.make(tmp_path)
    output = open_output(str(tmp_path))
    [name] = sorted(os.listdir(tmp_path / "_dead_letters"))[:1]
    (tmp_path / "_dead_letters" / name).write_text("{")
    with pytest.raises(DamagedPart, match=rf"^_dead_letters/{name}: cannot be read: .*; `embedbeam verify"):
        list(output.dead_letters())


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), ConnectionResetError(), MemoryError(), UsageError("no such")],
)
def test_what_says_nothing_of_the_file_passes(error):
    with pytest.raises(type(error)) as e, reading(FOLDER, "part-1"):
        raise error
    assert e.value is error


def test_an_error_of_who_reads_the_rows_is_his(tmp_path):
    outputs.make(tmp_path)

    def read():
        for _ in open_output(str(tmp_path)).rows(["doc_id"]):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        read()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("diff", "good", "bad"),
        ("diff", "bad", "good", "--to=changes.parquet"),
        ("compare", "good", "bad", "--sample=5", "--k=2"),
        ("neighbors", "bad", "{doc_id}", "--k=2"),
        ("map", "bad", "--to=here"),
        ("cluster", "bad", "--k=2", "--to=here"),
        ("projector", "bad", "--to=here"),
    ],
)
def test_commands_say_it_in_a_line(tmp_path, command):
    made = outputs.make(tmp_path / "good", **outputs.JOB)
    name = damaged(tmp_path / "bad", **outputs.JOB)
    doc_id = made.rows[made.shards[0]][0].doc_id
    done = jobs.run(SCRIPT, *(one.format(doc_id=doc_id) for one in command), cwd=tmp_path)
    expected = f"error: {name}: cannot be read: {PARQUET}; `embedbeam verify bad` tells more\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"embedbeam: {expected}")
    assert not (tmp_path / "changes.parquet").exists()


def test_verify_does_not_send_to_itself(tmp_path, cli):
    """A part that is as its receipt says, and that no reader can read, is one defect."""
    import hashlib

    from transforms.output import layout

    name = damaged(tmp_path / "bad", **outputs.JOB)
    data = (tmp_path / "bad" / name).read_bytes()
    receipt = tmp_path / "bad" / layout.receipt(layout.shard_of_part(name))
    old = next(one for one in jobs.receipts(tmp_path / "bad") if one["part"] == name)
    receipt.write_text(receipt.read_text().replace(old["part_sha256"], hashlib.sha256(data).hexdigest()))
    code, out, err = cli("verify", tmp_path / "bad")
    assert (code, err) == (1, "")
    assert out.splitlines() == [f"defect: {name}: cannot be read: {PARQUET}", f"{tmp_path}/bad: 1 defects"]
