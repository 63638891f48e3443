"""Recordings and tables through the real command: every format, both sinks, dead letters, a kill."""

from __future__ import annotations

import functools
import io
import json
import signal
import tarfile
from pathlib import Path

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
import tables
import tensorflow as tf

from transforms.output.reader import open_output

COUNT = 12


@pytest.fixture(scope="module")
def sound_model(tmp_path_factory):
    return sounds.save(sounds.Yamnet(), tmp_path_factory.mktemp("sound") / "m")


@pytest.fixture(scope="module")
def table_model(tmp_path_factory):
    return tables.features_model(tmp_path_factory.mktemp("table") / "m")


@functools.cache  # the serial number of an Ogg stream is a new one each time
def recordings():
    """Names and bytes; two of them are no recordings."""
    kinds = [("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"), ("mp3", "MP3")]
    made = {}
    for i in range(COUNT):
        extension, kind = kinds[i % 4]
        rate = (16_000, 22_050, 44_100)[i % 3]
        samples = sounds.wave(1 + 0.4 * i, rate, seed=i, channels=1 + i % 2)
        made[f"s{i:02d}.{extension}"] = sounds.encoded(samples, rate, kind)
    return made | {"bad.wav": made["s00.wav"][:9000], "text.mp3": b"no sound"}


def write_recordings(folder, kind):
    folder.mkdir()
    found = recordings()
    if kind == "audio":
        for name, data in found.items():
            (folder / name).write_bytes(data)
    elif kind == "parquet":
        table = pa.table({"id": list(found), "audio": pa.array(found.values(), pa.binary())})
        pq.write_table(table, folder / "a.parquet", row_group_size=5)
    elif kind == "tar":
        with tarfile.open(folder / "a.tar", "w") as tar:
            for name, data in found.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
            for name, data in found.items():
                features = {
                    key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for key, value in {"id": name.encode(), "audio": data}.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return folder


def embed(folder, output, model, *flags):
    return jobs.run(*jobs.EMBED, "--input", folder, "--output", output, "--model", model, *flags)


def read(output):
    """Rows by the stem of their document's name."""
    blocks = [pa.Table.from_batches([block]) for block in open_output(str(output)).rows()]
    rows = pa.concat_tables(blocks).to_pylist()
    return {(Path(row["doc_id"].partition("#")[0]).stem, row.get("chunk")): row for row in rows}


SOUND = ["--model-output=output_1", "--window-seconds=2", "--max-dead-letters=2"]


@pytest.fixture(scope="module")
def sound_rows(tmp_path_factory, sound_model):
    """Rows of chunks of a folder of files."""
    folder = tmp_path_factory.mktemp("sounds")
    done = embed(
        write_recordings(folder / "in", "audio"),
        folder / "out",
        sound_model,
        *SOUND,
        "--long-documents=chunks",
        "--overlap-seconds=0.5",
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_folder_of_recordings_in_windows(sound_rows, cli):
    output, rows = sound_rows / "out", read(sound_rows / "out")
    dead = {letter["doc_id"]: letter["reason"] for letter in jobs.letters(output)}
    assert dead["bad.wav"].startswith("damaged audio: truncated: 9,000 bytes")
    assert dead["text.mp3"].startswith("not audio: ")
    assert len(dead) == 2
    spans = [(rows["s05", chunk]["start"], rows["s05", chunk]["end"]) for chunk in range(2)]
    assert spans == [(0.0, 2.0), (1.5, 3.0)]
    assert {stem for stem, _ in rows} == {f"s{i:02d}" for i in range(COUNT)}
    part = next(output.glob("part-*.parquet"))
    assert pq.read_schema(part).field("start").type == pa.float64()
    code, text, err = cli("verify", output)
    assert (code, err) == (0, ""), text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("parquet", ["--id-field=id", "--output-format=tfrecord"]),
        ("tar", []),
        ("tfrecord", ["--id-field=id"]),
    ],
)
def test_recordings_of_every_format_have_the_same_rows(tmp_path, sound_rows, sound_model, kind, flags):
    output = tmp_path / "out"
    done = embed(
        write_recordings(tmp_path / "in", kind),
        output,
        sound_model,
        *SOUND,
        *flags,
        "--long-documents=chunks",
        "--overlap-seconds=0.5",
    )
    assert done.returncode == 0, done.stderr
    expected, found = read(sound_rows / "out"), read(output)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        assert np.abs(np.array(row["embedding"]) - expected[key]["embedding"]).max() < 1e-5
        assert row["fingerprint"] == expected[key]["fingerprint"]
        assert (row["start"], row["end"]) == pytest.approx((expected[key]["start"], expected[key]["end"]))
    assert len(jobs.letters(output)) == 2


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("kind", ["recordings", "tables"])
def test_a_killed_job_ends_with_the_same_bytes(tmp_path, kind, request):
    folder = tmp_path / "in"
    if kind == "recordings":
        model, flags = request.getfixturevalue("sound_model"), [*SOUND, "--shard-bytes=200000"]
        write_recordings(folder, "audio")
    else:
        model, flags = request.getfixturevalue("table_model"), ["--id-field=id", "--shard-bytes=1000"]
        tables.write(folder / "t", tables.rows(60), "jsonl")
    assert embed(folder, tmp_path / "whole", model, *flags).returncode == 0
    command = ["embed", "--input", folder, "--output", tmp_path / "out", "--model", model, *flags]
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, "after rename part", 2, *command)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert embed(folder, tmp_path / "out", model, *flags).returncode == 0
    assert len(jobs.files(tmp_path / "whole")) > 3
    assert jobs.files(tmp_path / "out") == jobs.files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "tfrecord"])
