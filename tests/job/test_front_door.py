"""The console script in fresh processes: what a test's own warm process would hide.

A format that is added joins the matrix by its entry in the registry; it needs a writer of sample files here.
"""

import csv
import io
import json
import re
import sys
import tarfile
from pathlib import Path

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compressed import COMPRESS
from jobs import expected_vector, run, write_jsonl

from transforms.formats.compression import SUFFIXES
from transforms.formats.registry import EXTENSIONS

EMBEDBEAM = Path(sys.executable).parent / "embedbeam"
SAMPLES = [
    {"id": "first", "text": "one text", "n": 1},
    {"id": "second", "text": '日本語, with a comma and "quotes"', "n": -2},
    {"id": "third", "text": "the third of them is longer than the others are", "n": 300},
]


def lines_bytes(samples):
    return "".join(f"{sample['text']}\n" for sample in samples).encode()


def delimited_bytes(samples, delimiter):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["id", "text", "n"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(samples)
    return stream.getvalue().encode()


def parquet_bytes(samples):
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(samples), stream)
    return stream.getvalue().to_pybytes()


def tfrecord_bytes(samples):
    from tfrecords import example, frame

    return b"".join(frame(example(**sample)) for sample in samples)


def wet_bytes(samples):
    from warcs import wet

    return b"".join(wet(sample["id"], sample["text"], n=str(sample["n"])) for sample in samples)


def warc_bytes(samples):
    from warcs import page, response, warcinfo

    pages = (response(sample["id"], page(sample["text"]), n=str(sample["n"])) for sample in samples)
    return b"".join([warcinfo(), *pages])


def tar_bytes(samples):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for sample in samples:
            for extension, data in (("txt", sample["text"]), ("json", json.dumps({"n": sample["n"]}))):
                info = tarfile.TarInfo(f"{sample['id']}.{extension}")
                info.size = len(data.encode())
                archive.addfile(info, io.BytesIO(data.encode()))
    return stream.getvalue()


# Format -> the bytes of a file with some samples. A txt file is one document.
WRITERS = {
    "lines": lines_bytes,
    "txt": lambda samples: samples[0]["text"].encode(),
    "jsonl": lambda samples: "".join(json.dumps(sample) + "\n" for sample in samples).encode(),
    "csv": lambda samples: delimited_bytes(samples, ","),
    "tsv": lambda samples: delimited_bytes(samples, "\t"),
    "parquet": parquet_bytes,
    "tfrecord": tfrecord_bytes,
    "wet": wet_bytes,
    "warc": warc_bytes,
    "tar": tar_bytes,
}
FORMATS = [format for format in EXTENSIONS if format not in ("image", "audio")]  # these hold no text
NO_FIELDS = {"lines", "txt"}
STRINGS_ONLY = {"csv", "tsv", "wet", "warc"}  # their kept fields have no other type
OWN_IDS = {"wet", "warc", "tar"}


def codecs(format):
    """The suffixes of compression that a format's files may have; "" for none."""
    plain = EXTENSIONS[format][0]
    endings = [name.removeprefix(plain) for name in EXTENSIONS[format] if name.startswith(plain)]
    return [ending for ending in endings if ending in ("", *SUFFIXES)]


def test_every_format_and_every_codec_has_its_samples():
    assert set(FORMATS) == set(WRITERS), "a format has no sample writer here: add one to WRITERS"
    assert {"", *SUFFIXES} == set(COMPRESS), "a codec has no function here: add one to COMPRESS"
    assert {codec for format in EXTENSIONS for codec in codecs(format)} == set(COMPRESS)


def write_samples(folder, format, codec, word):
    """Writes a file of samples (for txt a file each), told apart by a word; returns the rows to expect.

    Returns:
      Rows by id: text, and the kept n where the format has fields.
    """
    samples = [s | {"id": f"{s['id']}-{word}", "text": f"{s['text']} {word}"} for s in SAMPLES]
    folder.mkdir(parents=True, exist_ok=True)
    groups = [[sample] for sample in samples] if format == "txt" else [samples]
    rows = {}
    for number, group in enumerate(groups):
        name = f"{word}{number}{EXTENSIONS[format][0]}{codec}"
        (folder / name).write_bytes(COMPRESS[codec](WRITERS[format](group)))
        offset = 0
        for sample in group:
            if format == "txt":
                doc_id = name
            elif format == "lines":
                doc_id = f"{name}:{offset}"
                offset += len(sample["text"].encode()) + 1
            else:
                doc_id = sample["id"]
            kept = str(sample["n"]) if format in STRINGS_ONLY else sample["n"]
            rows[doc_id] = (sample["text"], None if format in NO_FIELDS else kept)
    return rows


