"""The whole job: every input format to both output formats, opened with the tools people use."""

import bz2
import gzip
import json
import lzma
import os

import duckdb
import jobs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import pipeline
from transforms import observer
from transforms.observer import MiniBatchBegun

TEXTS = ["one", "zwei Wörter", "a longer text of some words", "絵文字 😀", "the last"]


def write_input(folder, kind):
    """Writes TEXTS in a format; returns (format, options, [(doc_id, source, position, n)])."""
    kind, _, codec = kind.partition(".")
    records = [{"text": text, "n": i} for i, text in enumerate(TEXTS)]
    if kind == "txt":
        for i, text in enumerate(TEXTS):
            (folder / f"{i}.txt").write_text(text)
        return [(f"{i}.txt", f"{i}.txt", 0, None) for i in range(len(TEXTS))]
    name = f"f.{kind}"
    if kind in ("lines", "jsonl"):
        lines = TEXTS if kind == "lines" else [json.dumps(r, ensure_ascii=False) for r in records]
        data = "\n".join(lines).encode()
        sizes = [len(line.encode()) + 1 for line in lines]
        places = [sum(sizes[:i]) for i in range(len(lines))]
        numbers = [None] * 5 if kind == "lines" else range(5)
    else:
        places, numbers = range(5), range(5)
    if kind in ("csv", "tsv"):
        comma = "," if kind == "csv" else "\t"
        data = "".join(
            f'"{text}"{comma}{n}\r\n' for text, n in [("text", "n"), *zip(TEXTS, range(5), strict=True)]
        )
        data, numbers = data.encode(), [str(i) for i in range(5)]
    elif kind == "parquet":
        pq.write_table(pa.table({"text": TEXTS, "n": pa.array(range(5), pa.int16())}), folder / name)
    elif kind == "tfrecord":
        import tensorflow as tf

        def example(i):
            text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[TEXTS[i].encode()]))
            n = tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))
            return tf.train.Example(features=tf.train.Features(feature={"text": text, "n": n}))

        with tf.io.TFRecordWriter(str(folder / name), "GZIP" if codec else "") as writer:
            for i in range(5):
                writer.write(example(i).SerializeToString())
        name = f"{name}.{codec}" if codec else name
        if codec:
            os.rename(folder / f"f.{kind}", folder / name)
    if kind not in ("parquet", "tfrecord"):
        compress = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[codec]
        name = f"{name}.{codec}" if codec else name
        (folder / name).write_bytes(compress(data))
    return [(f"{name}:{p}", name, p, n) for p, n in zip(places, numbers, strict=True)]


@pytest.fixture(scope="module")
def vectors():
    return [jobs.expected_vector(text) for text in TEXTS]


def keep_of(kind):
    """Plain text has no fields that could be kept."""
    return [] if kind.partition(".")[0] in ("lines", "txt") else ["n"]


def expected_rows(places, kind, out):
    return [
        {
            "doc_id": doc_id,
            "tokens": len(text.split()),
            "tokens_dropped": 0,
            "source": source,
            "position": position,
            "fingerprint": jobs.fingerprint(out, text),
            "text": text,
            **dict.fromkeys(keep_of(kind), n),
        }
        for text, (doc_id, source, position, n) in zip(TEXTS, places, strict=True)
    ]


FORMATS = ["lines", "txt", "jsonl", "csv", "tsv", "parquet", "tfrecord"]
COMPRESSED = ["lines.gz", "jsonl.bz2", "csv.xz", "tfrecord.gz"]


@pytest.mark.parametrize("kind", FORMATS + COMPRESSED)
def test_to_parquet(tmp_path, model, vectors, kind):
    (tmp_path / "in").mkdir()
    places = write_input(tmp_path / "in", kind)
    out = tmp_path / "out"
    keep = keep_of(kind)
    pipeline.embed(input=f"{tmp_path}/in", output=str(out), model=model, keep_text=True, keep_field=keep)
    table = ds.dataset(str(out), format="parquet").to_table()
    found = table.to_pylist()
    np.testing.assert_allclose([row.pop("embedding") for row in found], vectors, atol=1e-6)
    assert found == expected_rows(places, kind, out)
    names = ["doc_id", "embedding", "tokens", "tokens_dropped", "source", "position", "fingerprint", "text"]
    assert table.schema.names == names + keep
    types = {"parquet": pa.int16(), "jsonl": pa.int64(), "tfrecord": pa.int64()}
    if keep:
        assert table.schema.field("n").type == types.get(kind.partition(".")[0], pa.string())
    assert table.schema.field("embedding").type == pa.list_(pa.field("item", pa.float32(), nullable=False), 8)