def test_tables_of_every_format_have_the_models_own_vectors(tmp_path, table_model, kind):
    table = tables.rows(40)
    written = [row if i != 7 else row | {"age": None} for i, row in enumerate(table)]
    tables.write(tmp_path / "in" / "t", written, kind)
    sink = "tfrecord" if kind == "csv" else "parquet"
    flags = ["--id-field=id", "--max-dead-letters=1", f"--output-format={sink}"]
    done = embed(tmp_path / "in", tmp_path / "out", table_model, *flags)
    assert done.returncode == 0, done.stderr
    names = ("age", "income", "visits", "member", "city")
    loaded = tf.saved_model.load(table_model)
    function = loaded.signatures["serving_default"]
    specs = function.structured_input_signature[1]
    given = {name: tf.constant([[row[name]] for row in table], specs[name].dtype) for name in names}
    (expected,) = function(**given).values()
    rows = read(tmp_path / "out")
    assert len(rows) == 39
    for i, row in enumerate(table):
        if i != 7:
            assert np.abs(rows[row["id"], None]["embedding"] - expected[i].numpy()).max() < 1e-6
    (letter,) = jobs.letters(tmp_path / "out")
    missing = "missing field 'age'" if kind == "tfrecord" else "field 'age' is null"
    assert (letter["doc_id"], letter["reason"]) == ("r7", missing)


@pytest.mark.parametrize(
    ("record", "flags", "message"),
    [
        ({"age": "old"}, [], "field 'age' does not fit float32: 'old'"),
        ({"years": 3}, [], "missing field 'age'"),
        ({"age": 3}, ["--column=age=height"], "--column age=height: no such feature"),
    ],
)
def test_columns_that_do_not_fit_are_told_before_a_worker_starts(
    tmp_path, table_model, cli, record, flags, message
):
    (tmp_path / "in.jsonl").write_text(json.dumps(record) + "\n")
    where = ["--input", tmp_path / "in.jsonl", "--output", tmp_path / "out"]
    code, _, err = cli("embed", *where, "--model", table_model, *flags)
    assert code == 2
    assert message in err
    assert "age: float32" in err  # what the model takes
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_parquet_column_of_another_type_is_told_with_both(tmp_path, table_model, cli):
    table = pa.Table.from_pylist(tables.rows(3)).drop_columns(["age"])
    pq.write_table(table.append_column("age", pa.array(["1", "2", "3"])), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out"]
    code, _, err = cli("embed", *where, "--model", table_model)
    assert code == 2
    assert "column 'age' is string, and the model's feature 'age' is float32" in err


def test_a_model_of_sound_takes_no_texts(tmp_path, sound_model, corpus, cli):
    where = ["--input", corpus, "--output", tmp_path / "out", "--model", sound_model]
    code, _, err = cli("embed", *where, "--model-output=output_1")
    assert code == 2
    assert "jsonl files hold no bytes, and so no documents of --modality audio" in err


def test_inspect_shows_rate_window_and_columns(sound_model, table_model, cli):
    code, out, _ = cli("inspect", sound_model, "--model-output=output_1", "--window-seconds=2")
    assert code == 0
    assert "waveform: float32 [n]; 16,000 samples a second, windows of 2.000 s" in out
    code, out, _ = cli("inspect", table_model, "--column=years=age")
    assert code == 0
    assert "age: float32 (column 'years'), city: string" in out