def read_rows(output):
    """Rows of an output of either format by id: text, kept n or None, vector."""
    paths = sorted(output.glob("part-*"))
    if paths[0].suffix == ".parquet":
        found = [row for path in paths for row in pq.read_table(path).to_pylist()]
        return {row["doc_id"]: (row["text"], row.get("n"), row["embedding"]) for row in found}
    import tensorflow as tf

    rows = {}
    for path in paths:
        gzipped = "GZIP" if path.suffix == ".gz" or path.read_bytes()[:2] == b"\x1f\x8b" else ""
        for record in tf.data.TFRecordDataset(str(path), gzipped):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            text, doc_id = (feature[name].bytes_list.value[0].decode() for name in ("text", "doc_id"))
            n = feature["n"] if "n" in feature else tf.train.Feature()
            numbers = [*n.int64_list.value, *(value.decode() for value in n.bytes_list.value)]
            vector = feature["embedding"]
            half = [np.frombuffer(value, np.float16) for value in vector.bytes_list.value]
            rows[doc_id] = (
                text,
                numbers[0] if numbers else None,
                half[0] if half else vector.float_list.value,
            )
    return rows


def check_rows(output, expected):
    found = read_rows(output)
    assert {doc_id: row[:2] for doc_id, row in found.items()} == expected
    for text, _, vector in found.values():
        np.testing.assert_allclose(vector, expected_vector(text), atol=1e-6)


def embed_samples(folder, model, format, output_format):
    fields = [] if format in NO_FIELDS else ["--keep-field=n"]
    fields += [] if format in NO_FIELDS | OWN_IDS else ["--id-field=id"]
    flags = [f"--output-format={output_format}", f"--model={model}", "--keep-text", "--quiet", *fields]
    done = run(EMBEDBEAM, "embed", f"--input={folder / 'in'}", f"--output={folder / 'out'}", *flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


OUTPUTS = ("parquet", "tfrecord")


def alone(number, format):
    """A format as it is, and in one codec, each in turn: what they need is loaded by a single file of theirs.

    Where a format has one codec the job over all of them is the same.
    """
    first, *packed = codecs(format)
    chosen = [first, packed[number % len(packed)]] if packed else []
    return [(format, codec, OUTPUTS[(number + i) % 2]) for i, codec in enumerate(chosen)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "codec", "output_format"), [row for i, name in enumerate(FORMATS) for row in alone(i, name)]
)
def test_a_file_alone(tmp_path, model, format, codec, output_format):
    expected = write_samples(tmp_path / "in", format, codec, "alone")
    embed_samples(tmp_path, model, format, output_format)
    check_rows(tmp_path / "out", expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "output_format"), [(name, OUTPUTS[i % 2]) for i, name in enumerate(FORMATS)]
)
def test_all_codecs_of_a_format(tmp_path, model, format, output_format):
    expected = {}
    for codec in codecs(format):
        expected |= write_samples(tmp_path / "in", format, codec, f"codec{codec.lstrip('.')}")
    embed_samples(tmp_path, model, format, output_format)
    check_rows(tmp_path / "out", expected)


LONG = " ".join(f"word{i}" for i in range(40))  # the model's window is 16 words


def write_odd(folder):
    """A long document, one that the model refuses, one that is no JSON, and a short one."""
    records = [{"id": "long", "text": LONG}, {"id": "refused", "text": "a POISON text"}, "{broken"]
    write_jsonl(folder / "a.jsonl", [*records, {"id": "short", "text": "a short text"}])