@pytest.mark.parametrize("kind", FORMATS)
def test_to_tfrecord(tmp_path, model, vectors, kind):
    import tensorflow as tf

    (tmp_path / "in").mkdir()
    places = write_input(tmp_path / "in", kind)
    out = str(tmp_path / "out")
    gzipped = kind in ("jsonl", "tfrecord")
    result = pipeline.embed(
        input=f"{tmp_path}/in",
        output=out,
        model=model,
        keep_text=True,
        keep_field=keep_of(kind),
        output_format="tfrecord",
        tfrecord_gzip=gzipped,
    )
    dataset = tf.data.TFRecordDataset(tf.io.gfile.glob(f"{out}/part-*"), "GZIP" if gzipped else "")
    spec = pipeline.feature_spec(out)
    parsed = {
        k: v.numpy()
        for k, v in next(iter(dataset.batch(10).map(lambda x: tf.io.parse_example(x, spec)))).items()
    }
    np.testing.assert_allclose(parsed.pop("embedding"), vectors, atol=1e-6)
    found = [dict(zip(parsed, values, strict=True)) for values in zip(*parsed.values(), strict=True)]
    prints = [row.pop("fingerprint") for row in found]
    found = [{k: v.decode() if isinstance(v, bytes) else int(v) for k, v in row.items()} for row in found]
    found = [row | {"fingerprint": one} for row, one in zip(found, prints, strict=True)]
    assert found == expected_rows(places, kind, out)
    assert result.feature_spec["embedding"] == {"dtype": "float32", "shape": [8]}


def test_the_line_that_opens_tfrecords(tmp_path, model, cli):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(4))
    flags = [f"--input={tmp_path}/a.jsonl", f"--output={tmp_path}/out", f"--model={model}"]
    code, out, err = cli(
        "embed", *flags, "--output-format=tfrecord", "--vector-dtype=float16", "--tfrecord-gzip"
    )
    assert (code, err) == (0, "")
    found = {}
    exec(out.splitlines()[-1].removeprefix("open it: "), found)
    assert [len(block["doc_id"]) for block in found["ds"]] == [4]
    assert cli("verify", tmp_path / "out")[0] == 0


def test_opens_in_every_tool(finished):
    expected = {row["doc_id"]: row["embedding"] for row in jobs.rows(finished)}
    frame = pd.read_parquet(finished)
    opened = {
        "pandas": dict(zip(frame["doc_id"], map(list, frame["embedding"]), strict=True)),
        "duckdb": dict(duckdb.sql(f"select doc_id, embedding from '{finished}/*.parquet'").fetchall()),
        "polars": dict(pl.read_parquet(f"{finished}/*.parquet").select("doc_id", "embedding").iter_rows()),
    }
    for tool, found in opened.items():
        assert found.keys() == expected.keys(), tool
        assert {k: list(v) for k, v in found.items()} == expected, tool


def test_corpus_rows_are_exact(finished):
    """Every good document of the corpus is one row, with what was asked for, in input order within a part."""
    good = [
        (f"{name}{i}", f"text {name} {i} " + "word " * (i % 25), i)
        for name in "abc"
        for i in range(100)
        if i not in (7, 11, 13)
    ]
    found = jobs.rows(finished)
    assert [(r["doc_id"], r["text"], r["n"]) for r in found] == sorted(good)
    assert [(r["tokens"], r["tokens_dropped"]) for r in found] == [
        (3 + n % 25, 0) for _, _, n in sorted(good)
    ]
    for part in finished.glob("*.parquet"):
        order = pq.read_table(part, columns=["source", "position"]).to_pylist()
        assert order == sorted(order, key=lambda row: (row["source"], row["position"]))
    short = [row for row in found if row["tokens"] <= 16][:5]
    np.testing.assert_allclose(
        [r["embedding"] for r in short], [jobs.expected_vector(r["text"]) for r in short], atol=1e-6
    )
    norms = np.linalg.norm([row["embedding"] for row in found], axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_float16(tmp_path, model, vectors):
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    for output_format in ("parquet", "tfrecord"):
        out = tmp_path / output_format
        options = {"output_format": output_format, "vector_dtype": "float16", "model": model}
        assert pipeline.embed(input=f"{tmp_path}/a.jsonl", output=str(out), **options).dtype == "float16"
    table = ds.dataset(f"{tmp_path}/parquet", format="parquet").to_table()
    assert table.schema.field("embedding").type.value_type == pa.float16()
    expected = np.array(vectors).astype(np.float16)
    found = np.stack(table["embedding"].combine_chunks().to_numpy(zero_copy_only=False))
    np.testing.assert_array_equal(found.astype(np.float16), expected)


def test_truncate(tmp_path, model):
    words = [f"w{i}" for i in range(40)]
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"text": " ".join(words)}, {"text": "short one"}])
    result = pipeline.embed(
        input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out", model=model, long_documents="truncate"
    )
    assert [(r["tokens"], r["tokens_dropped"]) for r in jobs.rows(tmp_path / "out")] == [(40, 24), (2, 0)]
    assert (result.tokens, result.tokens_dropped, result.rows) == (42, 24, 2)


def test_chunks(tmp_path, model):
    text = " ".join(f"w{i}" for i in range(40))
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"id": "long", "text": text}, {"id": "short", "text": "one"}])
    result = pipeline.embed(
        input=f"{tmp_path}/a.jsonl",
        output=f"{tmp_path}/out",
        model=model,
        id_field="id",
        long_documents="chunks",
        chunk_overlap=4,
        keep_text=True,
    )
    *long, short = ds.dataset(f"{tmp_path}/out", format="parquet").to_table().to_pylist()
    assert [row["chunk"] for row in long] == [0, 1, 2]
    assert [text[row["start"] : row["end"]].split()[0] for row in long] == ["w0", "w12", "w24"]
    assert [len(text[row["start"] : row["end"]].split()) for row in long] == [16, 16, 16]
    assert [row["tokens"] for row in long] == [16, 16, 16]
    assert [row["text"] for row in long] == [text[row["start"] : row["end"]] for row in long]
    for row in long:
        np.testing.assert_allclose(row["embedding"], jobs.expected_vector(row["text"]), atol=1e-6)
    assert (short["doc_id"], short["chunk"], short["start"], short["end"]) == ("short", 0, 0, 3)
    assert (result.documents, result.rows) == (2, 4)


def test_a_model_that_cannot_count(tmp_path, save_model):
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"text": "some words"}, {"text": "one"}])
    plain = save_model(counts=False, window=None)
    result = pipeline.embed(input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out", model=plain)
    assert [(r["tokens"], r["tokens_dropped"]) for r in jobs.rows(tmp_path / "out")] == [(None, None)] * 2
    assert (result.tokens, result.tokens_dropped) == (None, None)


def test_nested_and_null_kept_fields(tmp_path, model):
    records = [
        {"text": "a", "tags": ["x", "é"], "f": 1.5, "b": True, "i": 3, "s": None},
        {"text": "b", "tags": {"k": [1, None]}, "f": 2, "b": False},
        {"text": "c", "tags": None, "f": None, "i": -1, "s": "s"},
    ]
    jobs.write_jsonl(tmp_path / "a.jsonl", records)
    fields = ["tags", "f", "b", "i", "s"]
    pipeline.embed(input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out", model=model, keep_field=fields)
    table = ds.dataset(f"{tmp_path}/out", format="parquet").to_table()
    assert [str(table.schema.field(f).type) for f in fields] == [
        "string",
        "double",
        "bool",
        "int64",
        "string",
    ]
    assert table.select(fields).to_pylist() == [
        {"tags": '["x","é"]', "f": 1.5, "b": True, "i": 3, "s": None},
        {"tags": '{"k":[1,null]}', "f": 2.0, "b": False, "i": None, "s": None},
        {"tags": None, "f": None, "b": None, "i": -1, "s": "s"},
    ]


def test_one_mini_batch_holds_many_files(tmp_path, model):
    begun = []
    end = observer.observe(lambda event: begun.append(event) if isinstance(event, MiniBatchBegun) else None)
    (tmp_path / "in").mkdir()
    for i in range(2000):
        (tmp_path / "in" / f"{i}.txt").write_text(f"note {i}")
    pipeline.embed(input=f"{tmp_path}/in", output=f"{tmp_path}/out", model=model)
    end()
    assert {r["doc_id"] for r in jobs.rows(tmp_path / "out")} == {f"{i}.txt" for i in range(2000)}
    assert 1 <= len(begun) <= 6  # 4,000 tokens in mini-batches of 1,000