def embed_odd(folder, model, *flags):
    write_odd(folder)
    more = ["--id-field=id", "--keep-text", "--max-dead-letters=2", "--quiet", *flags]
    done = run(
        EMBEDBEAM, "embed", f"--input={folder}/a.jsonl", f"--output={folder}/out", f"--model={model}", *more
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    letters = {letter["doc_id"]: letter for letter in jobs.letters(folder / "out")}
    at = len(f"{json.dumps({'id': 'long', 'text': LONG})}\n") + len(
        '{"id": "refused", "text": "a POISON text"}\n'
    )
    assert set(letters) == {"refused", f"a.jsonl:{at}"}
    assert letters["refused"]["payload"] == "a POISON text"
    assert letters[f"a.jsonl:{at}"]["payload"] == "{broken"
    return folder / "out"


@pytest.mark.slow
def test_chunks_as_float16_beside_dead_letters(tmp_path, model):
    flags = ["--long-documents=chunks", "--chunk-overlap=0", "--vector-dtype=float16"]
    output = embed_odd(tmp_path, model, *flags)
    rows = jobs.rows(output)
    assert [(row["doc_id"], row["chunk"]) for row in rows] == [
        ("long", 0),
        ("long", 1),
        ("long", 2),
        ("short", 0),
    ]
    assert " ".join(row["text"].strip() for row in rows[:3]) == LONG
    assert all(LONG[row["start"] : row["end"]] == row["text"] for row in rows[:3])
    for row in rows:
        np.testing.assert_allclose(row["embedding"], expected_vector(row["text"]), atol=1e-3)
    assert pq.read_schema(next(output.glob("part-*"))).field("embedding").type == pa.list_(
        pa.field("item", pa.float16(), nullable=False), 8
    )


@pytest.mark.slow
def test_truncate_to_gzip_tfrecord_beside_dead_letters(tmp_path, model):
    flags = ["--long-documents=truncate", "--output-format=tfrecord", "--tfrecord-gzip"]
    output = embed_odd(tmp_path, model, *flags)
    assert [path.read_bytes()[:2] for path in output.glob("part-*")] == [b"\x1f\x8b"]
    rows = read_rows(output)
    assert {doc_id: row[0] for doc_id, row in rows.items()} == {"long": LONG, "short": "a short text"}
    np.testing.assert_allclose(rows["short"][2], expected_vector("a short text"), atol=1e-6)
    assert jobs.manifest(output)["tokens_dropped"] == 40 - 16


def test_commands_on_a_finished_output(copy_of):
    """status, verify and finish, each in a process that has loaded nothing."""
    status = run(EMBEDBEAM, "status", copy_of)
    assert (status.returncode, status.stderr) == (0, "")
    assert "documents   300 committed" in status.stdout.splitlines()
    verify = run(EMBEDBEAM, "verify", copy_of)
    assert (verify.returncode, verify.stderr) == (0, "")
    before = jobs.files(copy_of)
    (copy_of / "_SUCCESS").unlink()
    finish = run(EMBEDBEAM, "finish", copy_of, "--max-dead-letters=10%")
    assert (finish.returncode, finish.stderr) == (0, "")
    assert finish.stdout.startswith("embedded 291 of 300 documents into 291 rows of 8 float32 numbers")
    assert (copy_of / "_SUCCESS").exists()
    assert jobs.files(copy_of) == before


def test_a_damaged_part_is_told(copy_of):
    part = next(copy_of.glob("part-*"))
    part.write_bytes(part.read_bytes()[:-9])
    verify = run(EMBEDBEAM, "verify", copy_of)
    assert verify.returncode == 1
    assert part.name in verify.stdout + verify.stderr


def test_version():
    for command in ([EMBEDBEAM], [sys.executable, "-m", "pipeline"]):
        done = run(*command, "--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"embedbeam \d+\.\d+\.\d+\S*\n", done.stdout)


def test_dry_run(tmp_path, model):
    write_odd(tmp_path)
    flags = ["--dry-run", f"--model={model}", "--keep-field=id"]
    done = run(EMBEDBEAM, "embed", f"--input={tmp_path}/a.jsonl", f"--output={tmp_path}/out", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bytes      {(tmp_path / 'a.jsonl').stat().st_size:,}" in done.stdout.splitlines()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_export_and_inspect(tmp_path):
    from checkpoints import write_checkpoint

    write_checkpoint(tmp_path / "checkpoint")
    export = run(EMBEDBEAM, "export", tmp_path / "checkpoint", tmp_path / "model")
    assert export.returncode == 0, export.stderr
    lines = [f"wrote {tmp_path}/model", "family      bert", "dim         32", "max tokens  10"]
    lines += ["pooling     mean, then length 1", "precision   float32", "tokenizer   in the graph"]
    assert export.stdout.splitlines() == lines
    inspect = run(EMBEDBEAM, "inspect", tmp_path / "model")
    assert (inspect.returncode, inspect.stderr) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in inspect.stdout.splitlines() if not line.startswith("max"))
    assert shown["dim"] == "32"
    assert shown["dtype"] == "float32"
